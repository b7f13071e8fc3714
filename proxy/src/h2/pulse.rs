//! Whether a client is still there: asked while it has requests open, as whatever stands between us may hold a
//! connection for somebody who left.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

/// How often it is asked.
const EVERY: Duration = Duration::from_secs(30);
/// How long its answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks, and waits for the answer.
pub(super) struct Pulse {
    pings: PingPong,
    timer: Pin<Box<Sleep>>,
    asked: bool,
}

impl Pulse {
    pub(super) fn new(pings: PingPong) -> Self {
        Self { pings, timer: Box::pin(sleep(EVERY)), asked: false }
    }

    /// Ready once the client has not answered in time.
    pub(super) fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.asked && self.pings.poll_pong(cx).is_ready() {
                self.asked = false;
                self.timer.as_mut().reset(Instant::now() + EVERY);
            }
            ready!(self.timer.as_mut().poll(cx));
            if self.asked || self.pings.send_ping(Ping::opaque()).is_err() {
                return Poll::Ready(());
            }
            self.asked = true;
            self.timer.as_mut().reset(Instant::now() + PATIENCE);
        }
    }
}
