//! What a run is started with: its directory, its environment, its command.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bivouac_protocol::{AllocationId, PortLabel};
use tokio::process::Command;

use super::Settings;
use crate::backend::Start;
use crate::spec::environment;
use crate::spec::template::{Allowance, ProcessTemplate};

/// What a child keeps of our own environment. Everything else stays with us: tokens live in environments.
const INHERITED: [&str; 7] = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// A run that is about to be started.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) addresses: BTreeMap<PortLabel, SocketAddr>,
    pub(super) folder: PathBuf,
    words: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl Launch {
    /// Decides everything and makes the directory.
    pub(super) fn prepare(
        settings: &Settings,
        start: &Start,
        process: &ProcessTemplate,
        allocation: &AllocationId,
        addresses: BTreeMap<PortLabel, SocketAddr>,
    ) -> io::Result<Self> {
        // The allocation's id makes it fresh: generations count from 1 again when this process starts again.
        let name = format!("{}-{}-{allocation}", start.session, start.record.generation);
        let folder = settings.state_dir.join(name);
        create_private_dir(&folder, false)?;
        create_private_dir(&folder.join("work"), false)?;
        Ok(Self {
            folder,
            words: words(settings, start, process),
            environment: variables(start, process, &addresses),
            addresses,
        })
    }

    /// The command. Callers' text is one word or one value each; no shell reads it.
    pub(super) fn command(&mut self) -> io::Result<Command> {
        let (program, rest) = self
            .words
            .split_first()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no command"))?;
        let mut command = Command::new(program);
        command
            .args(rest)
            .env_clear()
            .envs(self.environment.drain(..))
            .current_dir(self.folder.join("work"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        Ok(command)
    }

    /// Takes back what was prepared for a child that could not be started.
    pub(super) async fn discard(self) {
        if let Err(error) = remove_dir(&self.folder).await {
            tracing::warn!(%error, folder = %self.folder.display(), "The directory of a run that did not start is left behind.");
        }
    }
}

fn words(settings: &Settings, start: &Start, process: &ProcessTemplate) -> Vec<OsString> {
    let mut words = settings.guard.clone();
    words.extend(process.command.iter().map(OsString::from));
    if start.template.allow.contains(&Allowance::Args) {
        words.extend(start.record.request.args.iter().map(OsString::from));
    }
    words
}

/// Later ones win: what callers chose never replaces what the operator or the platform sets.
fn variables(
    start: &Start,
    process: &ProcessTemplate,
    addresses: &BTreeMap<PortLabel, SocketAddr>,
) -> Vec<(OsString, OsString)> {
    let inherited = INHERITED.iter().filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
    let ours = environment::of(&start.template, &start.session, &start.record, &start.url);
    let (platforms, chosen): (Vec<_>, Vec<_>) =
        ours.into_iter().partition(|(name, _)| name.starts_with("BIVOUAC_"));
    let operators = process.env.iter().map(|(name, value)| (name.clone(), value.clone()));
    let ports = addresses.iter().flat_map(|(label, address)| {
        let default = (*label == start.record.policy.port).then(|| "PORT".to_owned());
        let names = default.into_iter().chain([environment::port_variable(label)]);
        names.map(|name| (name, address.port().to_string()))
    });
    let set = chosen.into_iter().chain(operators).chain(platforms).chain(ports);
    inherited.chain(set.map(|(name, value)| (name.into(), value.into()))).collect()
}

/// Only we and our children read what sessions write.
pub(super) fn create_private_dir(path: &Path, with_parents: bool) -> io::Result<()> {
    DirBuilder::new().recursive(with_parents).mode(0o700).create(path)
}

/// Removes a directory and all that is in it; one that is gone already is a success.
pub(super) async fn remove_dir(path: &Path) -> io::Result<()> {
    match tokio::fs::remove_dir_all(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
