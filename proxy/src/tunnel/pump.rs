//! One direction of a tunnel.

use std::cell::RefCell;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

use super::frames::{FrameCursor, close_frame};
use crate::refusal::BACKEND_FAILED;
use crate::stream::{Socket, try_recv};

const SCRATCH: usize = 64 * 1024;
/// How long the word may be on its way that a session is over. Nomad's own report of an exit takes a quarter of a second.
const WORD_OF_AN_END: Duration = Duration::from_secs(1);

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
    /// How the source has ended; nothing more is read.
    end: Option<State>,
    /// How long the reason for an end without a close frame is waited for.
    word: Option<Pin<Box<Sleep>>>,
    state: State,
}

/// How far a direction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Bytes may come.
    Open,
    /// The end was reached, and passed on.
    Ended,
    /// Its target takes no more. The other direction may still have something to deliver from there, and ends by
    /// itself.
    Stopped,
    /// Its source broke: nothing can be delivered there either.
    Broken,
}

impl Pump {
    pub(super) fn new(from: Socket, to: Socket, first: Vec<u8>, frames: Option<FrameCursor>) -> Self {
        Self {
            from,
            to,
            pending: first,
            taken: 0,
            frames,
            moved: 0,
            end: None,
            word: None,
            state: State::Open,
        }
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

    /// How far it has come.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Moves what can be moved. Ready once nothing more will be.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.state != State::Open {
            return Poll::Ready(());
        }
        self.state = ready!(self.poll_to_end(cx));
        Poll::Ready(())
    }

    fn poll_to_end(&mut self, cx: &mut Context<'_>) -> Poll<State> {
        loop {
            if ready!(self.poll_pending(cx)).is_err() {
                return Poll::Ready(State::Stopped);
            }
            if let Some(end) = self.end {
                ready!(self.poll_word(cx));
                // A clean end may be half of one: the client may go on sending, as it could without us.
                if end == State::Broken && self.says_why() {
                    continue;
                }
                return Poll::Ready(if end == State::Ended { self.pass_end_on() } else { end });
            }
            if ready!(self.from.poll_read_ready(cx)).is_err() {
                self.end = Some(State::Broken);
                continue;
            }
            if let Err(state) = PASSAGE.with_borrow_mut(|passage| self.pass(passage)) {
                return Poll::Ready(state);
            }
        }
    }

    /// Whether its source is gone without a close frame, and the reason is waited for.
    pub(super) fn awaits_word(&self) -> bool {
        self.word.is_some() && self.state == State::Open
    }

    /// A backend that is stopped, or dies, may be gone before this proxy has heard why: a WebSocket that ends without a
    /// close frame waits a moment for the word, so that its client learns the reason and does not take it for a failure.
    fn poll_word(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.frames.as_ref().is_some_and(FrameCursor::is_between_frames) {
            return Poll::Ready(());
        }
        self.word.get_or_insert_with(|| Box::pin(tokio::time::sleep(WORD_OF_AN_END))).as_mut().poll(cx)
    }

    /// No word of a stop: the backend has failed. Its client gets a code for that, as for everything else, and not the
    /// bare end of a connection.
    fn says_why(&mut self) -> bool {
        let Some(frames) = self.frames.as_mut().filter(|frames| frames.is_between_frames()) else {
            return false;
        };
        let frame = close_frame(BACKEND_FAILED.0, BACKEND_FAILED.1);
        frames.advance(&frame);
        self.pending = frame;
        self.end = Some(State::Ended);
        true
    }

    fn pass_end_on(&self) -> State {
        let ended = rustix::net::shutdown(&*self.to, rustix::net::Shutdown::Write);
        if ended.is_ok() { State::Ended } else { State::Stopped }
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.pending.len() {
            ready!(self.to.poll_write_ready(cx))?;
            self.taken += or_nothing(self.to.try_write(&self.pending[self.taken..]))?;
        }
        if !self.pending.is_empty() {
            (self.pending, self.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and writes once. What is not taken stays behind: nothing more is read before it is gone.
    fn pass(&mut self, passage: &mut [u8]) -> Result<(), State> {
        let read = match try_recv(&self.from, &mut &mut *passage) {
            Ok(0) => {
                self.end = Some(State::Ended);
                return Ok(());
            }
            read => match or_nothing(read) {
                Ok(read) => read,
                Err(_) => {
                    self.end = Some(State::Broken);
                    return Ok(());
                }
            },
        };
        let bytes = &passage[..read];
        self.moved += read as u64;
        if let Some(frames) = &mut self.frames {
            frames.advance(bytes);
        }
        let taken = or_nothing(self.to.try_write(bytes)).map_err(|_| State::Stopped)?;
        self.pending.extend_from_slice(&bytes[taken..]);
        Ok(())
    }

    /// A close frame, if this is a WebSocket that stands between two frames and has not been closed by its backend.
    pub(super) fn may_close_with(&self, (code, reason): (u16, &str)) -> Option<Vec<u8>> {
        let between = self.frames.as_ref().is_some_and(FrameCursor::is_between_frames);
        (between && self.pending.is_empty() && self.state == State::Open).then(|| close_frame(code, reason))
    }

    /// The end that follows is a failure, and has to look like one.
    pub(super) fn break_off(&self) {
        let _ = self.to.set_zero_linger();
    }
}

/// A connection that is not ready after all has moved nothing.
fn or_nothing(moved: io::Result<usize>) -> io::Result<usize> {
    match moved {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        moved => moved,
    }
}
