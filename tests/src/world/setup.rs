//! Setting a world up, running a scenario in it, and taking it down.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use rand::distr::{Alphanumeric, SampleString};

use super::doors::Doors;
use super::gateway::free_port;
use super::process::{Plan, Process};
use super::site::{Site, Whose};
use super::templates::Own;
use super::{CALL, Kind, Parts, World, templates};

/// Longest time that one scenario may take.
const SCENARIO: Duration = Duration::from_secs(240);

/// A world that is about to be set up.
#[derive(Debug)]
#[must_use = "nothing happens before `run`"]
pub struct Setup {
    agents: Option<Whose>,
    replicas: usize,
    proxies: usize,
    args: Vec<String>,
    proxy_args: Vec<String>,
    failpoints: String,
    templates: Vec<Own>,
    faults_on_links: bool,
    locked: bool,
    proxied: bool,
}

/// The secrets of one world.
#[derive(Debug)]
pub(super) struct Secrets {
    pub(super) cluster: String,
    pub(super) link: String,
    pub(super) ticket: String,
    pub(super) token: String,
}

impl Secrets {
    /// Writes each where only its owner reads it.
    fn write(&self, folder: &Path) {
        for (name, secret) in [
            ("cluster", &self.cluster),
            ("link", &self.link),
            ("ticket", &self.ticket),
            ("token", &self.token),
        ] {
            let mut options = fs::File::options();
            let file = options.write(true).create_new(true).mode(0o600).open(secret_file(folder, name));
            file.expect("a file for the secret").write_all(secret.as_bytes()).expect("the secret");
        }
    }
}

/// Where a secret is.
pub(super) fn secret_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.secret"))
}

impl Setup {
    pub(super) fn embedded() -> Self {
        Self {
            agents: None,
            replicas: 1,
            proxies: 1,
            args: Vec::new(),
            proxy_args: Vec::new(),
            failpoints: String::new(),
            templates: Vec::new(),
            faults_on_links: false,
            locked: false,
            proxied: true,
        }
    }

    pub(super) fn cluster(agents: Whose) -> Self {
        // The whole list on locked agents: see CONTRIBUTING.md.
        let locked = std::env::var_os("BIVOUAC_LOCKED").is_some_and(|value| !value.is_empty());
        Self { agents: Some(agents), locked, ..Self::embedded() }
    }

    pub(super) fn locked(self) -> Self {
        Self { locked: true, ..self }
    }

    /// Lets the processes speak to the agents themselves, for scenarios about certificates. Nothing can be done to the
    /// wires then.
    pub fn unproxied(self) -> Self {
        Self { proxied: false, ..self }
    }

    /// So many replicas of the service.
    pub fn replicas(self, replicas: usize) -> Self {
        Self { replicas, ..self }
    }

    /// So many proxies.
    pub fn proxies(self, proxies: usize) -> Self {
        Self { proxies, ..self }
    }

    /// A further flag of the service.
    pub fn service_flag(mut self, name: &str, value: &str) -> Self {
        self.args.extend([format!("--{name}"), value.to_owned()]);
        self
    }

    /// A further flag of the proxies; of `bivouac dev`, where that has it too.
    pub fn proxy_flag(mut self, name: &str, value: &str) -> Self {
        self.proxy_args.extend([format!("--{name}"), value.to_owned()]);
        self
    }

    /// A template of the scenario's own that runs the guest: what its `template.toml` says but for `[process]` and
    /// `[nomad]`, and its job, which has the variables of [`super::GUEST_JOB`] (where it is that job, with the parameter
    /// `text`).
    pub fn template(mut self, name: &str, toml: &str, job: &str) -> Self {
        self.templates.push(Own { name: name.to_owned(), toml: toml.to_owned(), job: job.to_owned() });
        self
    }

    /// Failpoints of the first replica's first start, such as `claimed=abort`.
    pub fn failpoints(self, setting: &str) -> Self {
        Self { failpoints: setting.to_owned(), ..self }
    }

    /// Puts a fault proxy on the links between proxies and services: [`super::Replica::link`].
    pub fn faults_on_links(self) -> Self {
        Self { faults_on_links: true, ..self }
    }

    /// As [`Setup::run`], where this machine can have such a world at all; else it says on standard error, past what the
    /// test harness catches, that the scenario of this name is skipped, and why.
    ///
    /// # Panics
    /// When the scenario fails, or takes too long.
    pub fn run_or_skip(self, name: &str, scenario: impl AsyncFnOnce(World)) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        match runtime.block_on(Site::on_docker()) {
            Ok(_) => self.run(scenario),
            Err(why) => writeln!(std::io::stderr(), "skipped: {name}: {why}").expect("standard error"),
        }
    }

    /// Sets the world up, runs the scenario in it, and takes it down; shows the logs if the scenario failed.
    ///
    /// # Panics
    /// When the scenario fails, or takes too long.
    pub fn run(self, scenario: impl AsyncFnOnce(World)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let world = self.prepare().await;
            let running = tokio::time::timeout(SCENARIO, async {
                self.start(&world).await;
                scenario(world.clone()).await;
            });
            let outcome = AssertUnwindSafe(running).catch_unwind().await;
            if !matches!(outcome, Ok(Ok(()))) {
                world.show_logs();
            }
            world.close().await;
            match outcome {
                Ok(finished) => finished.expect("the scenario takes less than four minutes"),
                Err(panic) => resume_unwind(panic),
            }
        });
    }

    /// The world, with nothing running in it yet but the agents.
    async fn prepare(&self) -> World {
        let folder = tempfile::Builder::new().prefix("bivouac-world-").tempdir().expect("a folder");
        let diary = folder.path().join("diary");
        fs::create_dir_all(&diary).expect("the diary's folder");
        templates::write(folder.path(), &diary, &self.templates);
        if self.agents == Some(Whose::OnDocker) {
            templates::put_into_containers(folder.path());
        }
        let kind = match self.agents {
            None => Kind::Embedded(Box::new(self.dev(folder.path()))),
            Some(agents) => Kind::Cluster(Site::of(agents, self.locked).await),
        };
        let prefix = prefix();
        let doors = match &kind {
            Kind::Cluster(site) => Doors::open(site, folder.path(), &prefix).await,
            Kind::Embedded(_) => None,
        };
        let secrets = Secrets { cluster: random(), link: random(), ticket: random(), token: random() };
        secrets.write(folder.path());
        let parts = Parts {
            folder,
            kind,
            http: crate::http_client(CALL),
            secrets,
            prefix,
            doors,
            proxied: self.proxied,
            replicas: Mutex::default(),
            gateways: Mutex::default(),
        };
        World { parts: Arc::new(parts), replica: 0 }
    }

    fn dev(&self, folder: &Path) -> Process {
        let templates = folder.join("templates").display().to_string();
        let args = ["dev", "--api", "127.0.0.1:0", "--proxy", "127.0.0.1:0", "--templates", &templates];
        let further = self.args.iter().chain(&self.proxy_args).cloned();
        let args = args.into_iter().map(str::to_owned).chain(further).collect();
        Process::new(Plan { name: "dev".to_owned(), folder: folder.to_owned(), args, env: Vec::new() })
    }

    /// Starts its processes, all at once, and waits until they serve.
    async fn start(&self, world: &World) {
        if let Kind::Embedded(dev) = &world.parts.kind {
            return dev.start().await;
        }
        let ports: Vec<u16> = (0..self.proxies).map(|_| free_port()).collect();
        let session_port = ports.first().copied().unwrap_or(80);
        for number in 0..self.replicas {
            let replica = world.prepare_replica(session_port, &self.args, self.faults_on_links).await;
            if number == 0 {
                replica.failpoints(&self.failpoints);
            }
            replica.process.launch();
        }
        for port in ports {
            world.prepare_proxy_with(port, &self.proxy_args).await.process.launch();
        }
        let (replicas, gateways) = (world.replicas(), world.proxies());
        futures::future::join_all(replicas.iter().map(|replica| replica.is_ready())).await;
        if self.faults_on_links {
            world.register_links().await;
        }
        futures::future::join_all(gateways.iter().map(|gateway| gateway.process.serves())).await;
    }
}

/// A prefix that no other world of any test run has.
fn prefix() -> String {
    static WORLDS: AtomicU32 = AtomicU32::new(0);
    let world = WORLDS.fetch_add(1, Ordering::Relaxed);
    format!("world-{}-{world}", std::process::id())
}

fn random() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), 40)
}
