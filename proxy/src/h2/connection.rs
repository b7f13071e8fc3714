//! One HTTP/2 connection of a client: every stream is a request of its own, in a task of its own, for a session of its
//! own. Nothing that belongs to a session may be kept here: browsers send the requests for all of them over one
//! connection, if one certificate covers their names.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::budget::Budget;
use super::duplex::Duplex;
use super::pulse::Pulse;
use super::stream;
use crate::listener::Gateway;
use crate::options::Limits;
use crate::stream::Socket;
use crate::visitor::Visitor;

/// What a client may send on one stream, or on all of them, before somebody has taken it.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What is kept for a client on one stream.
const SEND_BUFFER: usize = 64 * 1024;
/// How long a client is waited for that was told of the end, once nothing is left to be said.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the tasks of a connection's streams share with it.
pub(super) struct Shared {
    budget: Mutex<Budget>,
    spent: AtomicBool,
    changed: Notify,
}

impl Shared {
    /// A stream came to nothing.
    pub(super) fn wasted(&self) {
        if self.budget.lock().waste(std::time::Instant::now()) {
            self.spent.store(true, Ordering::Relaxed);
            self.changed.notify_one();
        }
    }
}

/// What happened on a connection.
#[expect(
    clippy::large_enum_variant,
    reason = "it is moved once; a box would cost each request an allocation"
)]
enum Event {
    Asked(Request<RecvStream>, SendResponse<Bytes>),
    /// Everything was said, or the other end is gone.
    Over,
    /// It has to end: requests that run may finish.
    Leave,
    /// It has to end now.
    BreakOff(Reason),
}

struct Connection {
    wire: server::Connection<Duplex, Bytes>,
    shared: Arc<Shared>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    rest: Pin<Box<Sleep>>,
    keep_alive: Duration,
    busy: bool,
    /// The client knows that it has to go.
    told: bool,
    pulse: Option<Pulse>,
}

/// Serves a connection to its end. `ahead` is what was read of it: the preface's beginning.
pub(crate) async fn run(gateway: Arc<Gateway>, socket: Socket, visitor: Arc<Visitor>, ahead: BytesMut) {
    // Apart: whoever may speak either protocol has not the room of this one set aside.
    Box::pin(converse(gateway, socket, visitor, ahead)).await;
}

async fn converse(gateway: Arc<Gateway>, socket: Socket, visitor: Arc<Visitor>, ahead: BytesMut) {
    let limits = &gateway.limits;
    let duplex = Duplex::new(socket.clone(), ahead, limits.write_stall);
    let handshake = tokio::time::timeout(limits.head_timeout, builder(limits).handshake(duplex));
    let Ok(Ok(mut wire)) = handshake.await else { return };
    let shared = Arc::new(Shared {
        budget: Mutex::new(Budget::new(limits.h2_resets)),
        spent: AtomicBool::new(false),
        changed: Notify::new(),
    });
    let mut connection = Connection {
        pulse: wire.ping_pong().map(Pulse::new),
        wire,
        shared: shared.clone(),
        closing: Box::pin(gateway.closing.token.clone().cancelled_owned()),
        rest: Box::pin(sleep(limits.keep_alive)),
        keep_alive: limits.keep_alive,
        busy: false,
        told: false,
    };
    loop {
        match connection.next().await {
            Event::Asked(request, respond) => {
                let serving =
                    stream::serve(gateway.clone(), visitor.clone(), shared.clone(), request, respond);
                gateway.tracker.spawn(serving);
            }
            Event::Leave => connection.leave(),
            Event::BreakOff(reason) => {
                connection.wire.abrupt_shutdown(reason);
                // What it has to say is short; whoever does not take it learns by the connection's end.
                let _ = tokio::time::timeout(LAST_WORDS, connection.finished()).await;
                break;
            }
            Event::Over => break,
        }
    }
    drop(connection);
    socket.end();
    // Closed with something unread, a connection ends in a reset, which may overtake our last words.
    let _ = tokio::time::timeout(LAST_WORDS, socket.drained()).await;
}

fn builder(limits: &Limits) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(Some(64))
        .enable_connect_protocol();
    builder
}

impl Connection {
    async fn next(&mut self) -> Event {
        let shared = self.shared.clone();
        let mut changed = pin!(shared.changed.notified());
        poll_fn(|cx| {
            // Only asked for its wake-up.
            let _ = changed.as_mut().poll(cx);
            self.poll_next(cx)
        })
        .await
    }

    /// Accepting is what drives the whole connection: it comes first, and nothing here waits for anything else.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if self.shared.spent.load(Ordering::Relaxed) {
            return Poll::Ready(Event::BreakOff(Reason::ENHANCE_YOUR_CALM));
        }
        if let Poll::Ready(accepted) = pin!(self.wire.accept()).poll(cx) {
            return Poll::Ready(match accepted {
                Some(Ok((request, respond))) => Event::Asked(request, respond),
                Some(Err(_)) | None => Event::Over,
            });
        }
        if !self.told && self.closing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::Leave);
        }
        let was_busy = std::mem::replace(&mut self.busy, self.wire.has_streams());
        if self.busy {
            return match &mut self.pulse {
                Some(pulse) => pulse.poll_lost(cx).map(|()| Event::BreakOff(Reason::NO_ERROR)),
                None => Poll::Pending,
            };
        }
        if was_busy {
            let patience = if self.told { LAST_WORDS } else { self.keep_alive };
            self.rest.as_mut().reset(Instant::now() + patience);
        }
        self.rest.as_mut().poll(cx).map(|()| if self.told { Event::Over } else { Event::Leave })
    }

    /// Tells the client to take further requests elsewhere; those that are on their way are still served.
    fn leave(&mut self) {
        self.told = true;
        self.wire.graceful_shutdown();
        self.rest.as_mut().reset(Instant::now() + LAST_WORDS);
    }

    async fn finished(&mut self) {
        let _ = poll_fn(|cx| self.wire.poll_closed(cx)).await;
    }
}
