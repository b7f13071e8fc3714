//! The agent we talk to, and the leader behind it.

use reqwest::Method;
use serde::Deserialize;

use crate::decode::nullable;
use crate::{Client, Error};

/// The agent that answers our calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Its version, for example `1.11.3`.
    pub version: String,
    /// Its region.
    pub region: String,
}

impl Agent {
    /// Major and minor number of its version.
    #[must_use]
    pub fn release(&self) -> Option<(u32, u32)> {
        let mut numbers = self.version.split(['.', '-', '+']);
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

#[derive(Deserialize)]
struct SelfAnswer {
    config: AgentConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AgentConfig {
    version: AgentVersion,
    #[serde(default, deserialize_with = "nullable")]
    region: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AgentVersion {
    version: String,
}

impl Client {
    /// The agent's version and region. Needs `agent:read` where ACLs are on.
    ///
    /// # Errors
    /// [`Error::Denied`] without that capability.
    pub async fn agent(&self) -> Result<Agent, Error> {
        let transport = self.transport.optional();
        let answer: SelfAnswer = transport.value(transport.call(Method::GET, &["agent", "self"])).await?;
        Ok(Agent { version: answer.config.version.version, region: answer.config.region })
    }

    /// The leader's address (host and port). Needs no token.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while there is none.
    pub async fn leader(&self) -> Result<String, Error> {
        let leader: String =
            self.transport.value(self.transport.call(Method::GET, &["status", "leader"])).await?;
        if leader.is_empty() { Err(Error::Unavailable("No cluster leader".into())) } else { Ok(leader) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_as_numbers() {
        let release = |version: &str| Agent { version: version.into(), region: String::new() }.release();
        assert_eq!(release("1.11.3"), Some((1, 11)));
        assert_eq!(release("2.0.6-dev"), Some((2, 0)));
        assert_eq!(release("1.8+ent"), Some((1, 8)));
        assert_eq!(release("new"), None);
    }
}
