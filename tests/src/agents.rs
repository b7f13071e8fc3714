//! A real cluster on loopback: a Consul server, a Nomad server, and Nomad clients that have a Consul agent each.
//!
//! Every agent is a process of its own, with a port range and a folder of its own, and can be killed, frozen and started
//! again. Nothing of them is left behind, however this process ends: neither agents nor their tasks nor their files.

mod agent;
mod authority;
mod binaries;
mod client;
mod config;
mod consul;
pub(crate) mod docker;
mod keys;
mod locks;
mod nomad;
mod ports;
mod site;
mod sweeper;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

pub use agent::Agent;
pub use authority::{Authority, Certified, Validity, replace};
pub use client::Client;
pub use config::{AgentsConfig, Ports};
use docker::Docker;
pub use locks::{Granted, Locks, OTHERS, Reply, SESSIONS, rules};
use ports::Ports as Held;
use site::Site;
use sweeper::Sweeper;

/// How long a whole cluster may take to start.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running cluster. Dropping it kills all of it.
#[derive(Debug)]
pub struct Agents {
    // Dropped in this order: the agents end, then what they started is swept up, then the ports are given back.
    nomad: Agent,
    consul: Agent,
    clients: Vec<Client>,
    sweeper: Sweeper,
    ports: Held,
    standard_ports: bool,
    dir: PathBuf,
    nomad_binary: PathBuf,
    locks: Option<Locks>,
    /// Ends with the agents.
    _docker: Option<Docker>,
    http: reqwest::Client,
}

impl Agents {
    /// Starts all agents and waits until jobs can be placed on every client.
    ///
    /// # Errors
    /// If Nomad or Consul are missing, or an agent does not come up; with the end of its output.
    pub async fn start(config: AgentsConfig) -> Result<Self> {
        let (dir, files) = site::folder(config.data_dir.as_deref())?;
        let sweeper = Sweeper::start(&dir, files)?;
        let (nomad_binary, consul_binary) = (binaries::NOMAD.find()?, binaries::CONSUL.find()?);
        let locks = config.locked.then(|| Locks::new(&dir)).transpose()?;
        let docker = if config.docker { Some(Docker::start(&dir).await?) } else { None };
        let site = Site {
            locks: locks.as_ref(),
            docker: docker.as_ref(),
            dir: &dir,
            nomad: &nomad_binary,
            consul: &consul_binary,
            standard_ports: config.ports == Ports::Standard,
            heartbeat: config.heartbeat,
            path: &config.path,
        };
        let mut ports = Held::default();
        let (consul, consul_server) = consul::server(&site, &mut ports)?;
        let (nomad, nomad_server) = nomad::server(&site, &mut ports, &consul)?;
        let mut clients = Vec::new();
        for number in 1..=config.nomad_clients {
            let dynamic_ports = ports.dynamic()?;
            let consul =
                consul::client(&site, &mut ports, &format!("consul-client-{number}"), consul_server)?;
            let name = format!("client-{number}");
            let nomad = nomad::client(&site, &mut ports, &name, nomad_server, &consul, &dynamic_ports)?;
            clients.push(Client { nomad, consul, dynamic_ports });
        }
        // Short: an agent without a leader keeps a question waiting for seconds after it has got one.
        let http = crate::http_client(Duration::from_secs(2));
        let standard_ports = config.ports == Ports::Standard;
        let mut agents = Self {
            nomad,
            consul,
            clients,
            sweeper,
            ports,
            standard_ports,
            dir: dir.clone(),
            nomad_binary,
            locks,
            _docker: docker,
            http,
        };
        if let Err(error) = agents.bring_up().await {
            agents.sweeper.keep_files();
            return Err(error.context(format!("the cluster in {} does not start", dir.display())));
        }
        Ok(agents)
    }

    async fn bring_up(&self) -> Result<()> {
        self.consul.start()?;
        if let Some(locks) = &self.locks {
            self.until("Consul leads", START_LIMIT, async || self.consul_ready().await).await?;
            locks.admit_agents(&self.consul.url()).await?;
        }
        self.nomad.start()?;
        for client in &self.clients {
            client.consul.start()?;
        }
        // A client that finds no Consul, or is refused by the server, tries again a quarter of a minute later.
        self.until("Consul is ready", START_LIMIT, async || self.consul_ready().await).await?;
        let server = async || nomad::server_ready(&self.http(), &self.nomad).await;
        self.until("Nomad takes clients", START_LIMIT, server).await?;
        if let Some(locks) = &self.locks {
            locks.open_nomad(&self.nomad.url(), &self.consul.url()).await?;
        }
        for client in &self.clients {
            client.nomad.start()?;
        }
        self.wait_ready(START_LIMIT).await
    }

    /// Waits until every agent that was not stopped on purpose is of use: Consul has a leader and its members, Nomad can
    /// place jobs on its clients.
    ///
    /// # Errors
    /// If that takes longer than `limit`, or an agent has ended by itself.
    pub async fn wait_ready(&self, limit: Duration) -> Result<()> {
        self.until("Consul is ready", limit, async || self.consul_ready().await).await?;
        self.until("Nomad is ready", limit, async || self.nomad_ready().await).await
    }

    async fn consul_ready(&self) -> Result<()> {
        let agents = self.clients.iter().map(|client| &client.consul).chain([&self.consul]);
        let wanted = agents.filter(|agent| agent.is_wanted()).collect::<Vec<_>>();
        for agent in &wanted {
            consul::ready(&self.http(), agent, wanted.len()).await?;
        }
        Ok(())
    }

    async fn nomad_ready(&self) -> Result<()> {
        if !self.nomad.is_wanted() {
            return Ok(());
        }
        nomad::server_ready(&self.http(), &self.nomad).await?;
        let wanted = self.clients.iter().map(|client| &client.nomad).filter(|agent| agent.is_wanted());
        nomad::clients_ready(&self.http(), &self.nomad, &wanted.collect::<Vec<_>>()).await
    }

    /// The Nomad server's HTTP address.
    #[must_use]
    pub fn nomad_addr(&self) -> SocketAddr {
        self.nomad.http_addr()
    }

    /// The Consul server's HTTP address.
    #[must_use]
    pub fn consul_addr(&self) -> SocketAddr {
        self.consul.http_addr()
    }

    /// The Nomad server.
    #[must_use]
    pub fn nomad(&self) -> &Agent {
        &self.nomad
    }

    /// The Consul server.
    #[must_use]
    pub fn consul(&self) -> &Agent {
        &self.consul
    }

    /// What opens it, if it is locked.
    #[must_use]
    pub fn locks(&self) -> Option<&Locks> {
        self.locks.as_ref()
    }

    /// A client with every right.
    fn http(&self) -> reqwest::Client {
        self.locks.as_ref().map_or_else(|| self.http.clone(), Locks::http)
    }

    /// The clients.
    #[must_use]
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// One client, counted from 0.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub fn client(&self, number: usize) -> &Client {
        &self.clients[number]
    }

    /// The folder with all their files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes a command one of this group: it ends when the agents do, at the latest, and does not see what a person has
    /// set for the command-line tools.
    pub fn adopt<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        agent::forget_the_tools(command);
        command.env(sweeper::MARK, sweeper::mark(&self.dir))
    }

    /// Nomad's own command line, of the version that the agents run, towards their server: one of this group.
    #[must_use]
    pub fn nomad_command(&self) -> Command {
        let mut command = Command::new(&self.nomad_binary);
        self.adopt(&mut command).env("NOMAD_ADDR", self.nomad.url());
        command
    }

    /// Holds one more port of loopback for as long as the agents live: `wanted` if the servers have their standard ports
    /// and it is free, else another one. Whoever listens there must allow the address to be shared, as tokio and Go do.
    ///
    /// # Errors
    /// If no port is free.
    pub fn reserve_port(&mut self, wanted: u16) -> Result<u16> {
        self.ports.preferably(self.standard_ports.then_some(wanted))
    }

    /// Asks every 50 ms; fails at once when an agent has ended by itself.
    async fn until(&self, what: &str, limit: Duration, ask: impl AsyncFn() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + limit;
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            ticks.tick().await;
            let Err(error) = ask().await else { return Ok(()) };
            for agent in self.all() {
                agent.check()?;
            }
            if Instant::now() > deadline {
                return Err(error.context(format!("waited {limit:?} until {what}")));
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &Agent> {
        let clients = self.clients.iter().flat_map(|client| [&client.nomad, &client.consul]);
        [&self.nomad, &self.consul].into_iter().chain(clients)
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the agents' configuration, data and logs are kept in {}", self.dir.display());
            self.sweeper.keep_files();
        }
    }
}
