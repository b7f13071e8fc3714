//! Connections to backends: made, kept for the next request, and never shared between two allocations.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bivouac_protocol::{AllocationId, Endpoint, Generation, Route};
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::stream::{Socket, Wire};

/// A connection is kept so long without use. Short, because backends give up idle connections too, and the shorter the
/// idling the rarer a request meets one that was just given up.
const KEEP: Duration = Duration::from_secs(30);
/// Kept at most, per allocation.
const KEPT_EACH: usize = 256;
/// A request that must not be sent twice only takes a connection that was in use this recently.
const FRESH: Duration = Duration::from_secs(1);

/// A host that vanished is noticed after this long a silence towards what was sent, instead of after a quarter of an
/// hour. The same goes for a backend that reads nothing of a body: it may be busy, but not for ever.
const UNHEARD: Duration = Duration::from_secs(30);
/// While a response is waited for and nothing is sent, the host is asked whether it is still there: several times within
/// [`UNHEARD`], so that one lost packet is no death.
const ASKED: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(10))
    .with_interval(Duration::from_secs(5))
    .with_retries(4);

/// What a kept connection may be used for. The allocation is part of it: another one may listen at the same address a
/// moment later.
struct Owner {
    route: Arc<Route>,
    /// Two ports of one allocation are two things.
    address: SocketAddr,
}

impl Owner {
    fn identity(&self) -> (&AllocationId, Generation, SocketAddr) {
        (&self.route.allocation, self.route.generation, self.address)
    }

    fn new(route: &Arc<Route>, endpoint: &Endpoint) -> Self {
        Self { route: route.clone(), address: endpoint.address }
    }
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Owner {}

impl Hash for Owner {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

struct Idle {
    wire: Wire,
    since: Instant,
}

/// A connection to a backend, for one request.
pub(crate) struct Backend {
    /// The connection.
    pub(crate) wire: Wire,
    /// Whether it has carried a request before: then the backend may have given it up at this very moment.
    pub(crate) reused: bool,
}

/// Why no connection could be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectError {
    /// Nothing listens there.
    Refused,
    /// No answer in time, or its host cannot be reached.
    Unreachable,
    /// Anything else.
    Failed,
}

/// The connections that are kept.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<Owner, Vec<Idle>>>,
}

impl Pool {
    /// The kept connection that was used last, if it is still good. `repeatable`: the request could be sent again.
    pub(crate) fn take(&self, route: &Arc<Route>, endpoint: &Endpoint, repeatable: bool) -> Option<Backend> {
        let mut idle = self.idle.lock();
        let kept = idle.get_mut(&Owner::new(route, endpoint))?;
        let longest = if repeatable { KEEP } else { FRESH };
        while let Some(Idle { wire, since }) = kept.pop() {
            if since.elapsed() > longest {
                // All below it have waited longer.
                kept.push(Idle { wire, since });
                return None;
            }
            if wire.outlet.socket().is_quiet() {
                return Some(Backend { wire, reused: true });
            }
        }
        None
    }

    /// Keeps a connection on which both messages have ended cleanly.
    pub(crate) fn keep(&self, route: &Arc<Route>, endpoint: &Endpoint, wire: Wire) {
        let mut idle = self.idle.lock();
        let kept = idle.entry(Owner::new(route, endpoint)).or_default();
        if kept.len() < KEPT_EACH {
            kept.push(Idle { wire, since: Instant::now() });
        }
    }

    /// Lets go of what has waited too long, or was closed by its backend.
    pub(crate) fn sweep(&self) {
        self.idle.lock().retain(|_, kept| {
            kept.retain(|idle| idle.since.elapsed() <= KEEP && idle.wire.outlet.socket().is_quiet());
            !kept.is_empty()
        });
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.idle.lock().values().map(Vec::len).sum()
    }
}

/// Opens a connection for one request.
pub(crate) async fn connect(address: SocketAddr, timeout: Duration) -> Result<Backend, ConnectError> {
    let stream = dial(address, timeout).await?;
    Ok(Backend { wire: Wire::new(Socket::plain(stream)), reused: false })
}

/// Opens a TCP connection.
pub(crate) async fn dial(address: SocketAddr, timeout: Duration) -> Result<TcpStream, ConnectError> {
    let stream = match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Err(ConnectError::Refused);
        }
        Ok(Err(error)) if is_out_of_reach(&error) => return Err(ConnectError::Unreachable),
        Ok(Err(_)) => return Err(ConnectError::Failed),
        Err(_) => return Err(ConnectError::Unreachable),
    };
    // A port of the ephemeral range that nobody listens on can be given to our own end: TCP then connects it to itself.
    if stream.local_addr().is_ok_and(|local| local == address) {
        return Err(ConnectError::Refused);
    }
    prepare(&stream);
    Ok(stream)
}

/// Best effort: each of these only helps where something else has gone wrong.
fn prepare(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    // Without it a small write may wait for an acknowledgement.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&ASKED);
    let _ = socket.set_tcp_user_timeout(Some(UNHEARD));
}

/// For a tunnel: a backend may leave bytes unread for longer than a request would wait, and is asked less often. Whoever
/// carries the bytes bounds both.
pub(crate) fn let_rest(socket: &Socket) {
    if let Some(stream) = socket.tcp() {
        let _ = SockRef::from(stream).set_tcp_user_timeout(None);
    }
}

/// Whether the network, and not the host, says no.
fn is_out_of_reach(error: &io::Error) -> bool {
    use io::ErrorKind::{HostUnreachable, NetworkUnreachable, TimedOut};
    matches!(error.kind(), HostUnreachable | NetworkUnreachable | TimedOut)
}

#[cfg(test)]
mod tests;
