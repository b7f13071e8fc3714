//! What kind of cluster is started.

use std::path::PathBuf;
use std::time::Duration;

/// Which ports the two servers get. Clients always get free ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// The usual ones (4646, 8500, …) where they are free, else free ones.
    Standard,
    /// Free ones: any number of clusters run side by side.
    Free,
}

/// What kind of cluster.
#[derive(Debug, Clone)]
pub struct AgentsConfig {
    /// How many Nomad clients, each with a Consul agent of its own.
    pub nomad_clients: usize,
    /// Where configuration, data and logs go: kept in the end. `None` is a temporary folder, removed in the end (unless
    /// the test panics, or BIVOUAC_KEEP_AGENTS is set).
    pub data_dir: Option<PathBuf>,
    /// Which ports the servers get.
    pub ports: Ports,
    /// How often clients report, and how long they may be late: a silent client counts as away after about twice this.
    /// Nomad's default is 10 s; short ones make a busy machine look like a broken one.
    pub heartbeat: Duration,
    /// Whether every call needs a token and a certificate: see [`Locks`](super::Locks).
    pub locked: bool,
    /// Whether clients run the docker driver, on an engine that is started for them: see its module `docker`.
    pub docker: bool,
    /// Folders in which tasks find their commands, before those of PATH.
    pub path: Vec<PathBuf>,
}

impl Default for AgentsConfig {
    fn default() -> Self {
        Self {
            nomad_clients: 2,
            data_dir: None,
            ports: Ports::Free,
            heartbeat: Duration::from_secs(10),
            locked: false,
            docker: false,
            path: Vec::new(),
        }
    }
}
