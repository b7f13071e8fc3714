//! What is asked: two sessions that run for as long as the measurement, and everybody in front of them.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bivouac_client::SpawnRequest;
use bivouac_protocol::SessionId;

use crate::backend;
use crate::load::Aim;
use crate::peers::{self, Peer};
use crate::process::Process;
use crate::rig::Rig;

/// Two sessions and the yardsticks that serve them, too.
pub(crate) struct Bed {
    /// Its backend is nginx.
    pub(crate) small: Seat,
    /// Its backend is the guest.
    pub(crate) guest: Seat,
    peers: [Peer; 2],
}

/// One session.
pub(crate) struct Seat {
    id: SessionId,
    pub(crate) host: String,
    backend: SocketAddr,
}

/// Somebody who can be asked for a session.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) name: &'static str,
    /// Whose processor time and memory are looked at.
    pub(crate) process: Option<&'a Process>,
    pub(crate) plain: SocketAddr,
    /// Of the backend itself, its plain port.
    pub(crate) tls: SocketAddr,
}

impl Bed {
    pub(crate) async fn make(rig: &mut Rig, binaries: &peers::Binaries) -> Result<Self> {
        let small = Seat::take(rig, &SpawnRequest::new(backend::SMALL)).await?;
        // It says back what it hears, and keeps next to nothing for each connection.
        let env = [("GUEST_MODE".to_owned(), "raw".to_owned())].into();
        let guest = Seat::take(rig, &SpawnRequest { env, ..SpawnRequest::new(backend::GUEST) }).await?;
        let routes = [&small, &guest].map(|seat| (seat.host.clone(), seat.backend));
        let peers = binaries.start(rig, &routes).await?;
        Ok(Self { small, guest, peers })
    }

    /// nginx, haproxy, the proxy.
    pub(crate) fn proxies<'a>(&'a self, rig: &'a Rig) -> [Subject<'a>; 3] {
        let peer = |peer: &'a Peer| Subject {
            name: peer.name,
            process: Some(&peer.process),
            plain: peer.plain,
            tls: peer.tls,
        };
        let [nginx, haproxy] = &self.peers;
        [peer(nginx), peer(haproxy), rig.subject()]
    }

    pub(crate) async fn clear(self, rig: &Rig) -> Result<()> {
        rig.end(&self.small.id).await?;
        rig.end(&self.guest.id).await?;
        Ok(())
    }
}

impl Seat {
    async fn take(rig: &Rig, request: &SpawnRequest) -> Result<Self> {
        let session = rig.spawn_as(request).await?;
        let session = rig.until_ready(&session.id).await?;
        let allocation = session.allocation.as_ref().context("a ready session without an allocation")?;
        let backend = rig.address(allocation).await?;
        let host = format!("{}.localhost", session.id);
        Ok(Self { id: session.id, host, backend })
    }

    /// Its backend itself.
    pub(crate) fn directly(&self) -> Subject<'_> {
        Subject { name: "the backend itself", process: None, plain: self.backend, tls: self.backend }
    }

    /// This session at an address.
    pub(crate) fn at(&self, address: SocketAddr) -> Aim<'_> {
        Aim { address, host: &self.host }
    }
}
