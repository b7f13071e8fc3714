//! Sessions as child processes of this one: the embedded mode.
//!
//! The processes live no longer than the backend does. Each is the leader of a process group of its own, which is
//! killed when the backend is dropped; and each is started through `bivouac exec-guard`, so that the kernel kills it
//! when this process is killed.

mod book;
mod child;
mod launch;
mod ports;
mod spawner;
mod table;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bivouac_ledger::directory::MemoryDirectory;
use bivouac_protocol::{AllocationId, Endpoint, Policy, PortLabel, Record, Route, RoutePhase};
use parking_lot::Mutex;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::logs::{LogError, Reading, Wanted};
use super::{
    Allocated, Backend, Grace, Observation, Outcome, Presence, Run, Start, StartError, Status, Unavailable,
};
use book::Outputs;
use child::Watcher;
use launch::Launch;
use ports::Ports;
use spawner::Spawner;
use table::Table;

/// What is reported as the node of every session.
const NODE: &str = "localhost";

/// How child processes are started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Words in front of every command, which make it end with this process.
    pub guard: Vec<OsString>,
    /// Below it, every run has a fresh directory of its own: `work` (its working directory), and what it prints.
    pub state_dir: PathBuf,
}

impl Settings {
    /// Children guarded by this build of `bivouac`, which also resolves the commands that are inside it.
    #[must_use]
    pub fn new(executable: &Path, state_dir: PathBuf) -> Self {
        let parent = std::process::id().to_string();
        let guard = [
            executable.as_os_str(),
            "exec-guard".as_ref(),
            "--parent".as_ref(),
            parent.as_ref(),
            "--".as_ref(),
        ];
        Self { guard: guard.map(OsString::from).into(), state_dir }
    }
}

/// Runs sessions as child processes.
#[derive(Debug)]
pub struct ProcessBackend {
    settings: Settings,
    shared: Arc<Shared>,
    spawner: Spawner,
    ports: Ports,
    /// Held while a run is started, so that a stop of the same run finds it or precedes it, and nothing in between.
    door: tokio::sync::Mutex<Door>,
    /// One watcher for each child. Dropped with the backend, and with them the children.
    watchers: Mutex<JoinSet<()>>,
}

/// Whether runs may still be started.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Door {
    #[default]
    Open,
    Shut,
}

/// What the backend and its watchers share.
#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    directory: Arc<MemoryDirectory>,
}

impl ProcessBackend {
    /// A backend that registers its children in this directory.
    ///
    /// # Errors
    /// When the state directory cannot be created, or no thread can be started.
    pub fn new(settings: Settings, directory: Arc<MemoryDirectory>) -> std::io::Result<Self> {
        launch::create_private_dir(&settings.state_dir, true)?;
        Ok(Self {
            settings,
            shared: Arc::new(Shared { table: Mutex::default(), directory }),
            spawner: Spawner::start()?,
            ports: Ports::default(),
            door: tokio::sync::Mutex::default(),
            watchers: Mutex::default(),
        })
    }

    /// Stops every run and returns when all are over. No run can be started any more.
    pub async fn shutdown(&self, grace: Grace) {
        *self.door.lock().await = Door::Shut;
        self.shared.table.lock().stop_all(grace);
        let mut watchers = std::mem::take(&mut *self.watchers.lock());
        while watchers.join_next().await.is_some() {}
    }

    fn prepare(&self, start: &Start, allocation: &AllocationId) -> Result<Launch, StartError> {
        let process = start.template.process.as_ref().ok_or_else(|| {
            StartError::Refused(format!("template {} has no [process] section", start.template.name))
        })?;
        let addresses = self.addresses(start)?;
        Launch::prepare(&self.settings, start, process, allocation, addresses).map_err(|error| {
            StartError::Unavailable(format!("the run's directory cannot be prepared: {error}"))
        })
    }

    /// A free port for each that the template names.
    fn addresses(&self, start: &Start) -> Result<BTreeMap<PortLabel, SocketAddr>, StartError> {
        let policy = &start.record.policy;
        let mut used = self.shared.table.lock().ports_in_use();
        let mut addresses = BTreeMap::new();
        for label in policy.further.keys().chain([&policy.port]) {
            let port = self.ports.take(&used).ok_or_else(|| {
                StartError::Unavailable("no port is free for another session on this machine".to_owned())
            })?;
            used.insert(port);
            addresses.insert(label.clone(), SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        }
        Ok(addresses)
    }

    /// Announces a child that runs, and watches it from now on.
    fn adopt(&self, start: &Start, allocation: AllocationId, launch: Launch, mut child: Child) {
        let run = Run { session: start.session.clone(), generation: start.record.generation };
        let policy = &start.record.policy;
        if let Some(route) = registered(&run, policy, &allocation, &launch.addresses) {
            self.shared.directory.register(route);
        }
        let allocated = Allocated {
            allocation,
            ports: launch.addresses,
            node: Some(NODE.to_owned()),
            status: Status::Pending,
            restarted: false,
            displaced: None,
        };
        let outputs = Outputs::new(launch.folder);
        let copying = outputs.keep(&mut child);
        let nonce = start.record.nonce.clone();
        let asked = self.shared.table.lock().insert(&run, nonce, allocated, outputs);
        let watcher = Watcher::new(child, asked, policy.stop_grace.get());
        let shared = Arc::clone(&self.shared);
        let mut watchers = self.watchers.lock();
        while watchers.try_join_next().is_some() {}
        watchers.spawn(async move {
            let ended = watcher.run().await;
            copying.finish().await;
            shared.over(&run, ended.outcome());
        });
    }
}

/// What is registered of a child, as Nomad registers an allocation's services.
fn registered(
    run: &Run,
    policy: &Policy,
    allocation: &AllocationId,
    addresses: &BTreeMap<PortLabel, SocketAddr>,
) -> Option<Route> {
    let endpoint = |label: &PortLabel, protocol| {
        Some(Endpoint { address: *addresses.get(label)?, protocol, phase: RoutePhase::Ready })
    };
    let further = policy.further.iter();
    let further = further.filter_map(|(label, port)| Some((label.clone(), endpoint(label, port.protocol)?)));
    let default = endpoint(&policy.port, policy.protocol)?;
    let (session, allocation, port) = (run.session.clone(), allocation.clone(), policy.port.clone());
    let route = Route::new(session, run.generation, allocation, port, default);
    Some(Route { further: further.collect(), ..route })
}

impl Shared {
    fn over(&self, run: &Run, outcome: Outcome) {
        tracing::info!(
            session.id = %run.session,
            generation = %run.generation,
            exit_code = outcome.exit_code,
            detail = outcome.detail,
            "A session's process is over."
        );
        self.directory.deregister(&run.session, run.generation);
        self.table.lock().set_status(run, Status::Over(outcome));
    }
}

#[async_trait::async_trait]
impl Backend for ProcessBackend {
    async fn start(&self, start: Start) -> Result<(), StartError> {
        let door = self.door.lock().await;
        if *door == Door::Shut {
            return Err(StartError::Unavailable(
                "no session is started any more: this process is ending".to_owned(),
            ));
        }
        let run = Run { session: start.session.clone(), generation: start.record.generation };
        match self.shared.table.lock().nonce(&run) {
            Some(nonce) if *nonce == start.record.nonce => return Ok(()),
            Some(_) => return Err(StartError::Foreign),
            None => {}
        }
        let allocation = AllocationId::random();
        let mut launch = self.prepare(&start, &allocation)?;
        let spawned = match launch.command() {
            Ok(command) => self.spawner.spawn(command).await,
            Err(error) => Err(error),
        };
        let child = match spawned {
            Ok(child) => child,
            Err(error) => {
                launch.discard().await;
                return Err(StartError::Unavailable(format!("the process cannot be started: {error}")));
            }
        };
        tracing::info!(
            session.id = %run.session,
            generation = %run.generation,
            pid = child.id(),
            ports = ?launch.addresses,
            "A session's process was started."
        );
        self.adopt(&start, allocation, launch, child);
        Ok(())
    }

    async fn stop(&self, run: &Run, grace: Grace) -> Result<(), Unavailable> {
        let _not_while_starting = self.door.lock().await;
        self.shared.table.lock().stop(run, grace);
        Ok(())
    }

    async fn inspect(&self, run: &Run) -> Result<Presence, Unavailable> {
        let _not_while_starting = self.door.lock().await;
        Ok(self.shared.table.lock().presence(run))
    }

    async fn purge(&self, run: &Run) -> Result<(), Unavailable> {
        let Some(folder) = self.shared.table.lock().remove_if_over(run) else { return Ok(()) };
        launch::remove_dir(&folder)
            .await
            .map_err(|error| Unavailable(format!("{} cannot be removed: {error}", folder.display())))
    }

    async fn is_over(&self, _: &str) -> Result<bool, Unavailable> {
        Ok(false) // proxies are no allocations here
    }

    async fn recall(&self, _: &Run) -> Result<Option<Record>, Unavailable> {
        Ok(None) // the ledger of this mode lives and dies with the processes
    }

    async fn logs(
        &self,
        run: &Run,
        _: Option<&AllocationId>,
        wanted: Wanted,
    ) -> Result<Option<Reading>, LogError> {
        let book = self.shared.table.lock().output(run, wanted.output);
        let gone = || LogError::Gone("its directory was removed".to_owned());
        Reading::begin(Box::new(book.ok_or_else(gone)?), wanted).await.map(Some)
    }

    async fn observe(&self, reports: mpsc::Sender<Observation>) {
        // Unbounded, because a watcher must not wait for a slow observer; each run tells a handful of changes.
        let (told, mut news) = mpsc::unbounded_channel();
        self.shared.table.lock().subscribe(told);
        loop {
            let observation = tokio::select! {
                observation = news.recv() => observation,
                () = reports.closed() => None,
            };
            let Some(observation) = observation else { return };
            if reports.send(observation).await.is_err() {
                return;
            }
        }
    }

    async fn health(&self) -> Result<(), Unavailable> {
        let folder = &self.settings.state_dir;
        match tokio::fs::metadata(folder).await {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(_) => Err(Unavailable(format!("{} is not a directory", folder.display()))),
            Err(error) => Err(Unavailable(format!("{} cannot be used: {error}", folder.display()))),
        }
    }
}

#[cfg(test)]
mod tests;
