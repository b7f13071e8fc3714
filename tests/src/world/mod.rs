//! A world: a service, a proxy, and what they run on, for one scenario. Everything in it is its own (folder, secrets,
//! records, ports) save the agents, which the cluster worlds of one test run share.

mod answer;
mod binary;
mod commands;
mod doors;
mod events;
mod gateway;
mod inspect;
mod lists;
mod process;
mod raw;
mod replica;
mod session;
mod setup;
mod site;
mod spawn;
mod templates;
mod websocket;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::Method;
use tempfile::TempDir;

pub use answer::Answer;
pub use binary::product;
pub use doors::{Doors, Role};
pub use events::Events;
pub use gateway::{Gateway, free_port};
pub use process::{Process, Ready};
pub use raw::Raw;
pub use replica::Replica;
pub use session::Session;
pub use setup::Setup;
pub use site::{Site, Whose};
pub use spawn::Spawn;
pub use templates::{DEMANDING, GUEST, GUEST_JOB, LASTING, OVERLAPPING, PROBED, STATIC, WAKING, WHITEBOARD};
pub use websocket::Socket;

use crate::guest::{Start, starts};

/// Longest time that one call may take, waiting for a session to start included.
const CALL: Duration = Duration::from_secs(60);

/// Where a scenario takes place. Cheap to clone; ends with [`Setup::run`].
#[derive(Debug, Clone)]
pub struct World {
    parts: Arc<Parts>,
    /// The replica that API calls go to.
    replica: usize,
}

#[derive(Debug)]
struct Parts {
    folder: TempDir,
    http: reqwest::Client,
    secrets: setup::Secrets,
    prefix: String,
    kind: Kind,
    doors: Option<Doors>,
    /// Whether processes reach the agents through fault proxies.
    proxied: bool,
    replicas: Mutex<Vec<Arc<Replica>>>,
    gateways: Mutex<Vec<Arc<Gateway>>>,
}

#[derive(Debug)]
enum Kind {
    /// One `bivouac dev`.
    Embedded(Box<Process>),
    /// Services and proxies as processes of their own, on agents.
    Cluster(Site),
}

impl World {
    /// One `bivouac dev` with the scenarios' templates.
    pub fn embedded() -> Setup {
        Setup::embedded()
    }

    /// One service and one proxy on the Nomad and Consul that this test run shares.
    pub fn cluster() -> Setup {
        Setup::cluster(Whose::Shared)
    }

    /// As [`World::cluster`], with every session in a Docker container, on an engine of the tests' own. To be run with
    /// [`Setup::run_or_skip`]: not every machine can have one.
    pub fn on_docker() -> Setup {
        Setup::cluster(Whose::OnDocker)
    }

    /// One service and one proxy on a Nomad and a Consul of their own, for scenarios that hurt them.
    pub fn own_cluster() -> Setup {
        Setup::cluster(Whose::Own)
    }

    /// As [`World::cluster`], where Nomad and Consul speak TLS alone, verify certificates and deny by default. Service and
    /// proxy get what the policies of `terraform/modules/access` grant, in files.
    pub fn locked() -> Setup {
        Setup::cluster(Whose::Shared).locked()
    }

    /// As [`World::own_cluster`], locked.
    pub fn own_locked() -> Setup {
        Setup::cluster(Whose::Own).locked()
    }

    /// The same world, asked through another replica of the service (from 0).
    #[must_use]
    pub fn asking(&self, replica: usize) -> Self {
        Self { parts: self.parts.clone(), replica }
    }

    /// Whether sessions are child processes.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        matches!(self.parts.kind, Kind::Embedded(_))
    }

    /// The one process of an embedded world.
    ///
    /// # Panics
    /// In a cluster world.
    #[must_use]
    pub fn dev(&self) -> &Process {
        match &self.parts.kind {
            Kind::Embedded(dev) => dev,
            Kind::Cluster(_) => panic!("a cluster world has no `bivouac dev`"),
        }
    }

    /// The agents of a cluster world.
    ///
    /// # Panics
    /// In an embedded world.
    #[must_use]
    pub fn site(&self) -> &Site {
        match &self.parts.kind {
            Kind::Cluster(site) => site,
            Kind::Embedded(_) => panic!("an embedded world has no agents"),
        }
    }

    /// A replica of the service, from 0.
    ///
    /// # Panics
    /// When there is none with this number.
    #[must_use]
    pub fn service(&self, number: usize) -> Arc<Replica> {
        self.parts.replicas.lock()[number].clone()
    }

    /// A proxy, from 0.
    ///
    /// # Panics
    /// When there is none with this number.
    #[must_use]
    pub fn proxy(&self, number: usize) -> Arc<Gateway> {
        self.parts.gateways.lock()[number].clone()
    }

    /// All replicas of the service.
    #[must_use]
    pub fn replicas(&self) -> Vec<Arc<Replica>> {
        self.parts.replicas.lock().clone()
    }

    /// All proxies.
    #[must_use]
    pub fn proxies(&self) -> Vec<Arc<Gateway>> {
        self.parts.gateways.lock().clone()
    }

    /// The folder of this world's files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.parts.folder.path()
    }

    /// The folder of this world's templates.
    #[must_use]
    pub fn templates(&self) -> PathBuf {
        self.folder().join("templates")
    }

    /// Begins the ledger's keys of this world.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.parts.prefix
    }

    /// The API token.
    ///
    /// # Panics
    /// When an embedded world is not ready.
    #[must_use]
    pub fn token(&self) -> String {
        match &self.parts.kind {
            Kind::Embedded(dev) => dev.ready().token.expect("the ready file has the token"),
            Kind::Cluster(_) => self.parts.secrets.token.clone(),
        }
    }

    /// URL of the API, without a slash at the end.
    ///
    /// # Panics
    /// When it is not ready.
    #[must_use]
    pub fn api_url(&self) -> String {
        let ready = match &self.parts.kind {
            Kind::Embedded(dev) => dev.ready(),
            Kind::Cluster(_) => self.service(self.replica).process.ready(),
        };
        ready.api.expect("the ready file has the API's URL").trim_end_matches('/').to_owned()
    }

    /// Port of a proxy's session traffic.
    ///
    /// # Panics
    /// When it is not ready.
    #[must_use]
    pub fn proxy_port(&self, number: usize) -> u16 {
        let ready = match &self.parts.kind {
            Kind::Embedded(dev) => dev.ready(),
            Kind::Cluster(_) => self.proxy(number).process.ready(),
        };
        let url: url::Url = ready.proxy.expect("the ready file has the proxy's URL").parse().expect("a URL");
        url.port_or_known_default().expect("a port")
    }

    /// Port of a proxy's session traffic with TLS.
    ///
    /// # Panics
    /// When it is not ready, or has no such listener.
    #[must_use]
    pub fn proxy_tls_port(&self, number: usize) -> u16 {
        let ready = match &self.parts.kind {
            Kind::Embedded(dev) => dev.ready(),
            Kind::Cluster(_) => self.proxy(number).process.ready(),
        };
        let url: url::Url =
            ready.proxy_tls.expect("the ready file has the URL with TLS").parse().expect("a URL");
        url.port_or_known_default().expect("a port")
    }

    /// The HTTP client of this world: bounded in time, and every hostname is this machine.
    #[must_use]
    pub fn http(&self) -> &reqwest::Client {
        &self.parts.http
    }

    /// A call of the API, with the token.
    pub fn call(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http().request(method, format!("{}{path}", self.api_url())).bearer_auth(self.token())
    }

    /// Sends a GET to the API.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> Result<Answer, String> {
        Answer::to(self.call(Method::GET, path)).await
    }

    /// Begins a spawn.
    #[must_use]
    pub fn spawn(&self, template: &str) -> Spawn {
        Spawn::new(self.clone(), template)
    }

    /// Every start of a session's guest, oldest first.
    #[must_use]
    pub fn starts_of(&self, session: &str) -> Vec<Start> {
        starts(&self.diary(), session)
    }

    fn diary(&self) -> PathBuf {
        self.folder().join("diary")
    }

    /// Every process of this world.
    fn show_logs(&self) {
        let show = |process: &Process| {
            let name = process.name();
            eprintln!("---- {name} ({}) ----\n{}", process.folder().display(), process.log_tail(150));
        };
        if let Kind::Embedded(dev) = &self.parts.kind {
            show(dev);
        }
        self.replicas().iter().for_each(|replica| show(&replica.process));
        self.proxies().iter().for_each(|gateway| show(&gateway.process));
    }

    /// Ends everything that this world started.
    async fn close(&self) {
        if let Kind::Embedded(dev) = &self.parts.kind {
            dev.kill();
        }
        self.replicas().iter().for_each(|replica| replica.process.kill());
        self.proxies().iter().for_each(|gateway| gateway.process.kill());
        self.clean().await;
    }
}
