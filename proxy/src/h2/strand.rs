//! One stream of an HTTP/2 connection as a connection of its own: what a tunnel is made of (RFC 8441).

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes};
use h2::{Reason, RecvStream, SendStream};
use parking_lot::Mutex;

use super::into_io;

/// Both directions of a stream.
pub(crate) struct Strand {
    inward: Mutex<Inward>,
    outward: Mutex<SendStream<Bytes>>,
    ended: AtomicBool,
}

struct Inward {
    stream: RecvStream,
    /// What has come and was not taken yet.
    rest: Bytes,
}

impl std::fmt::Debug for Strand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Strand").finish_non_exhaustive()
    }
}

impl Strand {
    /// Joins what comes in and what goes out.
    pub(super) fn new(inward: RecvStream, outward: SendStream<Bytes>) -> Self {
        Self {
            inward: Mutex::new(Inward { stream: inward, rest: Bytes::new() }),
            outward: Mutex::new(outward),
            ended: AtomicBool::new(false),
        }
    }

    /// Reads what is there, waiting until there is anything. Zero is the end.
    pub(crate) fn poll_recv<B: BufMut>(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut B,
    ) -> Poll<io::Result<usize>> {
        let mut inward = self.inward.lock();
        let Inward { stream, rest } = &mut *inward;
        while rest.is_empty() {
            match ready!(stream.poll_data(cx)) {
                Some(piece) => *rest = piece.map_err(into_io)?,
                None => return Poll::Ready(Ok(0)),
            }
        }
        let length = rest.len().min(buffer.remaining_mut());
        buffer.put(rest.split_to(length));
        // The client may send as many again: what is not taken here stays in its window.
        stream.flow_control().release_capacity(length).map_err(into_io)?;
        Poll::Ready(Ok(length))
    }

    /// Sends some of both, waiting until any is taken.
    pub(crate) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut outward = self.outward.lock();
        let wanted = first.len() + second.len();
        outward.reserve_capacity(wanted);
        while outward.capacity() == 0 {
            ready!(outward.poll_capacity(cx)).ok_or(io::ErrorKind::BrokenPipe)?.map_err(into_io)?;
        }
        let length = outward.capacity().min(wanted);
        let data = first.chain(second).take(length).copy_to_bytes(length);
        outward.send_data(data, false).map_err(into_io)?;
        Poll::Ready(Ok(length))
    }

    /// Tells the client that nothing more comes. False: it is gone already.
    pub(crate) fn end(&self) -> bool {
        self.ended.swap(true, Ordering::Relaxed) || self.outward.lock().send_data(Bytes::new(), true).is_ok()
    }

    /// Makes the end visible as a failure.
    pub(crate) fn break_off(&self) {
        self.outward.lock().send_reset(Reason::CANCEL);
    }
}
