//! Where a session's allocation listens.

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

/// Session and generation to allocation and address.
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
}
