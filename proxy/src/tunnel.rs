//! A connection that was upgraded: bytes both ways, until both sides have ended or the session is stopped.
//!
//! It lives in a task of its own and owns no buffer while nothing moves: what is read goes through a scratch space of
//! the thread, and only what the other side does not take at once is kept. Where the session ends when its connections
//! fall silent, its bytes ask before they pass ([`crate::activity`]): all of them, or of a WebSocket those that an
//! application sent.

mod frames;
mod pump;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::time::{Instant, Sleep};

use crate::activity::Direction;
use crate::admission::{Admitted, Cut};
use crate::listener::TCP_KEEPALIVE;
use crate::log::{Account, Outcome};
use crate::metrics::CountedTunnel;
use crate::stream::Socket;
use frames::FrameCursor;
pub(crate) use frames::close_frame;
use pump::{Pump, State};

/// Once one side has ended, the other may be silent for so long: some never notice, and would keep their session alive
/// for nobody.
const HALF_CLOSED_SILENCE: Duration = Duration::from_secs(60);
/// How long the client has to take a close frame.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a backend has begun a tunnel with.
pub(crate) struct Switch {
    /// Its connection.
    pub(crate) backend: Socket,
    /// The 101's head, as the client gets it.
    pub(crate) greeting: Vec<u8>,
    /// What came behind it.
    pub(crate) early: Vec<u8>,
}

/// An upgraded connection. The use of its session ends with it.
pub(crate) struct Tunnel {
    to_backend: Pump,
    to_client: Pump,
    admitted: Admitted,
    counted: CountedTunnel,
    account: Account,
    /// How long either end may take nothing of what was sent to it.
    stall: Duration,
}

impl Tunnel {
    /// Joins two connections. It is written down in the account once it is over.
    pub(crate) fn new(
        client: Socket,
        switch: Switch,
        admitted: Admitted,
        websocket: bool,
        account: Account,
    ) -> Self {
        let Switch { backend, mut greeting, early } = switch;
        if let Some(socket) = backend.tcp() {
            // Best effort, like the client's, which has it from the listener.
            let _ = SockRef::from(socket).set_tcp_keepalive(&TCP_KEEPALIVE);
        }
        let mut frames = websocket.then(FrameCursor::default);
        if let Some(frames) = &mut frames {
            frames.advance(&early);
        }
        greeting.extend_from_slice(&early);
        // What the client says in which frames is of interest only where silence matters.
        let asked =
            (websocket && admitted.carrier(Direction::ToBackend).is_watched()).then(FrameCursor::default);
        Self {
            to_client: Pump::new(backend.clone(), client.clone(), Direction::ToClient, greeting, frames),
            to_backend: Pump::new(client, backend, Direction::ToBackend, Vec::new(), asked),
            counted: admitted.metrics().tunnel(),
            admitted,
            account,
            stall: Duration::MAX,
        }
    }

    /// Gives it up once either end has taken nothing for so long, though there is something for it.
    #[must_use]
    pub(crate) fn stalling_at_most(self, stall: Duration) -> Self {
        Self { stall, ..self }
    }

    /// What the client has sent before it had its answer: goes first.
    pub(crate) fn sent_early(&mut self, early: BytesMut) {
        self.to_backend.put_first(early.into());
    }

    /// Carries bytes to the end.
    pub(crate) async fn run(self: Box<Self>) {
        let Self { mut to_backend, mut to_client, admitted, counted, mut account, stall } = *self;
        for direction in [Direction::ToBackend, Direction::ToClient] {
            // What each side gets first is under way until it is taken; nothing stands in its way yet.
            drop(admitted.carrier(direction).pass());
        }
        admitted.carrier(Direction::ToClient).begin();
        let mut silence = None;
        let end = {
            let (mut cut, mut word) = (pin!(admitted.cut()), pin!(admitted.over_at_last()));
            poll_fn(|cx| {
                let carrying = Carrying { admitted: &admitted, counted: &counted, account: &account, stall };
                if carrying.poll(&mut to_backend, &mut to_client, &mut silence, cx).is_ready() {
                    return Poll::Ready(None);
                }
                if to_client.awaits_word()
                    && let Poll::Ready(Some(reason)) = word.as_mut().poll(cx)
                {
                    return Poll::Ready(Some(Cut::Over(reason)));
                }
                cut.as_mut().poll(cx).map(Some)
            })
            .await
        };
        let Some(cut) = end else {
            account.ended(outcome([to_backend.state(), to_client.state()]));
            return;
        };
        // The use ends with the stop; what follows is courtesy.
        drop((admitted, counted));
        let (code, reason) = cut.close();
        account.ended(Outcome::Cut(reason));
        let frame = to_client.may_close_with((code, reason));
        if frame.is_some() {
            account.closed_with(code);
        }
        farewell(to_client.target().clone(), frame).await;
    }
}

/// What both directions need to get on.
struct Carrying<'a> {
    admitted: &'a Admitted,
    counted: &'a CountedTunnel,
    account: &'a Account,
    stall: Duration,
}

impl Carrying<'_> {
    /// Moves bytes in both directions; ready when nothing more will be.
    fn poll(
        &self,
        to_backend: &mut Pump,
        to_client: &mut Pump,
        silence: &mut Option<Pin<Box<Sleep>>>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let before = (to_backend.moved(), to_client.moved());
        let mut poll = |pump: &mut Pump| pump.poll(cx, self.admitted.carrier(pump.direction()), self.stall);
        let polled = (poll(to_backend), poll(to_client));
        let moved = (to_backend.moved() - before.0, to_client.moved() - before.1);
        self.counted.carried(moved.0, moved.1);
        self.account.carried(moved.0, moved.1);
        let states = [to_backend.state(), to_client.state()];
        let ended = match polled {
            _ if states.contains(&State::Broken) => Poll::Ready(()),
            (Poll::Pending, Poll::Pending) => Poll::Pending,
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(()),
            _ => {
                let silence =
                    silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(HALF_CLOSED_SILENCE)));
                if moved != (0, 0) {
                    silence.as_mut().reset(Instant::now() + HALF_CLOSED_SILENCE);
                }
                silence.as_mut().poll(cx)
            }
        };
        if ended.is_ready() && states != [State::Ended; 2] {
            // As it would be without us: whoever is left learns that this was no clean end.
            to_backend.break_off();
            to_client.break_off();
        }
        ended
    }
}

/// How a tunnel ended that was not cut: to the backend, and to the client.
fn outcome(states: [State; 2]) -> Outcome {
    match states {
        [State::Broken, _] | [_, State::Stopped] => Outcome::ClientGone,
        [_, State::Broken] | [State::Stopped, _] => Outcome::Broken,
        _ => Outcome::Complete,
    }
}

/// Tells the client of a WebSocket why it is closed, if a frame may stand here, and ends the connection.
async fn farewell(client: Socket, frame: Option<Vec<u8>>) {
    if let Some(frame) = frame {
        // If the socket does not even take these few bytes, nobody reads.
        client.send_now(&frame);
    }
    client.end();
    let _ = tokio::time::timeout(FAREWELL, client.drained()).await;
}
