//! One connection as the exchange uses it: an [`Inlet`] from which a Pingora session reads and parses, and an
//! [`Outlet`] into which we write.
//!
//! Both borrow the socket at the same time, so that a response can go out while the request still comes in: something
//! a Pingora session, which wants `&mut self` for both, does not offer without channels and copies.

mod line;
mod outlet;
mod socket;
mod tls;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use line::RequestLine;
pub(crate) use outlet::Outlet;
pub(crate) use socket::Socket;
pub(crate) use tls::{Shared, Tls};

/// A connection with its two ends, between two requests.
pub(crate) struct Wire {
    /// What Pingora's sessions read from.
    pub(crate) inlet: Stream,
    /// What we write to.
    pub(crate) outlet: Outlet,
    /// What has come in.
    pub(crate) meter: Arc<Meter>,
}

impl Wire {
    /// Takes a connection over.
    pub(crate) fn new(socket: Socket) -> Self {
        let meter = Arc::new(Meter::default());
        let inlet = Box::new(Inlet { socket: socket.clone(), meter: meter.clone() });
        Self { inlet, outlet: Outlet::new(socket), meter }
    }
}

/// Counts what a message's head takes, and stops reading when it is too much: Pingora's own limit is 1 MiB.
#[derive(Debug)]
pub(crate) struct Meter {
    /// Bytes that the head may still take; `usize::MAX` outside of a head.
    allowance: AtomicUsize,
    received: AtomicBool,
    line: AtomicU8,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            allowance: AtomicUsize::new(usize::MAX),
            received: AtomicBool::new(false),
            line: AtomicU8::new(RequestLine::Over.to_bits()),
        }
    }
}

impl Meter {
    /// A head begins.
    pub(crate) fn expect_head(&self, limit: usize) {
        self.allowance.store(limit, Ordering::Relaxed);
        self.received.store(false, Ordering::Relaxed);
    }

    /// The head that begins is a request's, and so much of it was read before.
    pub(crate) fn expect_request(&self, limit: usize, ahead: &[u8]) {
        self.expect_head(limit.saturating_sub(ahead.len()));
        self.line.store(RequestLine::Before.advance(ahead).to_bits(), Ordering::Relaxed);
    }

    /// Whether the request line has more, or less, than three words: the parser may have repaired it.
    pub(crate) fn has_odd_line(&self) -> bool {
        RequestLine::from_bits(self.line.load(Ordering::Relaxed)) == RequestLine::Malformed
    }

    /// The head is complete: what follows is counted by others.
    pub(crate) fn head_done(&self) {
        self.allowance.store(usize::MAX, Ordering::Relaxed);
    }

    /// Whether anything has come in since the head was expected.
    pub(crate) fn has_received(&self) -> bool {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether the head has taken all it may.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.allowance.load(Ordering::Relaxed) == 0
    }

    fn count(&self, bytes: &[u8]) {
        self.received.store(true, Ordering::Relaxed);
        let allowance = self.allowance.load(Ordering::Relaxed);
        if allowance != usize::MAX {
            self.allowance.store(allowance.saturating_sub(bytes.len()), Ordering::Relaxed);
            let line = RequestLine::from_bits(self.line.load(Ordering::Relaxed));
            self.line.store(line.advance(bytes).to_bits(), Ordering::Relaxed);
        }
    }
}

/// The reading end, as a Pingora session wants it. What a session writes of itself goes nowhere: see [`Outlet`].
#[derive(Debug)]
struct Inlet {
    socket: Socket,
    meter: Arc<Meter>,
}

impl AsyncRead for Inlet {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.meter.is_exhausted() {
            return Poll::Ready(Err(io::Error::other("the head is larger than allowed")));
        }
        let read = ready!(self.socket.poll_recv(cx, buffer))?;
        if read > 0 {
            let filled = buffer.filled();
            self.meter.count(&filled[filled.len() - read..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Inlet {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Shutdown for Inlet {
    async fn shutdown(&mut self) {}
}

impl UniqueID for Inlet {
    fn id(&self) -> UniqueIDType {
        use std::os::fd::AsRawFd;
        self.socket.tcp().map_or(-1, AsRawFd::as_raw_fd)
    }
}

impl Ssl for Inlet {}

impl Peek for Inlet {}

impl GetTimingDigest for Inlet {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Inlet {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Inlet {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

#[cfg(test)]
mod tests;
