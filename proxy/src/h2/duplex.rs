//! A connection as the `h2` crate wants it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::stream::Socket;

/// Reads and writes a connection. What one side of HTTP/2 has said and the other does not take is kept in memory, so
/// that a peer who takes nothing at all is given up.
pub(super) struct Duplex {
    socket: Socket,
    /// What was read before it was known to be HTTP/2.
    ahead: BytesMut,
    stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Duplex {
    /// `ahead` comes first; `stall`: how long the peer may take nothing of what is there for it.
    pub(super) fn new(socket: Socket, ahead: BytesMut, stall: Duration) -> Self {
        Self { socket, ahead, stall, stalled: None }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, first: &[u8], second: &[u8]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(sent) = self.socket.poll_send(cx, first, second) {
            self.stalled = None;
            return Poll::Ready(sent);
        }
        let stall = self.stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.has_remaining() {
            let length = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead[..length]);
            self.ahead.advance(length);
            if self.ahead.is_empty() {
                self.ahead = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        ready!(self.socket.poll_recv(cx, buffer))?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, data, &[])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut parts = data.iter().map(|part| &**part).filter(|part| !part.is_empty());
        // A frame's head and its payload: more than two are rare, and come with the next call.
        let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        self.poll_send(cx, first, second)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.socket.poll_flush(cx))?;
        self.socket.end();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
