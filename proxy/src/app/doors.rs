//! The listening sockets of a proxy: bound, or taken over from the proxy before; served; handed over to the next one.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

use super::{BindError, Config, at};
use crate::admin::{self, Admin};
use crate::handover::{Held, Offer, Predecessor, Role};
use crate::listener::{self, Certificate, Door, Gateway, Handshake};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 4096;

/// A socket for session traffic.
enum Reserved {
    /// Nobody can connect yet.
    Bound(TcpSocket),
    /// Another proxy listens there.
    Taken(TcpListener),
}

/// The sockets of a proxy that does not accept anything yet.
pub(super) struct Reservations {
    plain: (Reserved, SocketAddr),
    tls: Option<(Reserved, SocketAddr, Handshake)>,
    admin: Arc<TcpListener>,
    admin_address: SocketAddr,
}

/// The addresses that were bound.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub(super) plain: SocketAddr,
    pub(super) tls: Option<SocketAddr>,
    pub(super) admin: SocketAddr,
}

/// What is bound, and what is to be done about it.
pub(super) struct Bound {
    pub(super) reservations: Reservations,
    /// To be followed in its files.
    pub(super) certificate: Option<Arc<Certificate>>,
    /// Who serves there until it gives way.
    pub(super) predecessor: Option<Predecessor>,
}

/// The sockets of a proxy, listening.
pub(super) struct Doors {
    traffic: Vec<Door>,
    addresses: Addresses,
    office: Office,
    /// Accept session traffic.
    accepting: JoinSet<()>,
}

/// Where operators are served.
pub(super) struct Office {
    listener: Arc<TcpListener>,
    shown: Admin,
    serving: JoinSet<()>,
}

/// Binds what nobody serves yet, and asks whoever serves already for the rest.
pub(super) async fn bind(config: &Config) -> Result<Bound, BindError> {
    let tls = config.edge.tls.as_ref();
    let certificate = tls.map(|files| Certificate::load(files.clone())).transpose()?;
    let mut predecessor = if config.edge.take_over { find(config).await? } else { None };
    let plain = reserve(config.listen, Role::Plain, &mut predecessor).map_err(at(config.listen))?;
    let tls = match tls.zip(certificate.clone()) {
        Some((files, certificate)) => {
            let handshake = Handshake::new(certificate).map_err(BindError::Tls)?;
            let (reserved, bound) =
                reserve(files.listen, Role::Tls, &mut predecessor).map_err(at(files.listen))?;
            Some((reserved, bound, handshake))
        }
        None => None,
    };
    let admin = match taken(Role::Admin, &mut predecessor).map_err(at(config.admin))? {
        Some(listener) => listener,
        None => TcpListener::bind(config.admin).await.map_err(at(config.admin))?,
    };
    let admin_address = admin.local_addr().map_err(at(config.admin))?;
    let reservations = Reservations { plain, tls, admin: Arc::new(admin), admin_address };
    Ok(Bound { reservations, certificate, predecessor })
}

/// The proxy that serves from the same data directory, and copies of its sockets.
async fn find(config: &Config) -> Result<Option<Predecessor>, BindError> {
    let mut wanted = vec![(Role::Plain, config.listen), (Role::Admin, config.admin)];
    wanted.extend(config.edge.tls.as_ref().map(|tls| (Role::Tls, tls.listen)));
    Predecessor::find(&config.data_dir, &wanted).await.map_err(BindError::TakeOver)
}

fn reserve(
    address: SocketAddr,
    role: Role,
    predecessor: &mut Option<Predecessor>,
) -> io::Result<(Reserved, SocketAddr)> {
    if let Some(listener) = taken(role, predecessor)? {
        let bound = listener.local_addr()?;
        return Ok((Reserved::Taken(listener), bound));
    }
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let bound = socket.local_addr()?;
    Ok((Reserved::Bound(socket), bound))
}

fn taken(role: Role, predecessor: &mut Option<Predecessor>) -> io::Result<Option<TcpListener>> {
    let Some(listener) = predecessor.as_mut().and_then(|predecessor| predecessor.socket(role)) else {
        return Ok(None);
    };
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener).map(Some)
}

impl Reserved {
    fn listen(self) -> io::Result<TcpListener> {
        match self {
            Self::Bound(socket) => socket.listen(BACKLOG),
            Self::Taken(listener) => Ok(listener),
        }
    }
}

impl Reservations {
    pub(super) fn addresses(&self) -> Addresses {
        let tls = self.tls.as_ref().map(|(_, bound, _)| *bound);
        Addresses { plain: self.plain.1, tls, admin: self.admin_address }
    }

    pub(super) fn office(&self, shown: Admin) -> Office {
        Office { listener: self.admin.clone(), shown, serving: JoinSet::new() }
    }

    /// Listens: from here on clients can connect, and wait to be accepted.
    pub(super) fn listen(self, office: Office) -> Result<Doors, BindError> {
        let addresses = self.addresses();
        let (plain, bound) = self.plain;
        let mut traffic = vec![Door::new(plain.listen().map_err(at(bound))?, None)];
        if let Some((reserved, bound, handshake)) = self.tls {
            traffic.push(Door::new(reserved.listen().map_err(at(bound))?, Some(handshake)));
        }
        Ok(Doors { traffic, addresses, office, accepting: JoinSet::new() })
    }
}

impl Office {
    /// Serves operators.
    pub(super) fn open(&mut self) {
        if self.serving.is_empty() {
            self.serving.spawn(admin::serve(self.listener.clone(), self.shown.clone()));
        }
    }
}

impl Doors {
    pub(super) fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Accepts connections.
    pub(super) fn open(&mut self, gateway: &Arc<Gateway>) {
        for door in &self.traffic {
            self.accepting.spawn(door.clone().accept(gateway.clone()));
        }
        self.office.open();
    }

    /// Accepts nothing more, and lets nobody connect. What has connected already is accepted.
    pub(super) async fn close(&mut self, gateway: &Arc<Gateway>) {
        let accepting = !self.accepting.is_empty();
        self.accepting.shutdown().await;
        for door in self.traffic.drain(..).filter(|_| accepting) {
            listener::accept_waiting(&door, gateway);
        }
    }

    /// Accepts nothing more. What has connected waits in the system's queue, for whoever accepts next.
    async fn pause(&mut self) {
        self.accepting.shutdown().await;
        self.office.serving.shutdown().await;
    }

    fn held(&self) -> Vec<Held<'_>> {
        let roles = [(Role::Plain, Some(self.addresses.plain)), (Role::Tls, self.addresses.tls)];
        let roles = roles.into_iter().filter_map(|(role, address)| Some((role, address?)));
        let traffic = roles.zip(&self.traffic).map(|((role, address), door)| Held {
            role,
            address,
            descriptor: door.as_fd(),
        });
        let descriptor = self.office.listener.as_fd();
        traffic.chain([Held { role: Role::Admin, address: self.addresses.admin, descriptor }]).collect()
    }

    /// Resolves when another process accepts in this one's place.
    pub(super) async fn are_taken_over(&mut self, data_dir: &Path, gateway: &Arc<Gateway>) {
        let offer = match Offer::new(data_dir) {
            Ok(offer) => offer,
            Err(error) => {
                tracing::warn!(%error, "No successor can take over from this proxy: it would have to drain first.");
                return std::future::pending().await;
            }
        };
        loop {
            let mut successor = offer.asked(&self.held()).await;
            tracing::info!("Another proxy is about to take over.");
            if let Err(error) = successor.is_ready().await {
                tracing::warn!(%error, "It has given up; this one serves on.");
                continue;
            }
            self.pause().await;
            match successor.takes_over().await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "It is gone; this one serves on."),
            }
            self.open(gateway);
        }
    }
}
