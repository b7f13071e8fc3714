//! What all agents of one group have in common.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::agent::{Agent, Launch};
use super::docker::Docker;
use super::locks::Locks;
use super::sweeper::{Files, MARK, mark};

/// A server's usual ports.
#[derive(Clone, Copy)]
pub(super) struct Standard {
    pub(super) http: u16,
    pub(super) rpc: u16,
    pub(super) serf: u16,
}

pub(super) const STANDARD_NOMAD: Standard = Standard { http: 4646, rpc: 4647, serf: 4648 };
pub(super) const STANDARD_CONSUL: Standard = Standard { http: 8500, rpc: 8300, serf: 8301 };

/// The folder for everything, and whether it is kept.
pub(super) fn folder(wanted: Option<&Path>) -> Result<(PathBuf, Files)> {
    match wanted {
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| format!("the data folder {}", dir.display()))?;
            Ok((dir.canonicalize()?, Files::Keep))
        }
        None => {
            Ok((tempfile::Builder::new().prefix("bivouac-").tempdir()?.keep().canonicalize()?, Files::Remove))
        }
    }
}

/// What all agents of one group have in common.
pub(super) struct Site<'a> {
    pub(super) dir: &'a Path,
    pub(super) nomad: &'a Path,
    pub(super) consul: &'a Path,
    pub(super) standard_ports: bool,
    pub(super) heartbeat: Duration,
    pub(super) path: &'a [PathBuf],
    /// TLS and ACLs, if it is locked.
    pub(super) locks: Option<&'a Locks>,
    /// The engine of the docker driver, if there is to be one.
    pub(super) docker: Option<&'a Docker>,
}

impl Site<'_> {
    pub(super) fn write_config(&self, name: &str, config: &Value) -> Result<PathBuf> {
        let file = self.dir.join(format!("{name}.json"));
        std::fs::write(&file, serde_json::to_vec_pretty(config)?)?;
        Ok(file)
    }

    pub(super) fn agent(
        &self,
        name: &str,
        program: &Path,
        arguments: Vec<OsString>,
        mut environment: Vec<(OsString, OsString)>,
        http: SocketAddr,
    ) -> Agent {
        environment.push((MARK.into(), mark(self.dir)));
        // Sockets between an agent and its helpers: left behind by a killed one. A socket's path must be short.
        let temporary = self.dir.join("tmp");
        if temporary.as_os_str().len() < 70 && std::fs::create_dir_all(&temporary).is_ok() {
            environment.push(("TMPDIR".into(), temporary.into_os_string()));
        }
        let log = self.dir.join(format!("{name}.log"));
        let scheme = if self.locks.is_some() { "https" } else { "http" };
        let launch = Launch { program: program.to_owned(), arguments, environment };
        Agent::new(name, scheme, http, log, launch)
    }

    /// What tasks inherit from a Nomad client.
    pub(super) fn task_environment(&self) -> Vec<(OsString, OsString)> {
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let folders = self.path.iter().cloned().chain(std::env::split_paths(&inherited));
        std::env::join_paths(folders).map(|path| vec![("PATH".into(), path)]).unwrap_or_default()
    }
}
