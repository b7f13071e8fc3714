//! Connections to backends: made, kept for the next request, and never shared between two allocations.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bivouac_protocol::{AllocationId, Generation, Route};
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::stream::{Wire, is_quiet};

/// A connection is kept so long without use. Short, because backends give up idle connections too, and the shorter the
/// idling the rarer a request meets one that was just given up.
const KEEP: Duration = Duration::from_secs(30);
/// Kept at most, per allocation.
const KEPT_EACH: usize = 256;
/// A request that must not be sent twice only takes a connection that was in use this recently.
const FRESH: Duration = Duration::from_secs(1);

/// What a kept connection may be used for. The allocation is part of it: another one may listen at the same address a
/// moment later.
struct Owner(Arc<Route>);

impl Owner {
    fn identity(&self) -> (&AllocationId, Generation, SocketAddr) {
        (&self.0.allocation, self.0.generation, self.0.address)
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
    pub(crate) fn take(&self, route: &Arc<Route>, repeatable: bool) -> Option<Backend> {
        let mut idle = self.idle.lock();
        let kept = idle.get_mut(&Owner(route.clone()))?;
        let longest = if repeatable { KEEP } else { FRESH };
        while let Some(Idle { wire, since }) = kept.pop() {
            if since.elapsed() > longest {
                // All below it have waited longer.
                kept.push(Idle { wire, since });
                return None;
            }
            if is_quiet(wire.outlet.socket()) {
                return Some(Backend { wire, reused: true });
            }
        }
        None
    }

    /// Keeps a connection on which both messages have ended cleanly.
    pub(crate) fn keep(&self, route: &Arc<Route>, wire: Wire) {
        let mut idle = self.idle.lock();
        let kept = idle.entry(Owner(route.clone())).or_default();
        if kept.len() < KEPT_EACH {
            kept.push(Idle { wire, since: Instant::now() });
        }
    }

    /// Lets go of what has waited too long, or was closed by its backend.
    pub(crate) fn sweep(&self) {
        self.idle.lock().retain(|_, kept| {
            kept.retain(|idle| idle.since.elapsed() <= KEEP && is_quiet(idle.wire.outlet.socket()));
            !kept.is_empty()
        });
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.idle.lock().values().map(Vec::len).sum()
    }
}

/// Opens a connection.
pub(crate) async fn connect(address: SocketAddr, timeout: Duration) -> Result<Backend, ConnectError> {
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
    // Best effort: without it a small write may wait for an acknowledgement.
    let _ = SockRef::from(&stream).set_tcp_nodelay(true);
    Ok(Backend { wire: Wire::new(stream), reused: false })
}

/// Whether the network, and not the host, says no.
fn is_out_of_reach(error: &io::Error) -> bool {
    use io::ErrorKind::{HostUnreachable, NetworkUnreachable, TimedOut};
    matches!(error.kind(), HostUnreachable | NetworkUnreachable | TimedOut)
}

#[cfg(test)]
mod tests;
