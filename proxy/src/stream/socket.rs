//! A connection, whatever it is made of: shared by whoever reads it, writes it, or watches for its end.
//!
//! It is an enum and no trait object, so that a plain connection costs what a bare TCP stream does.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use futures::FutureExt;
use rustix::net::{RecvFlags, Shutdown, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::tls::Tls;
use crate::h2::Strand;

/// A connection. Cheap to clone. Only one task at a time may poll it for reading, and one for writing.
#[derive(Clone, Debug)]
pub(crate) enum Socket {
    /// TCP.
    Plain(Arc<TcpStream>),
    /// TLS on TCP.
    Tls(Arc<Tls>),
    /// One stream of an HTTP/2 connection.
    Strand(Arc<Strand>),
}

impl Socket {
    /// A TCP connection.
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self::Plain(Arc::new(stream))
    }

    /// Reads what is there, waiting until there is anything. Zero is the end.
    pub(crate) fn poll_recv<B: BufMut>(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut B,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => poll_recv(socket, cx, buffer),
            Self::Tls(tls) => tls.poll_recv(cx, buffer),
            Self::Strand(strand) => strand.poll_recv(cx, buffer),
        }
    }

    /// Writes some of both, waiting until any is taken. What was taken may still have to be flushed.
    pub(crate) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => poll_send(socket, cx, first, second),
            Self::Tls(tls) => tls.poll_send(cx, first, second),
            Self::Strand(strand) => strand.poll_send(cx, first, second),
        }
    }

    /// Ready when everything that was taken is on its way.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) | Self::Strand(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.poll_flush(cx),
        }
    }

    /// Tells the other end that nothing more comes. False: it is gone already.
    pub(crate) fn end(&self) -> bool {
        match self {
            Self::Plain(socket) => rustix::net::shutdown(&**socket, Shutdown::Write).is_ok(),
            Self::Tls(tls) => tls.end(),
            Self::Strand(strand) => strand.end(),
        }
    }

    /// Makes the connection's end visible as a failure: the other end sees a reset, never a clean end.
    pub(crate) fn break_off(&self) {
        match self {
            Self::Tls(tls) => tls.break_off(),
            Self::Strand(strand) => strand.break_off(),
            Self::Plain(_) => {}
        }
        if let Some(socket) = self.tcp() {
            let _ = socket.set_zero_linger();
        }
    }

    /// Whether nothing waits to be read, not even the end: the state a connection must be in to be used again.
    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            Self::Plain(socket) => is_quiet(socket),
            Self::Tls(tls) => is_quiet(tls.tcp()) && tls.has_nothing_read_ahead(),
            // It is never used again.
            Self::Strand(_) => false,
        }
    }

    /// Resolves when the other end has closed, or broken, the connection; takes nothing out of it.
    pub(crate) async fn gone(&self) {
        match self.tcp() {
            Some(socket) => gone(socket).await,
            None => std::future::pending().await,
        }
    }

    /// Reads and throws away, until the other end has ended too.
    pub(crate) async fn drained(&self) {
        let mut scrap = vec![0; 4096];
        while let Ok(1..) = poll_fn(|cx| self.poll_recv(cx, &mut scrap.as_mut_slice())).await {}
    }

    /// Sends these few bytes if they are taken at once.
    pub(crate) fn send_now(&self, bytes: &[u8]) {
        let sending = poll_fn(|cx| match ready!(self.poll_send(cx, bytes, &[])) {
            Ok(_) => self.poll_flush(cx),
            Err(error) => Poll::Ready(Err(error)),
        });
        let _ = sending.now_or_never();
    }

    /// The TCP connection at the bottom, where it is this one's alone.
    pub(crate) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Tls(tls) => Some(tls.tcp()),
            Self::Strand(_) => None,
        }
    }
}

/// Reads what is there, waiting until there is anything.
pub(super) fn poll_recv<B: BufMut>(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    buffer: &mut B,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_read_ready(cx))?;
        match try_recv(socket, buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return Poll::Ready(read),
        }
    }
}

/// Reads what is there, if anything. Zero is the end.
///
/// A read that does not fill the buffer has emptied the socket. Saying so to the reactor spares the next reader a
/// system call that would only find it empty.
fn try_recv<B: BufMut>(socket: &TcpStream, buffer: &mut B) -> io::Result<usize> {
    // What one read can fill: a buffer that grows would have room for ever.
    let room = buffer.chunk_mut().len();
    let mut read = 0;
    let emptied = socket.try_io(Interest::READABLE, || {
        read = socket.try_read_buf(buffer)?;
        if 0 < read && read < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match emptied {
        Err(error) if read == 0 => Err(error),
        _ => Ok(read),
    }
}

/// Writes some of both, waiting until the socket takes any.
pub(super) fn poll_send(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    first: &[u8],
    second: &[u8],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(cx))?;
        let result = match (first, second) {
            (one, []) | ([], one) => socket.try_write(one),
            _ => socket.try_write_vectored(&[IoSlice::new(first), IoSlice::new(second)]),
        };
        match result {
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
    }
}

fn is_quiet(socket: &TcpStream) -> bool {
    matches!(peek(socket), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn peek(socket: &TcpStream) -> io::Result<usize> {
    socket.try_io(Interest::READABLE, || {
        let mut byte = [0; 1];
        let (read, _) = recv(socket, &mut byte, RecvFlags::PEEK)?;
        Ok(read)
    })
}

async fn gone(socket: &TcpStream) {
    /// How often to look past bytes that nobody reads for now.
    const RECHECK: std::time::Duration = std::time::Duration::from_millis(200);
    loop {
        let Ok(readiness) = socket.ready(Interest::READABLE).await else { return };
        match peek(socket) {
            Ok(0) => return,
            Ok(_) if readiness.is_read_closed() => return,
            // A body, or the next request: the end cannot be waited for behind it.
            Ok(_) => tokio::time::sleep(RECHECK).await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
