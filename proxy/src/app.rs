//! The whole proxy: bound, joined, serving, drained.

mod house;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bivouac_ledger::Ledger;
use bivouac_ledger::directory::Directory;
use bivouac_protocol::proof::LinkSecrets;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Admin};
use crate::link;
use crate::listener::{self, Gateway};
use crate::routes::backends::Backends;
use house::{House, sweep};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 4096;

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
        let reported = table.clone();
        background.spawn(async move { reported.report_changes().await });
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
        // What ended with that task is no link any more, and whoever looks at a drained proxy is told so.
        table.outbox.close_all();
        table.metrics.links_up(0);
        if !shutdown.is_cancelled() {
            tracing::info!("The proxy is drained, and stays so until it is started again.");
            shutdown.cancelled().await;
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
