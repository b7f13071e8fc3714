//! The whole proxy: bound, joined, serving, drained.

mod doors;
mod house;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bivouac_ledger::Ledger;
use bivouac_ledger::directory::Directory;
use bivouac_protocol::proof::LinkSecrets;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Admin;
use crate::handover::Predecessor;
use crate::link;
use crate::listener::{self, CertificateError, Gateway};
use crate::log::Log;
use crate::options::Edge;
use crate::routes::backends::Backends;
use doors::{Addresses, Bound, Doors};
use house::{House, sweep};

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
    /// How it meets the world outside.
    pub edge: Edge,
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
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(rustls::Error),
    /// The access log cannot be written.
    #[error("cannot write the access log {}: {source}", path.display())]
    AccessLog {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Whoever serves from the same data directory does not hand over.
    #[error("the proxy that serves from this data directory does not hand over: {0}")]
    TakeOver(io::Error),
}

/// A proxy that has joined the members and listens.
pub struct Proxy {
    house: House,
    doors: Doors,
    /// Serves until this one does.
    predecessor: Option<Predecessor>,
    log: Log,
    /// Ends with the proxy.
    background: JoinSet<()>,
    serving: CancellationToken,
    draining: CancellationToken,
}

impl Proxy {
    /// Binds the listeners and joins the members, *then* opens those for session traffic: from the first connection on,
    /// this proxy's evidence counts. Waits for the ledger for as long as it takes; meanwhile the admin listener says so.
    ///
    /// Where it takes over from another proxy, that one goes on serving all of them until [`Proxy::run`].
    ///
    /// # Errors
    /// When an address is taken, or the data directory, the certificate or the access log cannot be used.
    pub async fn bind(
        config: Config,
        ledger: Arc<dyn Ledger>,
        directory: Arc<dyn Directory>,
    ) -> Result<Self, BindError> {
        let Bound { reservations, certificate, predecessor } = doors::bind(&config).await?;
        let access = ledger.access();
        let house = House::new(config, reservations.addresses().plain, ledger, directory);
        let metrics = house.admission.metrics().clone();
        let log = match &house.config.edge.access_log {
            Some(path) => Log::to(path, &metrics)
                .map_err(|source| BindError::AccessLog { path: path.clone(), source })?,
            None => Log::default(),
        };
        let mut background = JoinSet::new();
        if let Some(certificate) = certificate {
            background.spawn(certificate.follow(metrics));
        }
        let (serving, draining) = (CancellationToken::new(), CancellationToken::new());
        let mut office = reservations.office(Admin {
            table: house.links.table.clone(),
            membership: house.keeper.watch(),
            access,
            entrance: house.admission.access().clone(),
            serving: serving.clone(),
            draining: draining.clone(),
        });
        if predecessor.is_none() {
            office.open();
        }
        let data_dir = |source| BindError::DataDir { path: house.config.data_dir.clone(), source };
        house.keeper.join().await.map_err(data_dir)?;
        house.admission.access().learn().await;
        let doors = reservations.listen(office)?;
        Ok(Self { house, doors, predecessor, log, background, serving, draining })
    }

    fn addresses(&self) -> Addresses {
        self.doors.addresses()
    }

    /// Where session traffic is accepted.
    #[must_use]
    pub fn listen_addr(&self) -> SocketAddr {
        self.addresses().plain
    }

    /// Where session traffic is accepted with TLS.
    #[must_use]
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.addresses().tls
    }

    /// Where the admin listener is.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.addresses().admin
    }

    /// Cancelled once connections are accepted.
    #[must_use]
    pub fn serving(&self) -> CancellationToken {
        self.serving.clone()
    }

    /// Cancelled when this proxy is about to accept nothing more: it stops, another one has taken over, or an operator has
    /// it drained.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Serves until `shutdown`, or until another proxy has taken over, then drains: says that it is not ready, waits for the
    /// drain delay, accepts nothing more, lets requests end, gives connections the drain timeout, and says goodbye to the
    /// service if nothing is open.
    ///
    /// Where an operator has it drained it does the same, in no hurry: nothing is cut before `shutdown`. It stays, drained
    /// and no member any more, until then.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { house, mut doors, predecessor, log, mut background, serving, draining } = self;
        let table = house.links.table.clone();
        let keeper = house.keeper.clone();
        let keeping = background.spawn(async move { keeper.keep().await });
        let linking = background.spawn(link::keep(house.links.clone(), house.directory.clone()));
        let reported = table.clone();
        background.spawn(async move { reported.report_changes().await });
        background.spawn(sweep(house.links.clone()));
        let access = house.admission.access().clone();
        background.spawn(async move { access.follow().await });

        let (closing, tracker) = (CancellationToken::new(), TaskTracker::new());
        let gateway =
            Gateway::new(house.admission.clone(), &house.config.domain, closing.clone(), tracker.clone());
        let gateway = Arc::new(gateway.at(&house.config.edge, log));
        background.spawn(listener::sweep(gateway.clone()));

        let leaving = shutdown.child_token();
        let ends = serve(&house, &mut doors, predecessor, &gateway, &serving, &leaving).await;
        draining.cancel();
        let _office = match ends {
            Ends::Leaving => {
                tokio::time::sleep(house.config.edge.drain_delay).await;
                doors.close(&gateway).await;
                Some(doors)
            }
            Ends::Succeeded => {
                tracing::info!("Another proxy has taken over; this one drains.");
                gateway.closing.successor.store(true, Ordering::Relaxed);
                leaving.cancel();
                // Were these sockets still open here, nobody would be refused if the other one died.
                drop(doors);
                None
            }
        };
        closing.cancel();
        let told = if ends == Ends::Succeeded { &leaving } else { &shutdown };
        house.drain(&tracker, told).await;
        // From here on this boot's absence from the members is what is wanted.
        keeping.abort();
        house.goodbye().await;
        linking.abort();
        // What ended with that task is no link any more, and whoever looks at a drained proxy is told so.
        table.outbox.close_all();
        table.metrics.links_up(0);
        if !told.is_cancelled() {
            tracing::info!("The proxy is drained, and stays so until it is started again.");
            shutdown.cancelled().await;
        }
    }
}

/// Why a proxy accepts nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// It is told to stop, or to drain.
    Leaving,
    /// Another one accepts in its place.
    Succeeded,
}

/// Accepts connections for as long as it is this proxy's turn.
async fn serve(
    house: &House,
    doors: &mut Doors,
    predecessor: Option<Predecessor>,
    gateway: &Arc<Gateway>,
    serving: &CancellationToken,
    leaving: &CancellationToken,
) -> Ends {
    if let Some(mut predecessor) = predecessor {
        let taking_over = async {
            house.settles().await;
            predecessor.gives_way().await;
        };
        if leaving.run_until_cancelled(taking_over).await.is_none() {
            return Ends::Leaving;
        }
        doors.open(gateway);
        predecessor.relieve().await;
    } else {
        doors.open(gateway);
    }
    serving.cancel();
    let taken_over = async {
        if house.config.edge.hand_over {
            doors.are_taken_over(&house.config.data_dir, gateway).await;
        } else {
            std::future::pending().await
        }
    };
    tokio::select! {
        biased;
        () = leaving.cancelled() => Ends::Leaving,
        () = house.keeper.told_to_drain() => Ends::Leaving,
        () = taken_over => Ends::Succeeded,
    }
}

fn at(address: SocketAddr) -> impl Fn(io::Error) -> BindError {
    move |source| BindError::Listen { address, source }
}

#[cfg(test)]
mod tests;
