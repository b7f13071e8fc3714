//! One direction of a tunnel.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};

use super::frames::{FrameCursor, close_frame};
use crate::stream::{Socket, try_recv};

const SCRATCH: usize = 64 * 1024;

thread_local! {
    /// Bytes pass through here on their way: shared by every tunnel of the thread, as none holds it over a wait.
    static PASSAGE: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// Carries bytes from one connection to another, and the end after the last of them.
pub(super) struct Pump {
    from: Socket,
    to: Socket,
    /// What was read and not taken yet.
    pending: Vec<u8>,
    /// How much of it was taken.
    taken: usize,
    frames: Option<FrameCursor>,
    moved: u64,
    at_end: bool,
    ended: bool,
}

impl Pump {
    pub(super) fn new(from: Socket, to: Socket, first: Vec<u8>, frames: Option<FrameCursor>) -> Self {
        Self { from, to, pending: first, taken: 0, frames, moved: 0, at_end: false, ended: false }
    }

    /// Sets what is sent before anything is read.
    pub(super) fn put_first(&mut self, first: Vec<u8>) {
        self.pending = first;
    }

    /// Bytes carried so far.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Where they go.
    pub(super) fn target(&self) -> &Socket {
        &self.to
    }

    /// Moves what can be moved. Ready once the end was reached and passed on.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.poll_pending(cx))?;
            if self.at_end {
                // If the other end is gone, its own direction says so.
                let _ = rustix::net::shutdown(&*self.to, rustix::net::Shutdown::Write);
                self.ended = true;
                return Poll::Ready(Ok(()));
            }
            ready!(self.from.poll_read_ready(cx))?;
            PASSAGE.with_borrow_mut(|passage| self.pass(passage))?;
        }
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.pending.len() {
            ready!(self.to.poll_write_ready(cx))?;
            match self.to.try_write(&self.pending[self.taken..]) {
                Ok(taken) => self.taken += taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if !self.pending.is_empty() {
            (self.pending, self.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and writes once. What is not taken stays behind: nothing more is read before it is gone.
    fn pass(&mut self, passage: &mut [u8]) -> io::Result<()> {
        let read = match try_recv(&self.from, &mut &mut *passage) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        if read == 0 {
            self.at_end = true;
            return Ok(());
        }
        let bytes = &passage[..read];
        self.moved += read as u64;
        if let Some(frames) = &mut self.frames {
            frames.advance(bytes);
        }
        let taken = match self.to.try_write(bytes) {
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if taken < read {
            self.pending = bytes[taken..].to_vec();
        }
        Ok(())
    }

    /// A close frame, if this is a WebSocket that stands between two frames and has not been closed by its backend.
    pub(super) fn may_close_with(&self, (code, reason): (u16, &str)) -> Option<Vec<u8>> {
        let between = self.frames.as_ref().is_some_and(FrameCursor::is_between_frames);
        (between && self.pending.is_empty() && !self.at_end).then(|| close_frame(code, reason))
    }

    /// The end that follows is a failure, and has to look like one.
    pub(super) fn break_off(&self) {
        let _ = self.to.set_zero_linger();
    }
}
