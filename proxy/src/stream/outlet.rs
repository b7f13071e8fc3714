//! The writing end of a connection: what is small is gathered, so that a head and the first of its body go out as one
//! segment; what is large goes out from where it lies.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use rustix::net::Shutdown;
use tokio::net::TcpStream;

use super::Socket;
use crate::framing::Framing;

/// Pieces up to this size are copied together: cheaper than another system call.
const GATHERED: usize = 8 * 1024;
/// So much is gathered before it goes out by itself.
const FULL: usize = 16 * 1024;
/// A connection that rests keeps no more than this.
const KEPT: usize = 4 * 1024;

/// Writes to a connection.
pub(crate) struct Outlet {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Outlet {
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, buffer: Vec::new() }
    }

    /// The connection, for whoever watches or takes it.
    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// What goes out with the next flush.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Drops what was gathered and not sent.
    pub(crate) fn discard(&mut self) {
        self.buffer.clear();
    }

    /// Sends a piece of a body. It may wait in the buffer: whoever has nothing more at hand flushes.
    pub(crate) async fn send(&mut self, framing: Framing, data: &[u8]) -> io::Result<()> {
        // An empty chunk would end the body.
        if data.is_empty() {
            return Ok(());
        }
        framing.open(data.len(), &mut self.buffer);
        if data.len() <= GATHERED {
            self.buffer.extend_from_slice(data);
        } else {
            let gathered = std::mem::take(&mut self.buffer);
            write_both(&self.socket, &gathered, data).await?;
            self.buffer = gathered;
            self.buffer.clear();
        }
        framing.close(&mut self.buffer);
        if self.buffer.len() >= FULL { self.flush().await } else { Ok(()) }
    }

    /// Sends everything that was gathered.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            write_both(&self.socket, &self.buffer, &[]).await?;
            self.buffer.clear();
            self.buffer.shrink_to(KEPT);
        }
        Ok(())
    }

    /// Tells the other end that nothing more comes.
    pub(crate) fn end(&self) {
        // A connection that is gone already needs no goodbye.
        let _ = rustix::net::shutdown(&*self.socket, Shutdown::Write);
    }

    /// Makes the connection's end visible as a failure: the other end sees a reset, never a clean end.
    pub(crate) fn break_off(&self) {
        let _ = self.socket.set_zero_linger();
    }
}

async fn write_both(socket: &TcpStream, first: &[u8], second: &[u8]) -> io::Result<()> {
    let (mut first, mut second) = (first, second);
    while !first.is_empty() || !second.is_empty() {
        let written = poll_fn(|cx| poll_send(socket, cx, first, second)).await?;
        let of_first = written.min(first.len());
        first = &first[of_first..];
        second = &second[written - of_first..];
    }
    Ok(())
}

/// Writes some of both, waiting until the socket takes any.
fn poll_send(
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
