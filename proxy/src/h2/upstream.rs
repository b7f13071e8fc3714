//! Connections to backends that speak HTTP/2: many requests share one, and none is ever shared between two allocations.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bivouac_protocol::{AllocationId, Endpoint, Generation, Route};
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use h2::Ping;
use h2::client::{self, SendRequest};
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::call::Call;
use super::duplex::Duplex;
use crate::stream::Socket;
use crate::upstream::{ConnectError, dial};

/// A connection is kept so long without a request.
const KEEP: Duration = Duration::from_secs(30);
/// Requests at once on one connection, if its backend allows as many. A further one gets a connection of its own.
const SHARED_BY: usize = 100;
/// Connections at once to one backend; requests beyond wait for their turn on one of them.
const CONNECTIONS: usize = 64;
/// A backend that takes nothing at all of what is there for it is given up: its connection, or one request.
pub(super) const STALL: Duration = Duration::from_secs(60);
/// What a backend may send on one stream before its client has taken it. All streams together have as much each, so
/// that one client who takes nothing leaves the others theirs.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Bytes that a response's head may have: those of HTTP/1 have as many.
const RESPONSE_HEAD: u32 = 256 * 1024;

/// What a connection may be used for. The allocation is part of it: another one may listen at the same address a moment
/// later.
type Owner = (AllocationId, Generation, SocketAddr);

/// The connections to all backends that speak HTTP/2.
#[derive(Default)]
pub(crate) struct Backends {
    hosts: Mutex<HashMap<Owner, Arc<Host>>>,
}

/// One backend.
#[derive(Default)]
struct Host {
    links: Mutex<Vec<Arc<Link>>>,
    /// Whoever finds no connection waits for the one who makes it, instead of making another.
    dialing: tokio::sync::Mutex<()>,
}

/// One connection.
struct Link {
    requests: SendRequest<Bytes>,
    /// Requests on it.
    streams: AtomicUsize,
    /// It ended, or takes no more requests.
    over: Arc<AtomicBool>,
    used: Mutex<Instant>,
}

/// One request's share of a connection; given back when dropped.
pub(super) struct Share(Arc<Link>);

impl Backends {
    /// A place for one request. A further connection is made only where there is none, or none with room.
    ///
    /// # Errors
    /// When there is no connection, and none can be made within `timeout`.
    pub(crate) async fn open(
        &self,
        route: &Route,
        endpoint: &Endpoint,
        timeout: Duration,
    ) -> Result<Call, ConnectError> {
        let owner = (route.allocation.clone(), route.generation, endpoint.address);
        let host = self.hosts.lock().entry(owner).or_default().clone();
        if let Some(share) = host.share(SHARED_BY) {
            return Ok(Call::new(share, true));
        }
        // As long as whoever dials may take for it.
        let turn = tokio::time::timeout(timeout * 3, host.dialing.lock()).await;
        let Ok(_turn) = turn else { return Err(ConnectError::Unreachable) };
        // Somebody before us may have made one.
        let most = if host.links.lock().len() < CONNECTIONS { SHARED_BY } else { usize::MAX };
        if let Some(share) = host.share(most) {
            return Ok(Call::new(share, true));
        }
        let link = Arc::new(connect(endpoint.address, timeout).await?);
        host.links.lock().push(link.clone());
        Ok(Call::new(Share::of(link), false))
    }

    /// Lets go of what was not used for long, or has ended.
    pub(crate) fn sweep(&self) {
        self.hosts.lock().retain(|_, host| {
            host.links.lock().retain(|link| !link.is_over() && !link.rests());
            // Whoever has just looked it up is about to use it.
            Arc::strong_count(host) > 1 || !host.links.lock().is_empty()
        });
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.hosts.lock().values().map(|host| host.links.lock().len()).sum()
    }
}

impl Host {
    /// A place on the connection with the fewest requests, if that has fewer than `most` and its backend allows more.
    fn share(&self, most: usize) -> Option<Share> {
        let mut links = self.links.lock();
        links.retain(|link| !link.is_over());
        let link = links.iter().min_by_key(|link| link.streams.load(Ordering::Relaxed))?;
        let allowed =
            most.min(if most == usize::MAX { most } else { link.requests.current_max_send_streams() });
        (link.streams.load(Ordering::Relaxed) < allowed).then(|| Share::of(link.clone()))
    }
}

impl Link {
    /// Whether it takes no more requests: it has ended, or its backend has said so.
    fn is_over(&self) -> bool {
        if self.over.load(Ordering::Relaxed) {
            return true;
        }
        let mut requests = self.requests.clone();
        let refused = matches!(poll_fn(|cx| requests.poll_ready(cx)).now_or_never(), Some(Err(_)));
        if refused {
            self.over.store(true, Ordering::Relaxed);
        }
        refused
    }

    fn rests(&self) -> bool {
        self.streams.load(Ordering::Relaxed) == 0 && self.used.lock().elapsed() > KEEP
    }
}

impl Share {
    fn of(link: Arc<Link>) -> Self {
        link.streams.fetch_add(1, Ordering::Relaxed);
        Self(link)
    }

    /// Its connection.
    pub(super) fn requests(&self) -> SendRequest<Bytes> {
        self.0.requests.clone()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *self.0.used.lock() = Instant::now();
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connect(address: SocketAddr, timeout: Duration) -> Result<Link, ConnectError> {
    let stream: TcpStream = dial(address, timeout).await?;
    let duplex = Duplex::new(Socket::plain(stream), BytesMut::new(), STALL);
    let handshake = tokio::time::timeout(timeout, builder().handshake(duplex));
    let (requests, mut connection) =
        handshake.await.map_err(|_| ConnectError::Unreachable)?.map_err(|_| ConnectError::Failed)?;
    let pings = connection.ping_pong();
    let over = Arc::new(AtomicBool::new(false));
    let ended = over.clone();
    // It ends with its last request and its place in the pool.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "A connection to a backend broke.");
        }
        ended.store(true, Ordering::Relaxed);
    });
    // Its answer comes behind what the backend permits, above all how many requests at once: those beyond it would be
    // refused. A backend that is busy with something else is not given up for that.
    if let Some(mut pings) = pings
        && let Ok(Err(_)) = tokio::time::timeout(timeout, pings.ping(Ping::opaque())).await
    {
        return Err(ConnectError::Failed);
    }
    Ok(Link { requests, streams: AtomicUsize::new(0), over, used: Mutex::new(Instant::now()) })
}

fn builder() -> client::Builder {
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(RESPONSE_HEAD)
        .max_send_buffer_size(STREAM_WINDOW as usize);
    builder
}

#[cfg(test)]
mod tests;
