//! A Docker engine of the tests' own, with the guest's image in it. The host's engine, if it has one, is not touched:
//! this one has its own socket, its own folders, no bridge and no firewall rules. It needs root and `dockerd`.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::sweeper::{MARK, mark};
use crate::guard;

/// The image of the guest. A tag other than `latest`: Nomad looks for that one in a registry.
pub(crate) const IMAGE: &str = "bivouac-guest:test";
/// Where the guest is in it.
const PROGRAM: &str = "/bivouac-guest";
/// How long the engine may take to answer.
const START_LIMIT: Duration = Duration::from_secs(30);

/// There can be no engine on this machine: no fault of what is tested.
#[derive(Debug)]
pub(crate) struct NoEngine(String);

impl std::fmt::Display for NoEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoEngine {}

/// A running engine.
#[derive(Debug)]
pub(super) struct Docker {
    engine: Child,
    socket: PathBuf,
    log: PathBuf,
}

/// What keeps an engine from being started on this machine, as far as that is known without trying.
fn obstacle() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("a Docker engine can only be started by root");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let all = ["dockerd", "docker", "tar", "ldd"].into_iter().all(has);
    (!all).then_some("dockerd, docker, tar and ldd are not all on PATH: scripts/setup test installs them")
}

impl Docker {
    /// Starts an engine in `dir` and makes the guest's image.
    pub(super) async fn start(dir: &Path) -> Result<Self> {
        if let Some(obstacle) = obstacle() {
            bail!(NoEngine(obstacle.to_owned()));
        }
        let (own, log) = (dir.join("docker"), dir.join("dockerd.log"));
        std::fs::create_dir_all(&own)?;
        let (socket, config) = (own.join("docker.sock"), own.join("daemon.json"));
        std::fs::write(&config, "{}")?;
        let output = File::create(&log)?;
        let engine = Command::new("dockerd")
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .arg("--data-root")
            .arg(own.join("data"))
            .arg("--exec-root")
            .arg(own.join("exec"))
            .arg("--pidfile")
            .arg(own.join("pid"))
            // Not the host's configuration, whatever it says.
            .arg("--config-file")
            .arg(&config)
            .arg("--host")
            .arg(address(&socket))
            .env(MARK, mark(dir))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .context("dockerd cannot be started")?;
        let mut docker = Self { engine, socket, log };
        docker.answers().await.map_err(|error| NoEngine(format!("{error:#}")))?;
        docker.import()?;
        Ok(docker)
    }

    /// Where it listens, `unix:///…`.
    pub(super) fn endpoint(&self) -> String {
        address(&self.socket)
    }

    async fn answers(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while tokio::net::UnixStream::connect(&self.socket).await.is_err() {
            let ended = self.engine.try_wait()?;
            ensure!(
                ended.is_none() && Instant::now() < deadline,
                "dockerd does not come up: {}",
                self.complaint()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The end of its log.
    fn complaint(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().last().unwrap_or("it says nothing").to_owned()
    }

    /// An image of nothing but the guest and the libraries that it is linked with: nothing is fetched.
    fn import(&self) -> Result<()> {
        let guest = guard::guest_binary();
        let linked = Command::new("ldd").arg(&guest).output().context("ldd")?;
        ensure!(linked.status.success(), "ldd: {}", String::from_utf8_lossy(&linked.stderr));
        let linked = String::from_utf8_lossy(&linked.stdout).into_owned();
        let libraries = linked.split_whitespace().filter(|word| word.starts_with('/'));
        let mut tar = Command::new("tar")
            .args(["--create", "--dereference", "--absolute-names"])
            .arg(format!("--transform=s,^{}$,{PROGRAM},", guest.display()))
            .arg(&guest)
            .args(libraries)
            .stdout(Stdio::piped())
            .spawn()
            .context("tar")?;
        let archive = tar.stdout.take().context("tar's output")?;
        let imported = Command::new("docker")
            .arg("--host")
            .arg(self.endpoint())
            // An entry point, because a task's arguments would replace a command.
            .args(["import", "--change", &format!("ENTRYPOINT [\"{PROGRAM}\"]"), "-", IMAGE])
            .stdin(archive)
            .output()
            .context("docker import")?;
        ensure!(tar.wait()?.success(), "tar has failed");
        ensure!(imported.status.success(), "docker import: {}", String::from_utf8_lossy(&imported.stderr));
        Ok(())
    }

    /// The plugin's part of a Nomad client's configuration.
    pub(super) fn plugin(&self) -> serde_json::Value {
        serde_json::json!({ "config": {
            "endpoint": self.endpoint(),
            // The guest's diary is a folder of the host, and has the pids of the host.
            "volumes": { "enabled": true },
            "allow_privileged": true,
            // The image is used again by the next scenario, and cannot be fetched.
            "gc": { "image": false }
        } })
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Its containers end with the guests' owner, and the sweeper removes what is left of them.
        let _ = self.engine.kill();
        let _ = self.engine.wait();
    }
}

fn address(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}
