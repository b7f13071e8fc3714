//! Ports of loopback that stay ours for as long as the agents live, also while one of them is down.

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;

use anyhow::{Result, bail};
use rand::Rng;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

/// Below the range of dynamic ports and below the kernel's range for outgoing connections, so that nobody takes one by
/// chance.
const FREE: RangeInclusive<u16> = 10_000..=14_999;

/// Of Nomad's usual range of dynamic ports, which a proxy's default configuration accepts, the part from which the
/// embedded mode takes none for its children: Nomad does not look whether a port is free before it hands it out.
const DYNAMIC: RangeInclusive<u16> = 20_000..=27_999;

/// How many dynamic ports a client gets.
const BLOCK: u16 = 320;

/// The ports of one group of agents.
#[derive(Debug, Default)]
pub(super) struct Ports {
    held: Vec<OwnedFd>,
}

impl Ports {
    /// Holds a free port, for TCP; for UDP it is free at this moment.
    pub(super) fn free(&mut self) -> Result<u16> {
        for _ in 0..1_000 {
            let port = rand::rng().random_range(FREE);
            if self.exactly(port) {
                return Ok(port);
            }
        }
        bail!("no free port between {} and {}", FREE.start(), FREE.end())
    }

    /// Holds `wanted` if nobody listens there, else another one.
    pub(super) fn preferably(&mut self, wanted: Option<u16>) -> Result<u16> {
        let Some(port) = wanted else { return self.free() };
        if self.exactly(port) {
            return Ok(port);
        }
        // Connections of an earlier cluster may still be closing. That does not keep a server from listening.
        match bound(port, Sharing::Allowed) {
            Ok(socket) if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() => {
                self.held.push(socket);
                Ok(port)
            }
            _ => self.free(),
        }
    }

    /// A range of dynamic ports that no other group has: the port before its first one is held as the claim to it.
    pub(super) fn dynamic(&mut self) -> Result<RangeInclusive<u16>> {
        let blocks = (DYNAMIC.end() - DYNAMIC.start() + 1) / BLOCK;
        for block in 0..blocks {
            let claim = DYNAMIC.start() + block * BLOCK;
            if let Ok(socket) = bound(claim, Sharing::Refused) {
                self.held.push(socket);
                return Ok(claim + 1..=claim + BLOCK - 1);
            }
        }
        bail!("all {blocks} ranges of dynamic ports are in use by other groups of agents")
    }

    fn exactly(&mut self, port: u16) -> bool {
        let Ok(socket) = bound(port, Sharing::Refused) else { return false };
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
            return false;
        }
        // Two sockets may be bound to one port when both allow it and neither listens: the agent's may then join ours,
        // while a third party that tries the port as we did is refused.
        if sockopt::set_socket_reuseaddr(&socket, true).is_err() {
            return false;
        }
        self.held.push(socket);
        true
    }
}

/// Whether a port may have other sockets that allow the same and do not listen.
#[derive(PartialEq, Eq)]
enum Sharing {
    Allowed,
    Refused,
}

/// A socket bound to the port, listening to nothing.
fn bound(port: u16, sharing: Sharing) -> std::io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, sharing == Sharing::Allowed)?;
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_held_port_is_refused_to_others_and_open_to_its_agent() {
        let mut ports = Ports::default();
        let port = ports.free().unwrap();
        assert!(!Ports::default().exactly(port));
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());

        // Like Go, the standard library allows the address to be shared.
        for _ in 0..2 {
            let agent = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
            assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
            assert!(!Ports::default().exactly(port));
            drop(agent);
        }
        drop(ports);
    }

    #[test]
    fn ranges_are_disjoint() {
        let (mut one, mut other) = (Ports::default(), Ports::default());
        let ranges = [one.dynamic().unwrap(), one.dynamic().unwrap(), other.dynamic().unwrap()];
        assert!(ranges[0].end() < ranges[1].start() && ranges[1].end() < ranges[2].start());
    }
}
