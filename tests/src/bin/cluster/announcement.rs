//! Where everything is: told to people, to whoever waits for the ready file, and to the client commands.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bivouac_tests::agents::Agents;
use serde::Serialize;

use crate::deployment::Deployment;
use crate::say;

/// The content of both files.
#[derive(Serialize)]
pub(crate) struct Announcement {
    api: String,
    proxy: String,
    token: String,
    token_file: PathBuf,
    nomad: String,
    consul: String,
    /// A command to try.
    #[serde(skip)]
    example: String,
}

/// Files that are there as long as what they speak of.
pub(crate) struct Published {
    content: Vec<u8>,
    files: Vec<PathBuf>,
}

impl Announcement {
    pub(crate) fn of(agents: &Agents, deployment: &Deployment) -> Self {
        Self {
            api: deployment.api().to_owned(),
            proxy: format!("http://127.0.0.1:{}", deployment.proxy_port()),
            token: deployment.token().to_owned(),
            token_file: deployment.token_file().to_owned(),
            nomad: agents.nomad().url(),
            consul: agents.consul().url(),
            example: deployment.example(),
        }
    }

    /// Tells everybody.
    pub(crate) fn publish(&self, ready_file: Option<&Path>) -> Result<Published> {
        let content = serde_json::to_vec_pretty(self)?;
        let mut published = Published { content, files: Vec::new() };
        for file in ready_file.map(Path::to_owned).into_iter().chain(discovery_file()) {
            write_whole(&file, &published.content).with_context(|| format!("writing {}", file.display()))?;
            published.files.push(file);
        }
        say("");
        say(&format!("API      {}   (token: {})", self.api, self.token_file.display()));
        say(&format!("proxy    {}", self.proxy));
        say(&format!("Nomad    {}/ui/jobs", self.nomad));
        say(&format!("Consul   {}/ui/dc1/services", self.consul));
        say("");
        say(&format!("try      {}", self.example));
        say("Ctrl-C   takes everything down");
        Ok(published)
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        for file in &self.files {
            // Another instance may have written its own by now.
            if fs::read(file).is_ok_and(|found| found == self.content) {
                let _ = fs::remove_file(file);
            }
        }
    }
}

/// Where the client commands look.
fn discovery_file() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("bivouac").join("current.json"))
}

/// Readable by its owner only, and never seen half-written.
fn write_whole(file: &Path, content: &[u8]) -> Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut unfinished = tempfile::NamedTempFile::new_in(folder)?;
    unfinished.write_all(content)?;
    unfinished.persist(file)?;
    Ok(())
}
