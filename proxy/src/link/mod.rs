//! The long-lived connections to the replicas of the service: one to each that the directory names.

mod dispatch;
pub(crate) mod outbox;
mod session;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::directory::{Directory, Replica};
use bivouac_protocol::BootId;
use rand::Rng;
use secrecy::SecretString;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::activity::table::Table;
use crate::lift::Lifter;
use crate::membership::Membership;
use crate::routes::Routes;
use crate::routes::resolve::Resolver;
use session::LinkError;

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
    pub(crate) secret: SecretString,
    /// Whether, and as which boot, this proxy is a member.
    pub(crate) membership: watch::Receiver<Membership>,
    /// A replica has heard this proxy's goodbye.
    pub(crate) farewell: Notify,
}

/// Keeps a link to every replica, for ever.
pub(crate) async fn keep(parts: Arc<Parts>, directory: Arc<dyn Directory>) {
    let mut membership = parts.membership.clone();
    let mut linked: HashSet<Replica> = HashSet::new();
    let mut links: JoinSet<Ended> = JoinSet::new();
    loop {
        // A proxy that is no member has nothing to say.
        let Ok(boot) =
            membership.wait_for(|membership| membership.boot().is_some()).await.map(|m| m.boot().cloned())
        else {
            return;
        };
        for replica in replicas(&directory).await {
            if let Some(boot) = boot.clone()
                && linked.insert(replica.clone())
            {
                links.spawn(tend(parts.clone(), replica, boot));
            }
        }
        let poll = if parts.table.outbox.up() == 0 { POLL_ALONE } else { POLL };
        tokio::select! {
            Some(Ok(ended)) = links.join_next() => ended.forget(&mut linked).await,
            () = tokio::time::sleep(jittered(poll)) => {}
        }
    }
}

async fn replicas(directory: &Arc<dyn Directory>) -> Vec<Replica> {
    match tokio::time::timeout(ANSWER_WITHIN, directory.replicas()).await {
        Ok(Ok(replicas)) => replicas,
        Ok(Err(error)) => {
            tracing::debug!(%error, "The replicas of the service cannot be looked up at the moment.");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

/// Many proxies must not ask at the same moment.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.75..1.25))
}

/// A link that has ended.
struct Ended {
    replica: Replica,
    /// It was up: the replica may be back at once.
    was_up: bool,
}

impl Ended {
    async fn forget(self, linked: &mut HashSet<Replica>) {
        if !self.was_up {
            // It refuses connections, or the secret: not as fast as it can.
            tokio::time::sleep(jittered(POLL_ALONE)).await;
        }
        linked.remove(&self.replica);
    }
}

/// One link, from connecting until it is lost.
async fn tend(parts: Arc<Parts>, replica: Replica, boot: BootId) -> Ended {
    let (was_up, error) = session::run(&parts, &replica, &boot).await;
    parts.table.metrics.links_up(parts.table.outbox.up());
    match &error {
        LinkError::Refused(_) | LinkError::Secret | LinkError::Unexpected(_) => {
            tracing::warn!(replica = replica.id, address = %replica.address, %error, "A replica refuses the link.");
        }
        error if was_up => {
            tracing::info!(replica = replica.id, address = %replica.address, %error, "A link was lost.");
        }
        error => {
            tracing::debug!(replica = replica.id, address = %replica.address, %error, "A replica cannot be linked.");
        }
    }
    Ended { replica, was_up }
}

#[cfg(test)]
mod tests;
