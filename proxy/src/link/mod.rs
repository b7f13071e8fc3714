//! The long-lived connections to the replicas of the service: one to each address that the directory names, tended by a
//! task of its own, so that those that cannot be reached never keep the others waiting.

mod dispatch;
pub(crate) mod outbox;
mod session;
mod tending;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::directory::Directory;
use bivouac_protocol::proof::LinkSecrets;
use rand::Rng;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::access::Access;
use crate::activity::table::Table;
use crate::lift::Lifter;
use crate::membership::Membership;
use crate::routes::Routes;
use crate::routes::resolve::Resolver;
use tending::{Catalogue, tend};

/// How often the directory is asked for replicas, while there is a link.
const POLL: Duration = Duration::from_secs(1);
/// How often it is asked while there is none.
const POLL_ALONE: Duration = Duration::from_millis(200);
/// Longest wait for the directory's answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What links need.
pub(crate) struct Parts {
    pub(crate) table: Arc<Table>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) lifter: Arc<Lifter>,
    pub(crate) access: Arc<Access>,
    pub(crate) secrets: LinkSecrets,
    /// Whether, and as which boot, this proxy is a member.
    pub(crate) membership: watch::Receiver<Membership>,
    /// A replica has heard this proxy's goodbye.
    pub(crate) farewell: Notify,
}

/// Keeps a link to every replica, for ever.
pub(crate) async fn keep(parts: Arc<Parts>, directory: Arc<dyn Directory>) {
    let catalogue = watch::Sender::new(Catalogue::default());
    let mut tended: HashSet<SocketAddr> = HashSet::new();
    let mut links: JoinSet<SocketAddr> = JoinSet::new();
    loop {
        if let Some(named) = replicas(&directory).await {
            catalogue.send_if_modified(|known| {
                let changed = *known != named;
                *known = named;
                changed
            });
        }
        let named: Vec<SocketAddr> = catalogue.borrow().addresses().collect();
        for address in named {
            if tended.insert(address) {
                links.spawn(tend(parts.clone(), address, catalogue.subscribe()));
            }
        }
        let poll = if parts.table.outbox.up() == 0 { POLL_ALONE } else { POLL };
        tokio::select! {
            Some(Ok(address)) = links.join_next() => {
                tended.remove(&address);
            }
            () = tokio::time::sleep(jittered(poll)) => {}
        }
    }
}

/// What the directory names now; `None` while it does not answer: whoever was named is dialled all the same.
async fn replicas(directory: &Arc<dyn Directory>) -> Option<Catalogue> {
    match tokio::time::timeout(ANSWER_WITHIN, directory.replicas()).await {
        Ok(Ok(replicas)) => Some(replicas.into_iter().collect()),
        Ok(Err(error)) => {
            tracing::debug!(%error, "The replicas of the service cannot be looked up at the moment.");
            None
        }
        Err(_) => None,
    }
}

/// Many proxies must not ask at the same moment.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.75..1.25))
}

#[cfg(test)]
mod tests;
