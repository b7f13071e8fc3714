//! Where a session's allocation listens.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::id::{AllocationId, Generation, PortLabel, SessionId};

/// What the backend speaks on its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1, with upgrades.
    #[default]
    Http,
    /// HTTP/2 by prior knowledge, without TLS: gRPC, for one.
    H2c,
}

impl Protocol {
    /// The same in a template, in tags and in Consul's meta.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::H2c => "h2c",
        }
    }
}

/// Who may enter a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Whoever knows its hostname. What a document that says nothing means; a *template* that says nothing means tickets.
    #[default]
    Public,
    /// Whoever shows a ticket.
    Ticket,
}

/// What a session's template says about its traffic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Rules {
    /// Who may enter.
    pub access: Access,
    /// Requests to these paths are no application bytes: exact, or a prefix that ends in `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore_paths: Vec<String>,
    /// Bytes that a request's body may have; `None`: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body: Option<u64>,
    /// Requests and connections that may be open at the same time on one proxy; `None`: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
}

/// One of an allocation's ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where it listens, or will listen.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// How far it has come.
    pub phase: RoutePhase,
}

/// How far the allocation behind a route has come. Only rises within a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoutePhase {
    /// Placed: the address is known, nothing listens there yet. Requests are held.
    Starting,
    /// A probe got through. Requests are forwarded.
    Ready,
}

/// Session and generation to allocation and addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Route {
    /// Whose route.
    pub session: SessionId,
    /// Which run of it. Routes are ordered by generation, then phase.
    pub generation: Generation,
    /// The pinned allocation: identity of what listens at `address`.
    pub allocation: AllocationId,
    /// Label of the port in the template.
    pub port: PortLabel,
    /// Where the allocation listens, or will listen.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// How far it has come.
    pub phase: RoutePhase,
    /// The template's other ports.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub further: BTreeMap<PortLabel, Endpoint>,
    /// Whether the session ends when its connections fall silent: bytes are looked at only then.
    #[serde(default)]
    pub quiet: bool,
    /// What else its template says about its traffic.
    #[serde(default)]
    pub rules: Rules,
}

impl Route {
    /// With one port, and nothing said of its traffic.
    #[must_use]
    pub fn new(
        session: SessionId,
        generation: Generation,
        allocation: AllocationId,
        port: PortLabel,
        endpoint: Endpoint,
    ) -> Self {
        let Endpoint { address, protocol, phase } = endpoint;
        let (further, rules) = (BTreeMap::new(), Rules::default());
        Self { session, generation, allocation, port, address, protocol, phase, further, quiet: false, rules }
    }

    /// The port that requests without a label go to.
    #[must_use]
    pub fn default_endpoint(&self) -> Endpoint {
        Endpoint { address: self.address, protocol: self.protocol, phase: self.phase }
    }

    /// The port with this label; `None` is the default one.
    #[must_use]
    pub fn endpoint(&self, label: Option<&PortLabel>) -> Option<Endpoint> {
        match label {
            Some(label) if *label != self.port => self.further.get(label).copied(),
            _ => Some(self.default_endpoint()),
        }
    }
}
