//! `bivouac dev`: service and proxy in one process, sessions as child processes. No Nomad, no Consul; the same API, the
//! same states, the same proxy.

mod banner;
mod home;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bivouac_client::{Client, SpawnRequest, Wait};
use bivouac_ledger::Ledger;
use bivouac_ledger::directory::{MemoryDirectory, Replica};
use bivouac_ledger::memory::MemoryLedger;
use bivouac_proxy::{Backends, Proxy};
use bivouac_service::api::Bootstrap;
use bivouac_service::app::{self, Service};
use bivouac_service::backend::Grace;
use bivouac_service::backend::process::{ProcessBackend, Settings};
use bivouac_service::session;
use bivouac_service::spec::template::{Mode, Templates};
use bivouac_service::tickets::TicketSecrets;
use jiff::SignedDuration;
use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;

use crate::proxy::edge::{self, EdgeArgs};
use crate::ready_file::{self, Bound};
use crate::{bundled, discovery, environment};
use home::Home;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// Key of the session that is there from the start.
const WELCOME: &str = "welcome";
/// Whoever ends a try-out does not wait for open pages.
const DRAIN: Duration = Duration::from_millis(500);

/// Run everything in one process on this machine: to try, and to develop with
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bivouac dev                              with the bundled whiteboard
  bivouac dev --templates ./templates      with templates of your own; their [process] section is run
  bivouac dev --api 127.0.0.1:0 --proxy 127.0.0.1:0 --ready-file ready.json

It prints a URL to open. The client commands (spawn, ls, status, …) find it by themselves.
Everything is in memory: when it ends, its sessions end.")]
pub(crate) struct Args {
    /// Where the API is served; port 0: any
    #[arg(long, env = "BIVOUAC_API", value_name = "ADDR", default_value = "127.0.0.1:7070")]
    api: SocketAddr,
    /// Where sessions are served; port 0: any
    #[arg(long, env = "BIVOUAC_PROXY", value_name = "ADDR", default_value = "127.0.0.1:7080")]
    proxy: SocketAddr,
    /// Folder of the templates, one folder for each [default: the bundled whiteboard]
    #[arg(long, env = "BIVOUAC_TEMPLATES", value_name = "DIR")]
    templates: Option<PathBuf>,
    /// Write what was bound to this file, as JSON, once it serves
    #[arg(long, env = "BIVOUAC_READY_FILE", value_name = "FILE")]
    ready_file: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Session traffic")]
    edge: EdgeArgs,
}

/// What nobody outside of this process has to know.
struct Secrets {
    cluster: SecretString,
    link: SecretString,
    ticket: SecretString,
}

/// All of it, bound and not yet serving.
struct Dev {
    args: Args,
    secrets: Secrets,
    templates: Arc<Templates>,
    /// Domain and port of the session hostnames.
    domain: String,
    bound: Bound,
    backend: Arc<ProcessBackend>,
    /// Dropped last: the folder of this run goes with it.
    home: Home,
}

/// Serves until the shutdown, and takes the sessions down with it.
pub(crate) async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let (dev, proxy, service) = bind(args).await?;
    // The service outlives the proxy: it hears the goodbye.
    let goodbye = CancellationToken::new();
    let serving = tokio::spawn(service.run(goodbye.clone()));
    let proxying = tokio::spawn(proxy.run(shutdown.clone()));
    let (served, proxied, announced) = tokio::join!(
        async {
            let served = serving.await;
            shutdown.cancel();
            served
        },
        async {
            let proxied = proxying.await;
            goodbye.cancel();
            proxied
        },
        async {
            let announced = tokio::select! {
                announced = dev.announce() => announced,
                () = shutdown.cancelled() => Ok(()),
            };
            announced.inspect_err(|_| shutdown.cancel())
        },
    );
    discovery::forget(&dev.bound);
    dev.backend.shutdown(Grace::Template).await;
    proxied.context("the proxy failed")?;
    served.context("the service failed")??;
    announced
}

/// Binds everything: the proxy first, because the sessions' URLs carry its port.
async fn bind(args: Args) -> anyhow::Result<(Dev, Proxy, Service)> {
    let templates = Arc::new(args.load_templates()?);
    let home = Home::open().context("cannot use the state folder")?;
    let secrets = Secrets {
        cluster: home::random_secret(),
        link: home::random_secret(),
        ticket: home::random_secret(),
    };
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new());
    let directory = Arc::new(MemoryDirectory::default());
    let executable = std::env::current_exe().context("cannot find this binary")?;
    let children = Settings::new(&executable, home.sessions());
    let backend = ProcessBackend::new(children, Arc::clone(&directory))
        .context("cannot prepare the sessions' folder")?;
    let backend = Arc::new(backend);

    let config = args.proxy_config(&home, &secrets);
    let proxy =
        Proxy::bind(config, Arc::clone(&ledger), directory.clone()).await.map_err(explain("--proxy"))?;
    let domain = format!("localhost:{}", proxy.listen_addr().port());
    let config = args.service_config(&home, &secrets, &domain, Arc::clone(&templates))?;
    let service = Service::bind(config, ledger, backend.clone()).await.map_err(explain("--api"))?;
    directory.register_replica(Replica { id: "dev".to_owned(), address: service.internal_addr() });
    let bound = Bound {
        api: Some(ready_file::http(service.api_addr())),
        internal: Some(ready_file::http(service.internal_addr())),
        proxy: Some(ready_file::http(proxy.listen_addr())),
        proxy_tls: proxy.tls_addr().map(ready_file::https),
        admin: Some(ready_file::http(proxy.admin_addr())),
        token: Some(home.token.expose_secret().to_owned()),
        token_file: Some(home.token_file.clone()),
    };
    Ok((Dev { args, secrets, templates, domain, bound, backend, home }, proxy, service))
}

impl Dev {
    /// Tells programs and people that all is there, and pitches the first session.
    async fn announce(&self) -> anyhow::Result<()> {
        let names: Vec<_> = self.templates.iter().map(|template| template.name.to_string()).collect();
        let open =
            if names.iter().any(|name| name == bundled::WHITEBOARD) { self.welcome().await } else { None };
        self.bound.write(&discovery::file()?)?;
        if let Some(file) = &self.args.ready_file {
            self.bound.write(file)?;
        }
        let (bound, home, domain) = (&self.bound, &self.home, self.domain.as_str());
        banner::Banner {
            bound,
            home,
            open,
            example: names.first().map(String::as_str),
            domain,
            secret: &self.secrets.cluster,
        }
        .print()
    }

    /// The session that is there from the start. Without it everything else works all the same.
    async fn welcome(&self) -> Option<String> {
        let spawn = async || -> anyhow::Result<String> {
            let api = self.bound.api.as_deref().unwrap_or_default();
            let client = Client::new(api.parse()?, self.home.token.clone())?;
            let request =
                SpawnRequest { key: Some(WELCOME.to_owned()), ..SpawnRequest::new(bundled::WHITEBOARD) };
            Ok(client.spawn(&request, Wait::Ready).await?.value.session.url)
        };
        let failed = |error: &anyhow::Error| {
            tracing::warn!(error = format!("{error:#}"), "The whiteboard did not start.");
        };
        spawn().await.inspect_err(failed).ok()
    }
}

/// A taken port, in words that say what to do.
fn explain<E: std::error::Error + Send + Sync + 'static>(flag: &'static str) -> impl Fn(E) -> anyhow::Error {
    move |error| {
        let error = anyhow::Error::from(error);
        let taken = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
        if taken.into_iter().any(|cause| cause.kind() == io::ErrorKind::AddrInUse) {
            anyhow::anyhow!("{error}; is another `bivouac dev` running? Choose another port with {flag}")
        } else {
            error
        }
    }
}

impl Args {
    fn load_templates(&self) -> anyhow::Result<Templates> {
        match &self.templates {
            Some(dir) => Ok(Templates::load(dir, &[], Mode::Processes)?),
            None => {
                let mut templates = Templates::default();
                templates.insert(bundled::whiteboard()?);
                Ok(templates)
            }
        }
    }

    fn proxy_config(&self, home: &Home, secrets: &Secrets) -> bivouac_proxy::Config {
        bivouac_proxy::Config {
            listen: self.proxy,
            admin: LOOPBACK,
            domain: "localhost".to_owned(),
            link_secrets: secrets.link.clone().into(),
            data_dir: home.proxy(),
            backends: Backends { ports: vec![1024..=u16::MAX], ..Backends::default() },
            hold_timeout: Duration::from_secs(60),
            holds_per_session: 1_000,
            holds_total: 10_000,
            drain_timeout: DRAIN,
            allocation: None,
            edge: self.edge.edge(edge::open_files()),
        }
    }

    fn service_config(
        &self,
        home: &Home,
        secrets: &Secrets,
        domain: &str,
        templates: Arc<Templates>,
    ) -> anyhow::Result<app::Config> {
        Ok(app::Config {
            api: self.api,
            internal: LOOPBACK,
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            tokens: Bootstrap::of_tokens(std::slice::from_ref(&home.token)),
            cluster_secret: secrets.cluster.clone(),
            link_secrets: secrets.link.clone().into(),
            ticket_secrets: TicketSecrets::of_secret(&secrets.ticket)?,
            templates,
            parser: None,
            sessions: session::Settings {
                session_url: format!("http://{domain}").parse()?,
                claim_timeout: Duration::from_secs(5),
                retention: (SignedDuration::from_hours(168), SignedDuration::from_hours(24)),
                presume_dead_after: None,
                failpoints: environment::failpoints(),
            },
        })
    }
}
