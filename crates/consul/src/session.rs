//! Sessions: holders of locks, alive as long as they are renewed.

use std::time::Duration;

use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::agent::go_duration;
use crate::transport::ANSWER_TIMEOUT;
use crate::{Client, Error};

/// What a session is to be. It depends on its renewal alone, on no node's or service's health: an agent that
/// restarts would otherwise end the sessions of all that use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionDefinition {
    /// For people.
    pub name: String,
    /// Ends this long after the last renewal, or up to twice as late. Consul permits 10 s to 24 h.
    pub ttl: Duration,
    /// What happens to its locks when it ends.
    pub behavior: Behavior,
    /// How long a lock cannot be taken by others after its session ended without giving it back. Consul permits up to
    /// 60 s.
    pub lock_delay: Duration,
}

/// What happens to a session's locks when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Behavior {
    /// They are free, and their keys stay.
    Release,
    /// Their keys are deleted.
    Delete,
}

/// A session that lives.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Session {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// The node it was created on.
    #[serde(default)]
    pub node: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WireDefinition<'a> {
    name: &'a str,
    #[serde(rename = "TTL")]
    ttl: String,
    lock_delay: String,
    behavior: Behavior,
    /// An empty list; left out, it would mean the node's own health.
    node_checks: [&'static str; 0],
}

#[derive(Deserialize)]
struct Created {
    #[serde(rename = "ID")]
    id: String,
}

impl Client {
    /// Creates a session and returns its id.
    ///
    /// # Errors
    /// When Consul does not answer; a session may then have been created, and ends with its TTL.
    pub async fn create_session(&self, definition: &SessionDefinition) -> Result<String, Error> {
        let wire = WireDefinition {
            name: &definition.name,
            ttl: go_duration(definition.ttl),
            lock_delay: go_duration(definition.lock_delay),
            behavior: definition.behavior,
            node_checks: [],
        };
        let request = self.transport.request(Method::PUT, ["session", "create"], ANSWER_TIMEOUT).json(&wire);
        let created: Created = self.transport.send(request).await?.or_missing()?.json()?;
        Ok(created.id)
    }

    /// Starts its TTL again; `false` when it is gone.
    ///
    /// # Errors
    /// When Consul does not answer.
    pub async fn renew_session(&self, id: &str) -> Result<bool, Error> {
        let request = self.transport.request(Method::PUT, ["session", "renew", id], ANSWER_TIMEOUT);
        Ok(self.transport.send(request).await?.found)
    }

    /// Ends it; one that is gone already is a success.
    ///
    /// # Errors
    /// When Consul does not answer.
    pub async fn destroy_session(&self, id: &str) -> Result<(), Error> {
        let request = self.transport.request(Method::PUT, ["session", "destroy", id], ANSWER_TIMEOUT);
        self.transport.send(request).await?.or_missing().map(drop)
    }

    /// A consistent look at one session. Where the anonymous token may not read sessions, every session looks gone.
    ///
    /// # Errors
    /// [`Error::Denied`] when Consul says that it left something out of the answer.
    pub async fn session(&self, id: &str) -> Result<Option<Session>, Error> {
        let request = self
            .transport
            .request(Method::GET, ["session", "info", id], ANSWER_TIMEOUT)
            .query(&[("consistent", "")]);
        let answer = self.transport.send(request).await?.or_missing()?;
        let mut sessions: Vec<Session> = answer.json()?;
        match sessions.pop() {
            None if answer.filtered => Err(Error::Denied("the token may not read this session".into())),
            session => Ok(session),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_the_agent_are_read() {
        let created: Created = serde_json::from_str(include_str!("wire/session_created.json")).unwrap();
        let sessions: Vec<Session> = serde_json::from_str(include_str!("wire/session.json")).unwrap();
        assert_eq!(sessions[0].id, created.id);
        assert_eq!(sessions[0].name, "bivouac leader a");
        assert!(!sessions[0].node.is_empty());
    }
}
