//! Takes connections in, until the proxy is told to stop.

mod certificate;
mod greeting;
pub(crate) mod places;
mod proxy_protocol;
mod tls;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use ipnet::IpNet;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Access;
use crate::admission::Admission;
use crate::h2;
use crate::log::Log;
use crate::metrics::TurnedAway;
use crate::options::{Edge, Limits};
use crate::upstream::Pool;
pub(crate) use certificate::Certificate;
pub use certificate::CertificateError;
use greeting::Arrival;
use places::{Full, Places};
pub(crate) use tls::Handshake;

/// A client that vanished without a word is noticed after this much silence, and a few unanswered questions.
pub(crate) const TCP_KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);
/// How often kept connections to backends are looked through.
const SWEEP: Duration = Duration::from_secs(5);
/// Pause after a failed accept: usually no file descriptor was left.
const BREATH: Duration = Duration::from_millis(50);

/// What every connection needs.
pub(crate) struct Gateway {
    /// Decides whether, and where to, a request may go.
    pub(crate) admission: Admission,
    /// The sessions' domain, lower case, without a port.
    pub(crate) domain: String,
    /// Bounds on what a client may take.
    pub(crate) limits: Limits,
    /// Who may enter which session.
    pub(crate) access: Arc<Access>,
    /// Connections to backends that speak HTTP/1.
    pub(crate) pool: Pool,
    /// Connections to backends that speak HTTP/2.
    pub(crate) h2: h2::Backends,
    /// Where requests are written down.
    pub(crate) log: Log,
    /// Whether the proxy goes on.
    pub(crate) closing: Closing,
    /// Knows every connection and tunnel.
    pub(crate) tracker: TaskTracker,
    /// How many connections there may be.
    places: Arc<Places>,
    /// Connections from there begin with a PROXY header.
    proxy_protocol_from: Vec<IpNet>,
    /// What is said there of other clients is believed.
    hops: Arc<[IpNet]>,
}

/// The proxy's end, as its connections learn of it.
pub(crate) struct Closing {
    /// Fired when the proxy stops: nothing new begins.
    pub(crate) token: CancellationToken,
    /// Another process serves from here on: whoever rests need not be cut, and learns of it with its next request. Set
    /// before the token fires.
    pub(crate) successor: AtomicBool,
}

impl Closing {
    /// Resolves when connections that rest have to end.
    pub(crate) async fn rests_end(&self) {
        self.token.cancelled().await;
        if self.may_rest_on() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether connections that rest may go on although the proxy stops.
    pub(crate) fn may_rest_on(&self) -> bool {
        self.successor.load(Ordering::Relaxed)
    }
}

impl Gateway {
    /// With the usual bounds, and nothing in front of it.
    pub(crate) fn new(
        admission: Admission,
        domain: &str,
        shutdown: CancellationToken,
        tracker: TaskTracker,
    ) -> Self {
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        let limits = Limits::default();
        Self {
            access: admission.access().clone(),
            admission,
            domain,
            pool: Pool::default(),
            h2: h2::Backends::default(),
            log: Log::default(),
            closing: Closing { token: shutdown, successor: AtomicBool::new(false) },
            tracker,
            places: Places::new(limits.connections, limits.per_client),
            limits,
            proxy_protocol_from: Vec::new(),
            hops: Arc::default(),
        }
    }

    /// What it is told by its flags.
    pub(crate) fn at(self, edge: &Edge, log: Log) -> Self {
        Self {
            log,
            limits: edge.limits.clone(),
            places: Places::new(edge.limits.connections, edge.limits.per_client),
            proxy_protocol_from: edge.proxy_protocol_from.clone(),
            hops: edge.trusted_hops.iter().copied().collect(),
            ..self
        }
    }

    /// Counts a connection that nothing comes of.
    fn turn_away<T>(&self, why: TurnedAway) -> Option<T> {
        self.admission.metrics().turned_away(why);
        None
    }
}

/// A listening socket, and what is spoken there. Cheap to clone; the socket is closed with the last of them.
#[derive(Clone)]
pub(crate) struct Door {
    listener: Arc<TcpListener>,
    handshake: Option<Handshake>,
}

impl Door {
    /// `handshake`: TLS is spoken there.
    pub(crate) fn new(listener: TcpListener, handshake: Option<Handshake>) -> Self {
        if let Err(error) = prepare(&listener) {
            tracing::warn!(%error, "The listener's TCP options could not be set; vanished clients may stay unnoticed.");
        }
        Self { listener: Arc::new(listener), handshake }
    }

    /// Its descriptor, for whoever is to listen there next.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Accepts connections for as long as it is polled. Requests that run then are answered, tunnels live on: the
    /// tracker's owner waits for them as long as it likes.
    pub(crate) async fn accept(self, gateway: Arc<Gateway>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, client)) => take(&gateway, stream, client.ip(), self.handshake.clone()),
                Err(error) => rest(error).await,
            }
        }
    }
}

/// Accepts what waits already: a listening socket that is closed resets what is in its queue.
pub(crate) fn accept_waiting(door: &Door, gateway: &Arc<Gateway>) {
    while let Some(Ok((stream, client))) = door.listener.accept().now_or_never() {
        take(gateway, stream, client.ip(), door.handshake.clone());
    }
}

/// Sets what every connection needs. Linux hands these options down from the listener: a few system calls here spare as
/// many on each connection.
fn prepare(listener: &TcpListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TCP_KEEPALIVE)
}

fn take(gateway: &Arc<Gateway>, stream: TcpStream, peer: IpAddr, handshake: Option<Handshake>) {
    match gateway.places.take() {
        Ok(place) => {
            let arrival = Arrival { stream, peer, place, handshake };
            gateway.tracker.spawn(greeting::welcome(gateway.clone(), arrival));
        }
        Err(Full::Total | Full::Client) => gateway.admission.metrics().turned_away(TurnedAway::Full),
    }
}

async fn rest(error: io::Error) {
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        tracing::warn!(%error, "A connection could not be accepted.");
        tokio::time::sleep(BREATH).await;
    }
}

/// Keeps the connections to backends tidy, until the proxy stops.
pub(crate) async fn sweep(gateway: Arc<Gateway>) {
    let mut ticks = tokio::time::interval(SWEEP);
    while gateway.closing.token.run_until_cancelled(ticks.tick()).await.is_some() {
        gateway.pool.sweep();
        gateway.h2.sweep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accepted_connections_have_the_listeners_options() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        prepare(&listener).unwrap();
        let (_client, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let accepted = accepted.unwrap().0;
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
    }
}
