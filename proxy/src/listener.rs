//! Takes connections in, until the proxy is told to stop.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::connection;
use crate::upstream::Pool;

/// A client that vanished without a word is noticed after this much silence, and a few unanswered questions.
pub(crate) const TCP_KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);
/// How often kept connections to backends are looked through.
const SWEEP: Duration = Duration::from_secs(5);
/// Pause after a failed accept: usually no file descriptor was left.
const BREATH: Duration = Duration::from_millis(50);

/// Bounds on what a client may take.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Bytes of a request's head.
    pub(crate) head_bytes: usize,
    /// From the first byte of a head to its last.
    pub(crate) head_timeout: Duration,
    /// A connection may rest so long between two requests.
    pub(crate) keep_alive: Duration,
    /// A backend must take a connection within this time.
    pub(crate) connect_timeout: Duration,
    /// A browser's navigation is held so long before it gets a page that asks again.
    pub(crate) page_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 * 1024,
            head_timeout: Duration::from_secs(15),
            keep_alive: Duration::from_secs(75),
            connect_timeout: Duration::from_secs(2),
            page_after: Duration::from_secs(1),
        }
    }
}

/// What every connection needs.
pub(crate) struct Gateway {
    /// Decides whether, and where to, a request may go.
    pub(crate) admission: Admission,
    /// The sessions' domain, lower case, without a port.
    pub(crate) domain: String,
    /// Bounds on what a client may take.
    pub(crate) limits: Limits,
    /// Connections to backends.
    pub(crate) pool: Pool,
    /// Fired when the proxy stops: nothing new begins.
    pub(crate) shutdown: CancellationToken,
    /// Knows every connection and tunnel.
    pub(crate) tracker: TaskTracker,
}

impl Gateway {
    /// With the usual bounds.
    pub(crate) fn new(
        admission: Admission,
        domain: &str,
        shutdown: CancellationToken,
        tracker: TaskTracker,
    ) -> Self {
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        Self { admission, domain, limits: Limits::default(), pool: Pool::default(), shutdown, tracker }
    }
}

/// Accepts connections until shutdown. Requests that run then are answered, tunnels live on: the tracker's owner waits
/// for them as long as it likes.
pub(crate) async fn serve(listener: TcpListener, gateway: Arc<Gateway>) {
    if let Err(error) = prepare(&listener) {
        tracing::warn!(%error, "The listener's TCP options could not be set; vanished clients may stay unnoticed.");
    }
    gateway.tracker.spawn(sweep(gateway.clone()));
    loop {
        tokio::select! {
            biased;
            () = gateway.shutdown.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => take(&gateway, stream),
                Err(error) => rest(error).await,
            },
        }
    }
}

/// Sets what every connection needs. Linux hands these options down from the listener: a few system calls here spare as
/// many on each connection.
fn prepare(listener: &TcpListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TCP_KEEPALIVE)
}

fn take(gateway: &Arc<Gateway>, stream: TcpStream) {
    // Without an address the client is gone already.
    if let Ok(client) = stream.peer_addr() {
        gateway.tracker.spawn(connection::run(gateway.clone(), stream, client.ip()));
    }
}

async fn rest(error: io::Error) {
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        tracing::warn!(%error, "A connection could not be accepted.");
        tokio::time::sleep(BREATH).await;
    }
}

async fn sweep(gateway: Arc<Gateway>) {
    let mut ticks = tokio::time::interval(SWEEP);
    while gateway.shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        gateway.pool.sweep();
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
