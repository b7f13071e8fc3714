//! A replica of the service in a cluster world.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::doors::Role;
use super::gateway::free_port;
use super::process::{Plan, Process};
use super::setup::secret_file;
use super::templates::{DEMANDING, WHITEBOARD};
use super::{Answer, World};
use crate::agents::SESSIONS;
use crate::eventually;
use crate::faults::FaultProxy;

/// A service with wires of its own to Nomad and Consul.
#[derive(Debug)]
pub struct Replica {
    /// The process.
    pub process: Process,
    /// In front of Nomad.
    pub nomad: FaultProxy,
    /// In front of Consul.
    pub consul: FaultProxy,
    link: Option<FaultProxy>,
}

impl World {
    /// Prepares a further replica; it is not started yet.
    pub(super) async fn prepare_replica(
        &self,
        session_port: u16,
        flags: &[String],
        faults_on_link: bool,
    ) -> Arc<Replica> {
        let name = format!("service-{}", self.replicas().len());
        let folder = self.folder().join(&name);
        std::fs::create_dir_all(&folder).expect("the service's folder");
        let nomad = self.fault_proxy(self.site().nomad_address()).await;
        let consul = self.fault_proxy(self.site().consul_address()).await;
        let mut args = vec!["service".to_owned()];
        let mut flag = |name: &str, value: &str| args.extend([format!("--{name}"), value.to_owned()]);
        let secret = |name| secret_file(self.folder(), name).to_string_lossy().into_owned();
        flag("api", "127.0.0.1:0");
        let internal = SocketAddr::from(([127, 0, 0, 1], free_port()));
        flag("internal", &internal.to_string());
        flag("templates", &self.templates().to_string_lossy());
        flag("session-url", &format!("http://localhost:{session_port}"));
        flag("cluster-secret-file", &secret("cluster"));
        flag("link-secret-file", &secret("link"));
        flag("ticket-secret-file", &secret("ticket"));
        flag("token-file", &secret("token"));
        flag("prefix", self.prefix());
        flag("template-var", &format!("{WHITEBOARD}.binary={}", super::product().display()));
        if self.site().locks().is_some() {
            flag("template-var", &format!("{DEMANDING}.namespace={SESSIONS}"));
        }
        args.extend_from_slice(flags);
        let mut env = Vec::new();
        let mut link = None;
        if faults_on_link {
            link = Some(FaultProxy::in_front_of(internal).await);
            // Whoever runs as a Nomad job leaves it to Nomad to register it, and here to us.
            env.push(("NOMAD_ALLOC_ID".to_owned(), format!("world-{name}")));
        }
        env.extend(self.reach(Role::Service, nomad.address(), consul.address()));
        let replica = Arc::new(Replica {
            process: Process::new(Plan { name, folder, args, env }),
            nomad,
            consul,
            link,
        });
        self.parts.replicas.lock().push(replica.clone());
        replica
    }

    /// Registers the fault proxies on the links as what proxies dial.
    pub(super) async fn register_links(&self) {
        for replica in self.replicas() {
            let service = json!({
                "ID": format!("{}-{}", self.prefix(), replica.process.name()),
                "Name": format!("{}-link", self.prefix()),
                "Address": "127.0.0.1",
                "Port": replica.link().address().port(),
            });
            self.site().register(&service).await.expect("a registration");
        }
    }
}

impl World {
    /// Registers so many replicas that are long dead, beside those that live: what is left behind by hosts that were
    /// lost with their agents.
    ///
    /// # Panics
    /// When Consul does not take them.
    pub async fn register_dead_replicas(&self, number: u8) {
        for n in 1..=number {
            let service = json!({
                "ID": format!("{}-dead-{n}", self.prefix()),
                "Name": format!("{}-link", self.prefix()),
                "Address": format!("127.0.2.{n}"),
                "Port": 1,
            });
            self.site().register(&service).await.expect("a registration");
        }
    }
}

impl Replica {
    /// On the links of proxies to it.
    ///
    /// # Panics
    /// When the world was set up without faults on links.
    #[must_use]
    pub fn link(&self) -> &FaultProxy {
        self.link.as_ref().expect("a world with faults on links")
    }

    /// Sets the failpoints from the next start on; empty: none.
    pub fn failpoints(&self, setting: &str) {
        self.process.set_env("BIVOUAC_FAILPOINTS", setting);
    }

    /// Starts it and waits until it is ready to spawn.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn start(&self) {
        self.process.launch();
        self.is_ready().await;
    }

    /// Waits until it is ready to spawn: it serves, and knows Nomad, Consul and its templates.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn is_ready(&self) {
        self.process.serves().await;
        let url = format!("{}/readyz", self.process.ready().api.expect("the API's URL"));
        let http = crate::http_client(Duration::from_secs(5));
        eventually(format!("{} is ready", self.process.name()), Duration::from_secs(30), async || {
            Answer::to(http.get(&url)).await?.expect_status(200)
        })
        .await;
    }

    /// `kill -9`, and a fresh start without failpoints.
    pub async fn crash_and_restart(&self) {
        self.process.kill();
        self.failpoints("");
        self.start().await;
    }
}
