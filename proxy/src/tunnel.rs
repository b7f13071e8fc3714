//! A connection that was upgraded: bytes both ways, until both sides have ended or the session is stopped.
//!
//! It lives in a task of its own and owns no buffer while nothing moves: what is read goes through a scratch space of
//! the thread, and only what the other side does not take at once is kept.

mod frames;
mod pump;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bivouac_protocol::Reason;
use bytes::BytesMut;
use socket2::SockRef;
use tokio::time::{Instant, Sleep};

use crate::admission::Admitted;
use crate::listener::TCP_KEEPALIVE;
use crate::metrics::CountedTunnel;
use crate::refusal::close_code;
use crate::stream::{Socket, try_recv};
use frames::FrameCursor;
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
}

impl Tunnel {
    /// Joins two connections.
    pub(crate) fn new(client: Socket, switch: Switch, admitted: Admitted, websocket: bool) -> Self {
        let Switch { backend, mut greeting, early } = switch;
        // Best effort, like the client's, which has it from the listener.
        let _ = SockRef::from(&*backend).set_tcp_keepalive(&TCP_KEEPALIVE);
        let mut frames = websocket.then(FrameCursor::default);
        if let Some(frames) = &mut frames {
            frames.advance(&early);
        }
        greeting.extend_from_slice(&early);
        Self {
            to_client: Pump::new(backend.clone(), client.clone(), greeting, frames),
            to_backend: Pump::new(client, backend, Vec::new(), None),
            counted: admitted.metrics().tunnel(),
            admitted,
        }
    }

    /// What the client has sent before it had its answer: goes first.
    pub(crate) fn sent_early(&mut self, early: BytesMut) {
        self.to_backend.put_first(early.into());
    }

    /// Carries bytes to the end.
    pub(crate) async fn run(self: Box<Self>) {
        let Self { mut to_backend, mut to_client, admitted, counted } = *self;
        let mut silence = None;
        let cut = {
            let (mut cut, mut word) = (pin!(admitted.cut()), pin!(admitted.over_at_last()));
            poll_fn(|cx| {
                if poll_both(&mut to_backend, &mut to_client, &mut silence, &counted, cx).is_ready() {
                    return Poll::Ready(None);
                }
                if to_client.awaits_word()
                    && let Poll::Ready(reason) = word.as_mut().poll(cx)
                {
                    return Poll::Ready(Some(reason));
                }
                cut.as_mut().poll(cx).map(Some)
            })
            .await
        };
        if let Some(reason) = cut {
            // The use ends with the stop; what follows is courtesy.
            drop((admitted, counted));
            farewell(&to_client, reason.as_ref()).await;
        }
    }
}

/// Moves bytes in both directions; ready when nothing more will be.
fn poll_both(
    to_backend: &mut Pump,
    to_client: &mut Pump,
    silence: &mut Option<Pin<Box<Sleep>>>,
    counted: &CountedTunnel,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let before = (to_backend.moved(), to_client.moved());
    let polled = (to_backend.poll(cx), to_client.poll(cx));
    counted.carried(to_backend.moved() - before.0, to_client.moved() - before.1);
    let states = [to_backend.state(), to_client.state()];
    let ended = match polled {
        _ if states.contains(&State::Broken) => Poll::Ready(()),
        (Poll::Pending, Poll::Pending) => Poll::Pending,
        (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(()),
        _ => {
            let silence = silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(HALF_CLOSED_SILENCE)));
            if before != (to_backend.moved(), to_client.moved()) {
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

/// Tells the client of a WebSocket why it is closed, if a frame may stand here, and ends the connection.
async fn farewell(to_client: &Pump, reason: Option<&Reason>) {
    let client = to_client.target();
    if let Some(frame) = to_client.may_close_with(close_code(reason)) {
        // If the socket does not even take these few bytes, nobody reads.
        let _ = client.try_write(&frame);
    }
    let _ = rustix::net::shutdown(&**client, rustix::net::Shutdown::Write);
    let answered = async {
        let mut scrap = [0; 256];
        while client.readable().await.is_ok() {
            match try_recv(client, &mut scrap.as_mut_slice()) {
                Ok(0) => return,
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    };
    let _ = tokio::time::timeout(FAREWELL, answered).await;
}
