//! The whole proxy: bound, joined, serving, drained.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bivouac_ledger::Ledger;
use bivouac_ledger::directory::Directory;
use bivouac_protocol::link::FromProxy;
use bivouac_protocol::proof::LinkSecrets;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::activity::clock::Clock;
use crate::activity::table::Table;
use crate::admin::{self, Admin};
use crate::admission::standing::Standing;
use crate::admission::{self, Admission};
use crate::hold::Holds;
use crate::lift::{Lifter, conclude};
use crate::link;
use crate::link::outbox::Outbox;
use crate::listener::{self, Gateway};
use crate::membership::{Identity, Keeper};
use crate::metrics::Metrics;
use crate::routes::Routes;
use crate::routes::backends::Backends;
use crate::routes::resolve::Resolver;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 4096;
/// Time that connections get to end once they are told to.
const CUT_WITHIN: Duration = Duration::from_secs(3);
/// Longest wait for a replica's farewell.
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);
const FAREWELL_POLL: Duration = Duration::from_millis(20);
/// Pause between two looks for what may be forgotten.
const SWEEP: Duration = Duration::from_secs(30);
/// Records read in one of them.
const READS_PER_SWEEP: usize = 100;

/// What a proxy needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where session traffic is accepted. Port 0: any.
    pub listen: SocketAddr,
    /// Where `/livez`, `/readyz` and `/metrics` are served. Port 0: any. Not for the public.
    pub admin: SocketAddr,
    /// Sessions live at `<id>.<domain>`.
    pub domain: String,
    /// Shared with the service.
    pub link_secrets: LinkSecrets,
    /// Kept from one start to the next, on one host: from it a proxy learns that an earlier one is dead.
    pub data_dir: PathBuf,
    /// Where backends may live.
    pub backends: Backends,
    /// Longest time that a request waits for its session.
    pub hold_timeout: Duration,
    /// Requests that may wait for one session.
    pub holds_per_session: usize,
    /// Requests that may wait in total.
    pub holds_total: usize,
    /// Longest time that open connections get when the proxy stops.
    pub drain_timeout: Duration,
    /// Its own Nomad allocation, where it runs as a job.
    pub allocation: Option<String>,
}

/// A proxy could not begin.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error("cannot use the data directory {}: {source}", path.display())]
    DataDir {
        /// Which directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A proxy that has joined the members and listens.
pub struct Proxy {
    listen: SocketAddr,
    admin: SocketAddr,
    listener: TcpListener,
    house: House,
    /// Ends with the proxy.
    background: JoinSet<()>,
    serving: Arc<AtomicBool>,
    draining: CancellationToken,
}

/// What its rooms share.
struct House {
    config: Config,
    admission: Admission,
    keeper: Arc<Keeper>,
    links: Arc<link::Parts>,
    directory: Arc<dyn Directory>,
}

impl Proxy {
    /// Binds both listeners and joins the members, *then* opens the one for session traffic: from the first
    /// connection on, this proxy's evidence counts. Waits for the ledger for as long as it takes; meanwhile the admin
    /// listener says so.
    ///
    /// # Errors
    /// When an address is taken or the data directory cannot be used.
    pub async fn bind(
        config: Config,
        ledger: Arc<dyn Ledger>,
        directory: Arc<dyn Directory>,
    ) -> Result<Self, BindError> {
        let (socket, listen) = reserve(config.listen).map_err(at(config.listen))?;
        let admin_listener = TcpListener::bind(config.admin).await.map_err(at(config.admin))?;
        let admin = admin_listener.local_addr().map_err(at(config.admin))?;
        let access = ledger.access();
        let house = House::new(config, listen, ledger, directory);
        let (serving, draining) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
        let shown = Admin {
            table: house.links.table.clone(),
            membership: house.keeper.watch(),
            access,
            serving: serving.clone(),
            draining: draining.clone(),
        };
        let mut background = JoinSet::new();
        background.spawn(async move {
            if let Err(error) = axum::serve(admin_listener, admin::router(shown)).await {
                tracing::error!(%error, "The admin listener has failed.");
            }
        });
        let data_dir = |source| BindError::DataDir { path: house.config.data_dir.clone(), source };
        house.keeper.join().await.map_err(data_dir)?;
        let listener = socket.listen(BACKLOG).map_err(at(listen))?;
        Ok(Self { listen, admin, listener, house, background, serving, draining })
    }

    /// Where session traffic is accepted.
    #[must_use]
    pub fn listen_addr(&self) -> SocketAddr {
        self.listen
    }

    /// Where the admin listener is.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// Cancelled when this proxy accepts nothing more: it stops, or an operator has it drained.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Serves until `shutdown`, then drains: accepts nothing more, lets requests end, gives connections the drain
    /// timeout, and says goodbye to the service if nothing is open.
    ///
    /// Where an operator has it drained it does the same, in no hurry: nothing is cut before `shutdown`. It stays, drained
    /// and no member any more, until then.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { listener, house, mut background, serving, draining, .. } = self;
        let table = house.links.table.clone();
        let keeper = house.keeper.clone();
        let keeping = background.spawn(async move { keeper.keep().await });
        let linking = background.spawn(link::keep(house.links.clone(), house.directory.clone()));
        background.spawn(async move { table.report_changes().await });
        background.spawn(sweep(house.links.clone()));

        let closing = shutdown.child_token();
        let (keeper, ordered) = (house.keeper.clone(), closing.clone());
        background.spawn(async move {
            keeper.told_to_drain().await;
            ordered.cancel();
        });

        let tracker = TaskTracker::new();
        let gateway = Gateway::new(house.admission.clone(), &house.config.domain, closing, tracker.clone());
        serving.store(true, Ordering::Relaxed);
        listener::serve(listener, Arc::new(gateway)).await;
        draining.cancel();
        house.drain(&tracker, &shutdown).await;
        // From here on this boot's absence from the members is what is wanted.
        keeping.abort();
        house.goodbye().await;
        linking.abort();
        if !shutdown.is_cancelled() {
            tracing::info!("The proxy is drained, and stays so until it is started again.");
            shutdown.cancelled().await;
        }
    }
}

impl House {
    fn new(
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
        let lifter = Arc::new(Lifter::new(table.clone(), routes.clone(), ledger));
        let admission = Admission::new(admission::Parts {
            lifter: lifter.clone(),
            table: table.clone(),
            routes: routes.clone(),
            resolver: resolver.clone(),
            holds: Holds::new(config.holds_total, config.holds_per_session, metrics),
            membership: keeper.watch(),
            hold_timeout: config.hold_timeout,
        });
        let links = Arc::new(link::Parts {
            lifter,
            table,
            routes,
            resolver,
            secrets: config.link_secrets.clone(),
            membership: keeper.watch(),
            farewell: Notify::new(),
        });
        Self { config, admission, keeper, links, directory }
    }

    /// Lets what is open end by itself: for a while, once the proxy is to stop.
    async fn drain(&self, connections: &TaskTracker, shutdown: &CancellationToken) {
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
    async fn goodbye(&self) {
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
                tokio::time::sleep(FAREWELL_POLL).await;
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
async fn sweep(parts: Arc<link::Parts>) {
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

/// Binds without listening: nobody can connect yet.
fn reserve(address: SocketAddr) -> io::Result<(TcpSocket, SocketAddr)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let bound = socket.local_addr()?;
    Ok((socket, bound))
}

fn at(address: SocketAddr) -> impl Fn(io::Error) -> BindError {
    move |source| BindError::Listen { address, source }
}

#[cfg(test)]
mod tests;
