//! One "host" of a cluster.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use super::Agent;

/// A Nomad client and its Consul agent.
#[derive(Debug)]
pub struct Client {
    pub(super) nomad: Agent,
    pub(super) consul: Agent,
    pub(super) dynamic_ports: RangeInclusive<u16>,
}

impl Client {
    /// The Nomad agent.
    #[must_use]
    pub fn nomad(&self) -> &Agent {
        &self.nomad
    }

    /// The Consul agent.
    #[must_use]
    pub fn consul(&self) -> &Agent {
        &self.consul
    }

    /// The Consul agent's HTTP address: what a process on this "host" uses.
    #[must_use]
    pub fn consul_addr(&self) -> SocketAddr {
        self.consul.http_addr()
    }

    /// The ports that its allocations get.
    #[must_use]
    pub fn dynamic_ports(&self) -> RangeInclusive<u16> {
        self.dynamic_ports.clone()
    }
}
