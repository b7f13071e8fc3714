//! One direction of a tunnel.

use std::cell::RefCell;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

use super::frames::{FrameCursor, close_frame};
use crate::activity::Direction;
use crate::admission::{Carrier, Held};
use crate::refusal::BACKEND_FAILED;
use crate::stream::Socket;

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
    direction: Direction,
    /// What was read and not taken yet.
    pending: Vec<u8>,
    /// How much of it was taken.
    taken: usize,
    /// Something was taken that may not be on its way yet.
    unflushed: bool,
    /// What the template's quiet timeout says of what is pending.
    noise: Noise,
    /// Since when the target takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
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
    /// Its source broke: nothing can be delivered there either. Or its target took nothing for too long.
    Broken,
}

/// How the bytes that were read last stand with the session's activity.
enum Noise {
    /// There are none, or none that count.
    None,
    /// They may pass; the session is in use until they are taken.
    Passed,
    /// They wait for the outcome of a stop. `between`: before them, a frame of ours could stand.
    Held { held: Held, between: bool },
}

impl Pump {
    /// `first` is sent before anything is read. Both directions' first bytes count, if only as the end of a handshake.
    pub(super) fn new(
        from: Socket,
        to: Socket,
        direction: Direction,
        first: Vec<u8>,
        frames: Option<FrameCursor>,
    ) -> Self {
        Self {
            from,
            to,
            direction,
            pending: first,
            taken: 0,
            unflushed: false,
            noise: Noise::Passed,
            stalled: None,
            frames,
            moved: 0,
            end: None,
            word: None,
            state: State::Open,
        }
    }

    /// Sets what is sent before anything is read.
    pub(super) fn put_first(&mut self, first: Vec<u8>) {
        if let Some(frames) = &mut self.frames {
            frames.advance(&first);
        }
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

    /// Which way that is.
    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// How far it has come.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Moves what can be moved. Ready once nothing more will be.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, carrier: Carrier<'_>, stall: Duration) -> Poll<()> {
        if self.state != State::Open {
            return Poll::Ready(());
        }
        let state = ready!(self.poll_to_end(cx, carrier, stall));
        self.hush(carrier);
        self.state = state;
        Poll::Ready(())
    }

    fn poll_to_end(&mut self, cx: &mut Context<'_>, carrier: Carrier<'_>, stall: Duration) -> Poll<State> {
        loop {
            ready!(self.poll_held(cx, carrier));
            match self.poll_pending(cx) {
                Poll::Ready(Ok(())) => self.hush(carrier),
                Poll::Ready(Err(_)) => return Poll::Ready(State::Stopped),
                Poll::Pending => return self.poll_stall(cx, stall),
            }
            if let Some(end) = self.end {
                ready!(self.poll_word(cx));
                // A clean end may be half of one: the client may go on sending, as it could without us.
                if end == State::Broken && self.says_why() {
                    continue;
                }
                return Poll::Ready(if end == State::Ended { self.pass_end_on() } else { end });
            }
            let passed = PASSAGE.with_borrow_mut(|passage| self.poll_pass(cx, passage, carrier));
            if ready!(passed).is_err() {
                return Poll::Ready(State::Stopped);
            }
        }
    }

    /// Whether its source is gone without a close frame, and the reason is waited for.
    pub(super) fn awaits_word(&self) -> bool {
        self.word.is_some() && self.state == State::Open
    }

    /// Whether this is a WebSocket's way to its client, and a frame of ours may stand here.
    fn may_say_something(&self) -> bool {
        self.direction == Direction::ToClient
            && self.frames.as_ref().is_some_and(FrameCursor::is_between_frames)
    }

    /// A backend that is stopped, or dies, may be gone before this proxy has heard why: a WebSocket that ends without a
    /// close frame waits a moment for the word, so that its client learns the reason and does not take it for a failure.
    fn poll_word(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.may_say_something() {
            return Poll::Ready(());
        }
        self.word.get_or_insert_with(|| Box::pin(tokio::time::sleep(WORD_OF_AN_END))).as_mut().poll(cx)
    }

    /// No word of a stop: the backend has failed. Its client gets a code for that, as for everything else, and not the
    /// bare end of a connection.
    fn says_why(&mut self) -> bool {
        if !self.may_say_something() {
            return false;
        }
        let frame = close_frame(BACKEND_FAILED.0, BACKEND_FAILED.1);
        if let Some(frames) = &mut self.frames {
            frames.advance(&frame);
        }
        self.pending = frame;
        self.end = Some(State::Ended);
        true
    }

    fn pass_end_on(&self) -> State {
        if self.to.end() { State::Ended } else { State::Stopped }
    }

    /// Ready once what was read may be sent.
    fn poll_held(&mut self, cx: &mut Context<'_>, carrier: Carrier<'_>) -> Poll<()> {
        while let Noise::Held { held, between } = &mut self.noise {
            ready!(held.as_mut().poll(cx));
            let between = *between;
            self.noise = match carrier.pass() {
                Some(held) => Noise::Held { held, between },
                None => Noise::Passed,
            };
        }
        Poll::Ready(())
    }

    fn hush(&mut self, carrier: Carrier<'_>) {
        if matches!(self.noise, Noise::Passed) {
            self.noise = Noise::None;
            carrier.hush();
        }
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.pending.len() {
            self.taken += ready!(self.to.poll_send(cx, &self.pending[self.taken..], &[]))?;
            self.unflushed = true;
            self.stalled = None;
        }
        if self.unflushed {
            ready!(self.to.poll_flush(cx))?;
            self.unflushed = false;
        }
        self.stalled = None;
        if !self.pending.is_empty() {
            (self.pending, self.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    /// Whoever takes nothing for so long has gone without a word, or means harm.
    fn poll_stall(&mut self, cx: &mut Context<'_>, stall: Duration) -> Poll<State> {
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        stalled.as_mut().poll(cx).map(|()| State::Broken)
    }

    /// Reads once and writes once. What is not taken stays behind: nothing more is read before it is gone.
    fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        passage: &mut [u8],
        carrier: Carrier<'_>,
    ) -> Poll<io::Result<()>> {
        let read = match ready!(self.from.poll_recv(cx, &mut &mut *passage)) {
            Ok(0) => {
                self.end = Some(State::Ended);
                return Poll::Ready(Ok(()));
            }
            Ok(read) => read,
            Err(_) => {
                self.end = Some(State::Broken);
                return Poll::Ready(Ok(()));
            }
        };
        let bytes = &passage[..read];
        self.moved += read as u64;
        let between = self.may_say_something();
        let is_noise = self.frames.as_mut().is_none_or(|frames| frames.advance(bytes).application);
        if is_noise && carrier.is_watched() {
            if let Some(held) = carrier.pass() {
                self.noise = Noise::Held { held, between };
                self.pending.extend_from_slice(bytes);
                return Poll::Ready(Ok(()));
            }
            self.noise = Noise::Passed;
        }
        let taken = match self.to.poll_send(cx, bytes, &[]) {
            Poll::Ready(taken) => taken?,
            Poll::Pending => 0,
        };
        self.unflushed = taken > 0;
        self.pending.extend_from_slice(&bytes[taken..]);
        Poll::Ready(Ok(()))
    }

    /// A close frame, if this is a WebSocket that stands between two frames and has not been closed by its backend. Bytes
    /// that wait for the outcome of a stop have not been sent, and never will be.
    pub(super) fn may_close_with(&self, (code, reason): (u16, &str)) -> Option<Vec<u8>> {
        let here = match self.noise {
            Noise::Held { between, .. } => between,
            Noise::None | Noise::Passed => self.pending.is_empty() && self.may_say_something(),
        };
        (here && self.state == State::Open).then(|| close_frame(code, reason))
    }

    /// The end that follows is a failure, and has to look like one.
    pub(super) fn break_off(&self) {
        self.to.break_off();
    }
}
