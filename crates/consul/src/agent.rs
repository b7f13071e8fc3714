//! The agent itself, and what is registered with it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::transport::ANSWER_TIMEOUT;
use crate::{Client, Error};

/// Who the agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Name of its node.
    pub node: String,
    /// Its datacenter.
    pub datacenter: String,
    /// Its version, as "1.22.5".
    pub version: String,
}

impl Agent {
    /// Major and minor number of its version.
    #[must_use]
    pub fn release(&self) -> Option<(u32, u32)> {
        let mut numbers = self.version.split(['.', '-', '+']);
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

/// A service of ours, to be registered with the agent beside us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceDefinition {
    /// Tells this instance from others; registering the same id again replaces it.
    pub id: String,
    /// The service's name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Searchable marks.
    pub tags: Vec<String>,
    /// Further facts. Consul permits 64 of them, with values of at most 512 bytes.
    pub meta: BTreeMap<String, String>,
    /// How its health is known; without one the instance is healthy as long as its node is.
    pub check: Option<Check>,
}

/// How an instance's health is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// For people.
    pub name: String,
    /// What is asked, or awaited.
    pub probe: Probe,
    /// Removes the instance after this long in a critical state. Consul's shortest is a minute.
    pub deregister_after: Option<Duration>,
}

/// What is asked, or awaited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// The instance says that it is well, with [`Client::pass_check`], at least this often.
    Ttl(Duration),
    /// The agent connects this often.
    Tcp {
        /// Where to.
        address: SocketAddr,
        /// How often.
        interval: Duration,
    },
    /// The agent expects 2xx of this URL.
    Http {
        /// Which URL.
        url: String,
        /// How often.
        interval: Duration,
    },
}

/// Longest that the agent waits for a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WireService<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    name: &'a str,
    address: String,
    port: u16,
    tags: &'a [String],
    meta: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<WireCheck<'a>>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct WireCheck<'a> {
    name: &'a str,
    /// What registers is well: it serves before it registers.
    status: &'static str,
    #[serde(rename = "TTL", skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    #[serde(rename = "TCP", skip_serializing_if = "Option::is_none")]
    tcp: Option<String>,
    #[serde(rename = "HTTP", skip_serializing_if = "Option::is_none")]
    http: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deregister_critical_service_after: Option<String>,
}

impl<'a> From<&'a Check> for WireCheck<'a> {
    fn from(check: &'a Check) -> Self {
        let base = Self {
            name: &check.name,
            status: "passing",
            deregister_critical_service_after: check.deregister_after.map(go_duration),
            ..Self::default()
        };
        let asked = |interval: &Duration| (Some(go_duration(*interval)), Some(go_duration(PROBE_TIMEOUT)));
        match &check.probe {
            Probe::Ttl(ttl) => Self { ttl: Some(go_duration(*ttl)), ..base },
            Probe::Tcp { address, interval } => {
                let (interval, timeout) = asked(interval);
                Self { tcp: Some(address.to_string()), interval, timeout, ..base }
            }
            Probe::Http { url, interval } => {
                let (interval, timeout) = asked(interval);
                Self { http: Some(url), interval, timeout, ..base }
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Myself {
    config: MyConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MyConfig {
    #[serde(default)]
    datacenter: String,
    #[serde(default)]
    node_name: String,
    #[serde(default)]
    version: String,
}

impl Client {
    /// Registers an instance with the agent, passing from the start.
    ///
    /// # Errors
    /// When Consul does not answer or does not accept it. Registering again is safe.
    pub async fn register_service(&self, service: &ServiceDefinition) -> Result<(), Error> {
        let wire = WireService {
            id: &service.id,
            name: &service.name,
            address: service.address.ip().to_string(),
            port: service.address.port(),
            tags: &service.tags,
            meta: &service.meta,
            check: service.check.as_ref().map(WireCheck::from),
        };
        let request = self
            .transport
            .request(Method::PUT, ["agent", "service", "register"], ANSWER_TIMEOUT)
            .query(&[("replace-existing-checks", "true")])
            .json(&wire);
        self.transport.send(request).await?.or_missing().map(drop)
    }

    /// Removes an instance from the agent; `false` when it was not registered there.
    ///
    /// # Errors
    /// When Consul does not answer.
    pub async fn deregister_service(&self, id: &str) -> Result<bool, Error> {
        let request =
            self.transport.request(Method::PUT, ["agent", "service", "deregister", id], ANSWER_TIMEOUT);
        Ok(self.transport.send(request).await?.found)
    }

    /// Says that a service with a [`Probe::Ttl`] is well; `false` when it is not registered, as after the agent lost
    /// its state: register again.
    ///
    /// # Errors
    /// When Consul does not answer.
    pub async fn pass_check(&self, service: &str) -> Result<bool, Error> {
        let check = format!("service:{service}");
        let request = self.transport.request(Method::PUT, ["agent", "check", "pass", &check], ANSWER_TIMEOUT);
        Ok(self.transport.send(request).await?.found)
    }

    /// Who the agent is. Needs `agent:read`.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub async fn agent(&self) -> Result<Agent, Error> {
        let transport = self.transport.optional();
        let request = transport.request(Method::GET, ["agent", "self"], ANSWER_TIMEOUT);
        let Myself { config } = transport.send(request).await?.or_missing()?.json()?;
        Ok(Agent { node: config.node_name, datacenter: config.datacenter, version: config.version })
    }

    /// Address of the servers' leader, `None` while there is none. Needs no permission.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub async fn leader(&self) -> Result<Option<String>, Error> {
        let request = self.transport.request(Method::GET, ["status", "leader"], ANSWER_TIMEOUT);
        let leader: String = self.transport.send(request).await?.or_missing()?.json()?;
        Ok(Some(leader).filter(|leader| !leader.is_empty()))
    }
}

/// A duration in Go's notation, to the millisecond.
pub(crate) fn go_duration(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_description_of_itself_is_read() {
        let Myself { config } = serde_json::from_str(include_str!("wire/agent_self.json")).unwrap();
        assert_eq!((config.datacenter.as_str(), config.version.as_str()), ("dc1", "1.22.5"));
    }

    #[test]
    fn checks_are_written_as_consul_reads_them() {
        let check = |probe| {
            let check =
                Check { name: "alive".into(), probe, deregister_after: Some(Duration::from_secs(60)) };
            serde_json::to_value(WireCheck::from(&check)).unwrap()
        };
        assert_eq!(
            check(Probe::Ttl(Duration::from_secs(15))),
            serde_json::json!({"Name": "alive", "Status": "passing", "TTL": "15000ms", "DeregisterCriticalServiceAfter": "60000ms"})
        );
        let interval = Duration::from_secs(10);
        assert_eq!(
            check(Probe::Http { url: "http://127.0.0.1:1/livez".into(), interval }),
            serde_json::json!({"Name": "alive", "Status": "passing", "HTTP": "http://127.0.0.1:1/livez",
                "Interval": "10000ms", "Timeout": "2000ms", "DeregisterCriticalServiceAfter": "60000ms"})
        );
    }
}
