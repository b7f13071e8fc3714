//! A proxy in a cluster world.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, LazyLock};

use super::World;
use super::doors::Role;
use super::process::{Plan, Process};
use super::setup::secret_file;
use crate::faults::FaultProxy;

/// A proxy with a wire of its own to Consul.
#[derive(Debug)]
pub struct Gateway {
    /// The process.
    pub process: Process,
    /// In front of Consul.
    pub consul: FaultProxy,
}

impl World {
    /// Prepares a further proxy; it is not started yet.
    pub async fn prepare_proxy(&self, port: u16) -> Arc<Gateway> {
        self.prepare_proxy_with(port, &[]).await
    }

    pub(super) async fn prepare_proxy_with(&self, port: u16, flags: &[String]) -> Arc<Gateway> {
        let name = format!("proxy-{}", self.proxies().len());
        let folder = self.folder().join(&name);
        std::fs::create_dir_all(&folder).expect("the proxy's folder");
        let consul = self.fault_proxy(self.site().consul_address()).await;
        let mut args = vec!["proxy".to_owned()];
        let mut flag = |name: &str, value: &str| args.extend([format!("--{name}"), value.to_owned()]);
        flag("listen", &format!("127.0.0.1:{port}"));
        flag("admin", "127.0.0.1:0");
        flag("domain", "localhost");
        flag("link-secret-file", &secret_file(self.folder(), "link").to_string_lossy());
        flag("data-dir", &folder.join("data").to_string_lossy());
        flag("prefix", self.prefix());
        args.extend_from_slice(flags);
        self.add_proxy(name, folder, args, consul)
    }

    /// Prepares a proxy that takes over from another one on its host: with its flags and its data folder. It is not
    /// started yet.
    pub async fn prepare_successor(&self, predecessor: usize) -> Arc<Gateway> {
        let mut args = self.proxy(predecessor).process.args();
        args.push("--take-over".to_owned());
        let name = format!("proxy-{}", self.proxies().len());
        let folder = self.folder().join(&name);
        std::fs::create_dir_all(&folder).expect("the proxy's folder");
        let consul = self.fault_proxy(self.site().consul_address()).await;
        self.add_proxy(name, folder, args, consul)
    }

    fn add_proxy(
        &self,
        name: String,
        folder: PathBuf,
        args: Vec<String>,
        consul: FaultProxy,
    ) -> Arc<Gateway> {
        let env = self.reach(Role::Proxy, self.site().nomad_address(), consul.address());
        let gateway = Arc::new(Gateway { process: Process::new(Plan { name, folder, args, env }), consul });
        self.parts.gateways.lock().push(gateway.clone());
        gateway
    }
}

/// A port that nobody listens on, outside of the ranges from which the kernel and Nomad choose, so that it is still
/// free when a process is restarted.
///
/// # Panics
/// When none is free.
#[must_use]
pub fn free_port() -> u16 {
    // Beside those of agents, and in turn from a random place on: whoever was given one before may be about to listen
    // there, in this test run or in another.
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(rand::random_range(0..5_000)));
    (0..5_000)
        .map(|_| 15_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 5_000)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a free port")
}
