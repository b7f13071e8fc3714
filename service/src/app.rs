//! The composition of the control plane: binds its listeners, builds its rooms, runs them, and drains in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderValue;
use axum::routing::get;
use axum::serve::ListenerExt;
use bivouac_ledger::Ledger;
use bivouac_ledger::measured::Measured;
use bivouac_ledger::members::Members;
use bivouac_protocol::Nonce;
use bivouac_protocol::proof::LinkSecrets;
use prometheus_client::registry::Registry;
use rustix::net::sockopt;
use secrecy::SecretString;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::api::{self, Bootstrap, Control, Followers, Perimeter, Tokens};
use crate::backend::Backend;
use crate::link::{self, Links};
use crate::metrics::{self, Metrics, Shown};
use crate::session::{Prober, SessionService, Settings};
use crate::spec::Templates;
use crate::spec::template::jobspec::JobParser;
use crate::tickets::{Issuer, TicketSecrets};

/// Longest wait for requests that are being answered when the service stops.
const DRAIN: Duration = Duration::from_secs(10);
/// Silence of a connection after which the kernel asks, and between two such questions.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// All that a service needs to know.
pub struct Config {
    /// Where the API is served. Port 0: any.
    pub api: SocketAddr,
    /// Where proxies link. Port 0: any. Not for the public.
    pub internal: SocketAddr,
    /// Host names, besides the loopback's and the bound address, under which the API may be called.
    pub allow_hosts: Vec<String>,
    /// Origins whose pages may call the API.
    pub allow_origins: Vec<HeaderValue>,
    /// Tokens that open everything; others are made through the API.
    pub tokens: Bootstrap,
    /// Ids of keyed sessions follow from it; never rotated.
    pub cluster_secret: SecretString,
    /// Shared with the proxies.
    pub link_secrets: LinkSecrets,
    /// What ticket keys follow from.
    pub ticket_secrets: TicketSecrets,
    /// What can be spawned.
    pub templates: Arc<Templates>,
    /// Parses the templates' jobs, where sessions run on Nomad.
    pub parser: Option<Arc<dyn JobParser>>,
    /// The rules of sessions.
    pub sessions: Settings,
}

/// Why a service could not be started.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A listener cannot be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The HTTP client for probes cannot be built.
    #[error("cannot build the client for readiness probes: {0}")]
    Client(#[from] reqwest::Error),
}

/// A service that has its listeners.
pub struct Service {
    api: TcpListener,
    internal: TcpListener,
    api_addr: SocketAddr,
    internal_addr: SocketAddr,
    replica: String,
    config: Config,
    ledger: Arc<dyn Ledger>,
    backend: Arc<dyn Backend>,
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let failed = |source| BindError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

impl Service {
    /// Binds both listeners; nothing is served yet.
    ///
    /// # Errors
    /// When an address is taken.
    pub async fn bind(
        config: Config,
        ledger: Arc<dyn Ledger>,
        backend: Arc<dyn Backend>,
    ) -> Result<Self, BindError> {
        let (api, api_addr) = listen(config.api).await?;
        let (internal, internal_addr) = listen(config.internal).await?;
        let replica = format!("{api_addr} {}", Nonce::random());
        Ok(Self { api, internal, api_addr, internal_addr, replica, config, ledger, backend })
    }

    /// Where the API is.
    #[must_use]
    pub fn api_addr(&self) -> SocketAddr {
        self.api_addr
    }

    /// Where proxies link.
    #[must_use]
    pub fn internal_addr(&self) -> SocketAddr {
        self.internal_addr
    }

    /// Serves until `shutdown`: then nothing new is accepted, requests are answered, links close, and the leadership is
    /// given back. Sessions go on.
    ///
    /// # Errors
    /// When the HTTP clients for probes cannot be built.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), BindError> {
        let Self { config, ledger, backend, .. } = self;
        let mut registry = Registry::default();
        let metrics = Arc::new(Metrics::register(&mut registry));
        let ledger = Measured::register(ledger, registry.sub_registry_with_prefix(metrics::PREFIX));
        let sessions = SessionService::new(
            Arc::clone(&ledger),
            Arc::clone(&backend),
            Arc::clone(&config.templates),
            config.sessions,
            Arc::clone(&metrics),
            Prober::new()?,
            self.replica.clone(),
        );
        let links = Links::new(config.link_secrets, self.replica, sessions.link_events(), shutdown.clone());
        let shown = Shown::new(sessions.handle(), Arc::clone(&config.templates));
        let registered = registry.sub_registry_with_prefix(metrics::PREFIX);
        registered.register_collector(Box::new(shown));
        bivouac_access::register(
            registered,
            [ledger.access(), backend.access()].into_iter().flatten().collect(),
        );
        let tokens = Arc::new(Tokens::new(config.tokens, Arc::clone(&ledger)));
        let issuer = Arc::new(Issuer::new(config.ticket_secrets, Arc::clone(&ledger)));
        let control = Arc::new(Control {
            sessions: sessions.handle(),
            templates: Arc::clone(&config.templates),
            members: Members::new(ledger),
            backend,
            tokens: Arc::clone(&tokens),
            secret: config.cluster_secret,
            issuer: Arc::clone(&issuer),
            metrics: Arc::new(registry),
            followers: Followers::new(metrics.log_followers.clone()),
            counted: metrics,
            shutdown: shutdown.clone(),
        });
        let perimeter = Perimeter::new(self.api_addr.ip(), &config.allow_hosts, &config.allow_origins);
        let api = api::router(control, perimeter);
        let internal = link::router(links).route("/livez", get(|| async { "alive\n" }));

        let templates = keep_templates(config.templates, config.parser, shutdown.clone());
        tokio::join!(
            serve(self.api, api, shutdown.clone()),
            serve(self.internal, internal, shutdown.clone()),
            sessions.run(shutdown.clone()),
            shutdown.run_until_cancelled(tokens.follow()),
            shutdown.run_until_cancelled(issuer.keep()),
            templates,
        );
        Ok(())
    }
}

/// Has the templates' jobs parsed, and then takes in what changes.
async fn keep_templates(
    templates: Arc<Templates>,
    parser: Option<Arc<dyn JobParser>>,
    shutdown: CancellationToken,
) {
    let keep = async {
        if let Some(parser) = &parser {
            templates.parse_jobs(parser.as_ref()).await;
        }
        let ask_again = async {
            if let Some(parser) = &parser {
                templates.ask_again(parser.as_ref()).await;
            }
        };
        tokio::join!(templates.follow(parser.as_deref()), ask_again);
    };
    tokio::select! {
        () = keep => {}
        () = shutdown.cancelled() => {}
    }
}

/// Has the kernel ask now and then whether the other end is still there: who follows a quiet session's logs and vanishes
/// without a word would be waited on for ever.
fn notice_its_end(connection: &mut TcpStream) {
    let asked = sockopt::set_socket_keepalive(&*connection, true)
        .and_then(|()| sockopt::set_tcp_keepidle(&*connection, KEEPALIVE))
        .and_then(|()| sockopt::set_tcp_keepintvl(&*connection, KEEPALIVE))
        .and_then(|()| sockopt::set_tcp_keepcnt(&*connection, 3));
    if let Err(error) = asked {
        tracing::debug!(%error, "A connection is served without keep-alive.");
    }
}

/// Serves one listener until `shutdown`, and then for as long as answers take, at most [`DRAIN`].
async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let stopped = shutdown.clone();
    let listener = listener.tap_io(notice_its_end);
    let serving =
        axum::serve(listener, router).with_graceful_shutdown(async move { stopped.cancelled().await });
    let patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving => {
            if let Err(error) = served {
                tracing::error!(%error, "A listener has failed.");
            }
        }
        () = patience => tracing::warn!("Some requests were not answered before the service stopped."),
    }
}
