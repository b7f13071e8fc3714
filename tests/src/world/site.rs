//! Where a cluster world takes place: the real Nomad and Consul, and how a scenario looks at them.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::Answer;
use crate::agents::{Agents, AgentsConfig};

/// Whose agents a cluster world uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Those that this test run shares.
    Shared,
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
    pub(super) async fn of(whose: Whose) -> Self {
        // Never dropped: the agents end with this process.
        static SHARED: OnceCell<Agents> = OnceCell::const_new();
        let http = crate::http_client(Duration::from_secs(10));
        let agents = match whose {
            Whose::Shared => {
                let config = AgentsConfig { nomad_clients: 1, ..AgentsConfig::default() };
                let agents = SHARED.get_or_try_init(|| Agents::start(config)).await;
                Running::Shared(agents.expect("the shared agents start"))
            }
            Whose::Own => {
                let heartbeat = Duration::from_secs(2);
                let config = AgentsConfig { nomad_clients: 2, heartbeat, ..AgentsConfig::default() };
                Running::Own(Box::new(Agents::start(config).await.expect("the agents start")))
            }
        };
        Self { agents, http }
    }

    /// The agents.
    #[must_use]
    pub fn agents(&self) -> &Agents {
        match &self.agents {
            Running::Shared(agents) => agents,
            Running::Own(agents) => agents,
        }
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

    /// Asks Nomad.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn nomad(&self, method: Method, path: &str) -> Result<Answer, String> {
        Answer::to(self.http.request(method, format!("http://{}{path}", self.nomad_address()))).await
    }

    /// Asks Consul.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn consul(&self, method: Method, path: &str) -> Result<Answer, String> {
        Answer::to(self.http.request(method, format!("http://{}{path}", self.consul_address()))).await
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
