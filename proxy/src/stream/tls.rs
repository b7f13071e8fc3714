//! TLS on a TCP connection, as a [`super::Socket`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};

use bytes::BufMut;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::io::poll_read_buf;

use super::socket;

/// A connection whose handshake is over.
#[derive(Debug)]
pub(crate) struct Tls {
    tcp: Arc<TcpStream>,
    /// Reading may have to write, and the other way round. Never held over a wait.
    session: Mutex<TlsStream<Shared>>,
    /// Its end is a failure: nobody is told that all was said.
    broken: AtomicBool,
    /// The end was said.
    ended: AtomicBool,
}

impl Tls {
    pub(crate) fn new(tcp: Arc<TcpStream>, session: TlsStream<Shared>) -> Self {
        Self {
            tcp,
            session: Mutex::new(session),
            broken: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        }
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    pub(super) fn poll_recv<B: BufMut>(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut B,
    ) -> Poll<io::Result<usize>> {
        poll_read_buf(Pin::new(&mut *self.session.lock()), cx, buffer)
    }

    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut session = self.session.lock();
        let session = Pin::new(&mut *session);
        let sent = match (first, second) {
            (one, []) | ([], one) => session.poll_write(cx, one),
            _ => session.poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)]),
        };
        match ready!(sent) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            sent => Poll::Ready(sent),
        }
    }

    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.session.lock()).poll_flush(cx)
    }

    /// Says that nothing more comes, in TLS and in TCP. Everything was flushed before, so that the few bytes of it are
    /// taken at once; where they are not, nobody has read for long.
    pub(super) fn end(&self) -> bool {
        if self.ended.swap(true, Ordering::Relaxed) {
            return true;
        }
        let mut session = self.session.lock();
        let shut = Pin::new(&mut *session).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        matches!(shut, Poll::Ready(Ok(())))
    }

    pub(super) fn break_off(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// Whether all that was decrypted has been read.
    pub(super) fn has_nothing_read_ahead(&self) -> bool {
        self.session.lock().get_ref().1.wants_read()
    }
}

impl Drop for Tls {
    /// A response that ends with its connection is whole only if its end was said.
    fn drop(&mut self) {
        if !*self.broken.get_mut() {
            self.end();
        }
    }
}

/// The TCP connection below: shared with whoever watches for its end.
#[derive(Debug)]
pub(crate) struct Shared(pub(crate) Arc<TcpStream>);

impl AsyncRead for Shared {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        socket::poll_recv(&self.0, cx, buffer).map_ok(|_| ())
    }
}

impl AsyncWrite for Shared {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        socket::poll_send(&self.0, cx, data, &[])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write_vectored(pieces) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match rustix::net::shutdown(&*self.0, rustix::net::Shutdown::Write) {
            // The other end is gone: it is not told, and needs not be.
            Err(rustix::io::Errno::NOTCONN) | Ok(()) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}
