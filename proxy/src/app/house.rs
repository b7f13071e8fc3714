//! The rooms of a proxy, put together, kept tidy, and left in the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::Ledger;
use bivouac_ledger::directory::Directory;
use bivouac_protocol::link::FromProxy;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Config;
use crate::access::{self, Access};
use crate::activity::clock::Clock;
use crate::activity::table::Table;
use crate::admission::standing::Standing;
use crate::admission::{self, Admission};
use crate::hold::Holds;
use crate::lift::{Lifter, conclude};
use crate::link;
use crate::link::outbox::Outbox;
use crate::membership::{Identity, Keeper};
use crate::metrics::Metrics;
use crate::routes::Routes;
use crate::routes::resolve::Resolver;

/// Time that connections get to end once they are told to.
const CUT_WITHIN: Duration = Duration::from_secs(3);
/// Longest wait for a first link, before connections are taken over.
const SETTLED_WITHIN: Duration = Duration::from_secs(3);
/// Longest wait for a replica's farewell.
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);
/// Pause between two looks for what may be forgotten.
const SWEEP: Duration = Duration::from_secs(30);
/// Records read in one of them.
const READS_PER_SWEEP: usize = 100;

/// What its rooms share.
pub(super) struct House {
    pub(super) config: Config,
    pub(super) admission: Admission,
    pub(super) keeper: Arc<Keeper>,
    pub(super) links: Arc<link::Parts>,
    pub(super) directory: Arc<dyn Directory>,
}

impl House {
    pub(super) fn new(
        config: Config,
        listen: SocketAddr,
        ledger: Arc<dyn Ledger>,
        directory: Arc<dyn Directory>,
    ) -> Self {
        let (metrics, ledger) = Metrics::measuring(ledger);
        let table = Table::new(Clock::Boot, Arc::new(Outbox::default()), metrics.clone());
        let routes = Arc::new(Routes::new(table.clone(), config.backends.clone()));
        let resolver = Arc::new(Resolver::new(table.clone(), ledger.clone(), directory.clone()));
        let identity = Identity {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            listen: listen.to_string(),
            allocation: config.allocation.clone(),
            boots: config.data_dir.join("boots"),
        };
        let keeper = Arc::new(Keeper::new(ledger.clone(), identity, table.clone()));
        let access = Arc::new(Access::new(access::Parts {
            table: table.clone(),
            resolver: resolver.clone(),
            ledger: ledger.clone(),
            secrets: config.link_secrets.clone(),
            allowed_origins: config.edge.allowed_origins.clone(),
        }));
        let lifter = Arc::new(Lifter::new(table.clone(), routes.clone(), ledger));
        let admission = Admission::new(admission::Parts {
            lifter: lifter.clone(),
            table: table.clone(),
            routes: routes.clone(),
            resolver: resolver.clone(),
            holds: Holds::new(config.holds_total, config.holds_per_session, metrics),
            membership: keeper.watch(),
            access: access.clone(),
            hold_timeout: config.hold_timeout,
        });
        let links = Arc::new(link::Parts {
            lifter,
            table,
            routes,
            resolver,
            access,
            secrets: config.link_secrets.clone(),
            membership: keeper.watch(),
            farewell: Notify::new(),
        });
        Self { config, admission, keeper, links, directory }
    }

    /// Waits until this proxy knows what a service knows, for a moment: sessions are served from the ledger without.
    pub(super) async fn settles(&self) {
        let linked = async {
            while self.links.table.outbox.up() == 0 {
                tokio::time::sleep(POLL).await;
            }
        };
        let _ = timeout(SETTLED_WITHIN, linked).await;
    }

    /// Lets what is open end by itself: for a while, once the proxy is to stop.
    pub(super) async fn drain(&self, connections: &TaskTracker, shutdown: &CancellationToken) {
        connections.close();
        let patience = async {
            shutdown.cancelled().await;
            tokio::time::sleep(self.config.drain_timeout).await;
        };
        let ended = tokio::select! {
            biased;
            () = connections.wait() => true,
            () = patience => false,
        };
        if !ended {
            tracing::info!(
                connections = connections.len(),
                "The drain timeout is over: open connections are cut."
            );
            self.admission.close();
            self.admission.cut_all();
            let _ = timeout(CUT_WITHIN, connections.wait()).await;
        }
        self.admission.close();
    }

    /// Leaves the members, if nothing is open here: whoever was served keeps its session as if it had been used now.
    pub(super) async fn goodbye(&self) {
        let table = &self.links.table;
        let open = table.open();
        if open > 0 {
            // The lock of this boot is freed with the process: the next one on this host removes it.
            tracing::warn!(
                open,
                "The proxy ends with open connections; it stays a member until it is removed."
            );
            return;
        }
        table.outbox.broadcast(&FromProxy::Goodbye);
        let unlinked = async {
            while table.outbox.up() > 0 {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::select! {
            () = self.links.farewell.notified() => {}
            // Nobody is there to hear it, or to answer.
            () = unlinked => {}
            () = tokio::time::sleep(FAREWELL_WITHIN) => {}
        }
        self.keeper.leave().await;
    }
}

/// Forgets what is over. Of sessions that were used here and have no route any more, the record says what became.
pub(super) async fn sweep(parts: Arc<link::Parts>) {
    let mut turn = 0;
    loop {
        tokio::time::sleep(SWEEP).await;
        let mut unrouted = parts.table.sweep();
        // Each time from another place on: the order stays, and those in front may stay too.
        turn = (turn + READS_PER_SWEEP) % unrouted.len().max(1);
        unrouted.rotate_left(turn);
        for session in unrouted.into_iter().take(READS_PER_SWEEP) {
            let Some(used) = parts.table.peek(&session, |_, state| state.used).flatten() else { continue };
            if let Ok(record) = parts.resolver.record_apart(&session).await {
                conclude(&parts.routes, &session, used, &Standing::of(record.as_ref()));
            }
        }
    }
}
