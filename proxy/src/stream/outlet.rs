//! The writing end of a connection: what is small is gathered, so that a head and the first of its body go out as one
//! segment; what is large goes out from where it lies.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::timeout;

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
    /// How long the other end may take nothing of what is sent; `None`: as long as it likes.
    stall: Option<Duration>,
}

impl Outlet {
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, buffer: Vec::new(), stall: None }
    }

    /// The same, for another end that has to take something in each such time.
    pub(crate) fn within(self, stall: Duration) -> Self {
        Self { stall: Some(stall), ..self }
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
            self.write_both(&gathered, data).await?;
            self.buffer = gathered;
            self.buffer.clear();
        }
        framing.close(&mut self.buffer);
        if self.buffer.len() >= FULL { self.flush().await } else { Ok(()) }
    }

    /// Sends everything that was gathered.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.write_both(&self.buffer, &[]).await?;
            self.buffer.clear();
            self.buffer.shrink_to(KEPT);
        }
        self.patiently(|cx| self.socket.poll_flush(cx)).await
    }

    /// Makes the connection's end visible as a failure: the other end sees a reset, never a clean end.
    pub(crate) fn break_off(&self) {
        self.socket.break_off();
    }

    async fn write_both(&self, first: &[u8], second: &[u8]) -> io::Result<()> {
        let (mut first, mut second) = (first, second);
        while !first.is_empty() || !second.is_empty() {
            let written = self.patiently(|cx| self.socket.poll_send(cx, first, second)).await?;
            let of_first = written.min(first.len());
            first = &first[of_first..];
            second = &second[written - of_first..];
        }
        Ok(())
    }

    /// A timer is set only where the other end has no room at once.
    async fn patiently<T>(
        &self,
        attempt: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>> + Unpin,
    ) -> io::Result<T> {
        let mut attempt = poll_fn(attempt);
        match (futures::poll!(&mut attempt), self.stall) {
            (Poll::Ready(outcome), _) => outcome,
            (Poll::Pending, None) => attempt.await,
            (Poll::Pending, Some(stall)) => {
                timeout(stall, attempt).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}
