//! Where a cluster world takes place: the real Nomad and Consul, and how a scenario looks at them.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::Answer;
use crate::agents::docker::NoEngine;
use crate::agents::{Agents, AgentsConfig, Client, Locks, SESSIONS};

/// Whose agents a cluster world uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Those that this test run shares.
    Shared,
    /// Those that this test run shares for sessions in containers.
    OnDocker,
    /// Its own, to be hurt.
    Own,
}

/// The agents of a world.
#[derive(Debug)]
pub struct Site {
    agents: Running,
    http: reqwest::Client,
}

#[derive(Debug)]
enum Running {
    Shared(&'static Agents),
    Own(Box<Agents>),
}

impl Site {
    pub(super) async fn of(whose: Whose, locked: bool) -> Self {
        // Never dropped: the agents end with this process.
        static SHARED: [OnceCell<Agents>; 2] = [OnceCell::const_new(), OnceCell::const_new()];
        let http = crate::http_client(Duration::from_secs(10));
        let agents = match whose {
            Whose::Shared => {
                let config = AgentsConfig { nomad_clients: 1, locked, ..AgentsConfig::default() };
                let agents = SHARED[usize::from(locked)].get_or_try_init(|| Agents::start(config)).await;
                Running::Shared(agents.expect("the shared agents start"))
            }
            Whose::OnDocker => {
                Running::Shared(Self::on_docker().await.expect("the agents with Docker start"))
            }
            Whose::Own => {
                let heartbeat = Duration::from_secs(2);
                let config = AgentsConfig { nomad_clients: 2, heartbeat, locked, ..AgentsConfig::default() };
                Running::Own(Box::new(Agents::start(config).await.expect("the agents start")))
            }
        };
        Self { agents, http }
    }

    /// The agents with a Docker engine.
    ///
    /// # Errors
    /// Why there can be none on this machine.
    ///
    /// # Panics
    /// When there could be one, and the agents do not start.
    pub(super) async fn on_docker() -> Result<&'static Agents, String> {
        static SHARED: OnceCell<Result<Agents, String>> = OnceCell::const_new();
        let start = async || {
            let config = AgentsConfig { nomad_clients: 1, docker: true, ..AgentsConfig::default() };
            let no_engine = |error: anyhow::Error| match error.downcast::<NoEngine>() {
                Ok(why) => why.to_string(),
                Err(error) => panic!("the agents with Docker start: {error:#}"),
            };
            Agents::start(config).await.map_err(no_engine)
        };
        SHARED.get_or_init(start).await.as_ref().map_err(Clone::clone)
    }

    /// The agents.
    #[must_use]
    pub fn agents(&self) -> &Agents {
        match &self.agents {
            Running::Shared(agents) => agents,
            Running::Own(agents) => agents,
        }
    }

    /// The client that a session runs on, as its view tells.
    ///
    /// # Panics
    /// When it tells none.
    #[must_use]
    pub fn client_of(&self, view: &Value) -> &Client {
        let node = view["node"].as_str().unwrap_or_default();
        let client = self.agents().clients().iter().find(|client| node.contains(client.nomad().name()));
        client.unwrap_or_else(|| panic!("no client of this site: {view}"))
    }

    /// The Nomad server's HTTP address.
    #[must_use]
    pub fn nomad_address(&self) -> SocketAddr {
        self.agents().nomad_addr()
    }

    /// The HTTP address of the Consul agent that services and proxies use: one of a client, as on any host.
    #[must_use]
    pub fn consul_address(&self) -> SocketAddr {
        self.agents().client(0).consul_addr()
    }

    /// What opens it, if it is a locked one.
    #[must_use]
    pub fn locks(&self) -> Option<&Locks> {
        self.agents().locks()
    }

    /// A client with every right.
    #[must_use]
    pub fn http(&self) -> reqwest::Client {
        self.locks().map_or_else(|| self.http.clone(), Locks::http)
    }

    /// The Consul agent that services and proxies use, as a URL without a slash at the end.
    #[must_use]
    pub fn consul_url(&self) -> String {
        self.agents().client(0).consul().url()
    }

    /// Asks Nomad, in the namespace of the sessions.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn nomad(&self, method: Method, path: &str) -> Result<Answer, String> {
        Answer::to(self.http().request(method, self.nomad_url(path))).await
    }

    /// Has Nomad do something, as an operator does. Returns its answer.
    ///
    /// # Panics
    /// When it does not do it.
    pub async fn tell_nomad(&self, method: Method, path: &str, body: &Value) -> Value {
        let answer = Answer::to(self.http().request(method, self.nomad_url(path)).json(body)).await;
        answer.and_then(|answer| answer.expect_status(200)).expect("Nomad does it").json()
    }

    fn nomad_url(&self, path: &str) -> String {
        let namespace = match self.locks() {
            Some(_) if !path.contains("namespace=") => {
                format!("{}namespace={SESSIONS}", if path.contains('?') { '&' } else { '?' })
            }
            _ => String::new(),
        };
        format!("{}{path}{namespace}", self.agents().nomad().url())
    }

    /// Asks Consul.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn consul(&self, method: Method, path: &str) -> Result<Answer, String> {
        Answer::to(self.http().request(method, format!("{}{path}", self.consul_url()))).await
    }

    /// Registers a service with the Consul agent of services and proxies.
    ///
    /// # Errors
    /// When Consul does not take it.
    pub async fn register(&self, service: &Value) -> Result<(), String> {
        let url = format!("{}/v1/agent/service/register", self.consul_url());
        Answer::to(self.http().put(url).json(service)).await?.expect_status(200).map(drop)
    }

    /// What Consul's catalogue lists under a service's name.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn catalogue(&self, service: &str) -> Result<Vec<Value>, String> {
        let answer = self.consul(Method::GET, &format!("/v1/catalog/service/{service}?consistent")).await?;
        Ok(answer.expect_status(200)?.json().as_array().cloned().unwrap_or_default())
    }
}
