//! The yardsticks: nginx and haproxy, each as the proxy of a few sessions among a thousand hosts, with one thread as the
//! other has one, and with a certificate of this run.

mod haproxy;
mod nginx;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tokio::net::TcpStream;

use crate::process::Process;
use crate::rig::Rig;

/// Other hostnames in a yardstick's map: what a proxy looks up is one of many.
const OTHER_HOSTS: usize = 999;
/// Connections that a yardstick may have, both ends of each, within the usual limit of 20,000 open files.
const CONNECTIONS: usize = 19_600;

/// Their binaries.
pub(crate) struct Binaries {
    pub(crate) nginx: PathBuf,
    haproxy: PathBuf,
}

/// A hostname and where its backend listens.
pub(crate) type Route = (String, SocketAddr);

/// One of them, running.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) process: Process,
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
}

/// Where to listen, and for whom.
struct Plan<'a> {
    plain: SocketAddr,
    tls: SocketAddr,
    /// Certificate and key in one file.
    certificate: &'a Path,
    routes: &'a [Route],
}

impl Binaries {
    /// Those on PATH, or where Debian has them, which is not on an ordinary user's PATH.
    pub(crate) fn find() -> Result<Self> {
        let find = |name: &str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let mut candidates =
                std::env::split_paths(&path).chain(["/usr/sbin".into()]).map(|folder| folder.join(name));
            candidates
                .find(|candidate| candidate.is_file())
                .with_context(|| format!("there is no {name}: run `scripts/setup bench`"))
        };
        Ok(Self { nginx: find("nginx")?, haproxy: find("haproxy")? })
    }

    /// Starts both in front of the same backends.
    pub(crate) async fn start(&self, rig: &mut Rig, routes: &[Route]) -> Result<[Peer; 2]> {
        let nginx = start(rig, "nginx", routes, |plan, folder| {
            std::fs::write(folder.join("nginx.conf"), nginx::configuration(&plan)?)?;
            let mut command = Command::new(&self.nginx);
            command.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(folder);
            Ok(command)
        })
        .await?;
        let haproxy = start(rig, "haproxy", routes, |plan, folder| {
            std::fs::write(folder.join("hosts.map"), haproxy::map(&plan)?)?;
            std::fs::write(folder.join("haproxy.cfg"), haproxy::configuration(&plan)?)?;
            let mut command = Command::new(&self.haproxy);
            // In the foreground, one process.
            command.args(["-db", "-f", "haproxy.cfg"]);
            Ok(command)
        })
        .await?;
        Ok([nginx, haproxy])
    }
}

async fn start(
    rig: &mut Rig,
    name: &'static str,
    routes: &[Route],
    prepare: impl FnOnce(Plan<'_>, &Path) -> Result<Command>,
) -> Result<Peer> {
    let mut address = || anyhow::Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, rig.agents.reserve_port(0)?)));
    let (plain, tls) = (address()?, address()?);
    let certificate = rig.certificate.both();
    let folder = rig.folder.join(name);
    std::fs::create_dir_all(&folder)?;
    let command = prepare(Plan { plain, tls, certificate: &certificate, routes }, &folder)?;
    let mut process = Process::start(&rig.agents, name, &folder, command)?;
    process.until(async || Ok(TcpStream::connect(plain).await?)).await?;
    Ok(Peer { name, process, plain, tls })
}
