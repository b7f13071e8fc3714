//! What goes out on a stream: no more than the other end has made room for, and no more than was announced.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;

use super::into_io;
use crate::headers;

/// The outgoing half of a stream.
pub(super) struct Outward {
    stream: SendStream<Bytes>,
    /// The last piece: it waits to learn whether it is the last, which then needs no frame of its own.
    held: Bytes,
    /// Bytes still to come, where their number was announced. Nobody else compares.
    left: Option<u64>,
    over: bool,
    /// How long the other end may make no room at all.
    stall: Duration,
}

impl Outward {
    /// `announced`: the Content-Length; `over`: the head was everything; `stall`: how long the other end may make no room
    /// at all.
    pub(super) fn new(
        stream: SendStream<Bytes>,
        announced: Option<u64>,
        over: bool,
        stall: Duration,
    ) -> Self {
        Self { stream, held: Bytes::new(), left: announced, over, stall }
    }

    /// Sends a piece, or keeps it until the next.
    ///
    /// # Errors
    /// When the other end takes no more, or this is more than was announced.
    pub(super) async fn send(&mut self, data: Bytes) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        if let Some(left) = &mut self.left {
            let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
            *left = left.checked_sub(length).ok_or_else(|| misfit(&mut self.stream))?;
        }
        let before = std::mem::replace(&mut self.held, data);
        self.pour(before, false).await
    }

    /// Sends what was kept.
    ///
    /// # Errors
    /// When the other end takes no more.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        self.pour(held, false).await
    }

    /// Says that this was all.
    ///
    /// # Errors
    /// When the other end takes no more, or this was less than was announced.
    pub(super) async fn end(&mut self, trailers: Option<HeaderMap>) -> io::Result<()> {
        if std::mem::replace(&mut self.over, true) {
            return Ok(());
        }
        if self.left.is_some_and(|left| left > 0) {
            return Err(misfit(&mut self.stream));
        }
        let held = std::mem::take(&mut self.held);
        match trailers {
            Some(given) => {
                self.pour(held, false).await?;
                let mut trailers = HeaderMap::with_capacity(given.len());
                headers::trailers(&mut trailers, &given);
                self.stream.send_trailers(trailers).map_err(into_io)
            }
            None => self.pour(held, true).await,
        }
    }

    /// Sends all of it, as room is made.
    async fn pour(&mut self, mut data: Bytes, last: bool) -> io::Result<()> {
        let stream = &mut self.stream;
        if data.is_empty() {
            return if last { stream.send_data(data, true).map_err(into_io) } else { Ok(()) };
        }
        while !data.is_empty() {
            stream.reserve_capacity(data.len());
            while stream.capacity() == 0 {
                let room = tokio::time::timeout(self.stall, poll_fn(|cx| stream.poll_capacity(cx))).await;
                room?.ok_or(io::ErrorKind::BrokenPipe)?.map_err(into_io)?;
            }
            let part = data.split_to(stream.capacity().min(data.len()));
            stream.send_data(part, last && data.is_empty()).map_err(into_io)?;
        }
        Ok(())
    }

    /// Makes the end visible as a failure.
    pub(super) fn break_off(&mut self, reason: Reason) {
        self.over = true;
        self.stream.send_reset(reason);
    }

    /// Ready when the other end has given the stream up.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(|_| ())
    }
}

/// A body that does not fit its Content-Length must not look whole.
fn misfit(stream: &mut SendStream<Bytes>) -> io::Error {
    stream.send_reset(Reason::INTERNAL_ERROR);
    io::Error::new(io::ErrorKind::InvalidData, "the body has not the length that was announced")
}

#[cfg(test)]
mod tests;
