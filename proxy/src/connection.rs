//! One client's HTTP/1 connection: a request at a time, in order, for as long as both sides like.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use http::{Method, header};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::server::HttpSession;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::exchange::{self, Client, Incoming, Next, Reply};
use crate::head;
use crate::headers::{Persistence, Trace};
use crate::listener::Gateway;
use crate::page::{Answer, Audience};
use crate::refusal::Refusal;
use crate::stream::{Meter, Socket, Wire};
use crate::visitor::Visitor;

/// How long a client is waited for once everything was said.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why there is no next request.
enum NoRequest {
    /// The client left, rested too long, or the proxy stops: nobody waits for an answer.
    Over,
    /// The client is told.
    Refused(Refusal),
}

/// Serves a connection to its end. `ahead` is what was read of it already; `spent`: so much of the time for its first head
/// is over.
pub(crate) async fn run(
    gateway: Arc<Gateway>,
    socket: Socket,
    visitor: Arc<Visitor>,
    ahead: BytesMut,
    spent: Duration,
) {
    let Wire { mut inlet, outlet, meter } = Wire::new(socket.clone());
    let mut patience = Patience::new(&gateway, spent);
    let reply = Reply::H1(outlet.within(gateway.limits.write_stall));
    let mut client = Client { gateway, visitor, reply };
    let mut ahead = Some(ahead).filter(|ahead| !ahead.is_empty());
    loop {
        let head_bytes = client.gateway.limits.head_bytes;
        let request = match next_request(&meter, head_bytes, inlet, ahead.take(), &mut patience).await {
            Ok(request) => request,
            Err(NoRequest::Over) => return,
            Err(NoRequest::Refused(refusal)) => return turn_away(&mut client, &socket, &refusal).await,
        };
        match exchange::serve(&mut client, Incoming::H1(request)).await {
            Next::Again(connection) => (inlet, ahead) = connection.into_parts(),
            Next::Tunnel(tunnel) => {
                // A task of its own: this one, with all it holds, ends and gives its memory back.
                let Client { gateway, visitor, .. } = client;
                gateway.tracker.spawn(async move {
                    tunnel.run().await;
                    // With it goes its place among the connections.
                    drop(visitor);
                });
                return;
            }
            Next::Close if socket.is_quiet() => return,
            Next::Close | Next::Linger => return linger(&socket).await,
            Next::BreakOff => return break_off(&mut client.reply).await,
        }
    }
}

/// Reads the next head. `ahead` is what the client has sent of it behind its last request.
async fn next_request(
    meter: &Meter,
    head_bytes: usize,
    inlet: Stream,
    ahead: Option<BytesMut>,
    patience: &mut Patience,
) -> Result<HttpSession, NoRequest> {
    let mut begun = ahead.is_some();
    meter.expect_request(head_bytes, ahead.as_deref().unwrap_or_default());
    let mut request = HttpSession::new(inlet);
    // The deadlines are ours: Pingora's are per read, and end nothing that trickles.
    request.set_server_keepalive(Some(0));
    request.set_read_timeout(None);
    request.set_pipelining_enabled(true);
    if let Some(ahead) = ahead {
        request.set_pipelined_prefix(ahead);
    }
    patience.rest_begins();
    let outcome = {
        let mut reading = pin!(request.read_request());
        poll_fn(|cx| {
            if let Poll::Ready(outcome) = reading.as_mut().poll(cx) {
                return Poll::Ready(Ok(outcome));
            }
            begun |= meter.has_received();
            let waited = if begun { patience.poll_head(cx) } else { patience.poll_rest(cx) };
            waited.map(Err)
        })
        .await
    };
    let exhausted = meter.is_exhausted();
    meter.head_done();
    patience.head_ends();
    match outcome {
        Ok(Ok(Some(_))) if meter.has_odd_line() => Err(NoRequest::Refused(Refusal::BadRequest(
            "the request line is not three words with single spaces",
        ))),
        Ok(Ok(Some(_))) => Ok(request),
        Ok(Ok(None)) => Err(NoRequest::Over),
        Ok(Err(_)) if exhausted => Err(NoRequest::Refused(Refusal::HeadTooLarge)),
        Ok(Err(error)) => Err(unreadable(&request, &error)),
        Err(why) => Err(why),
    }
}

/// What to say about a head that Pingora refused.
fn unreadable(request: &HttpSession, error: &pingora_core::Error) -> NoRequest {
    if *error.etype() != pingora_core::ErrorType::InvalidHTTPHeader {
        return NoRequest::Over;
    }
    // Only with a field to be found has the head been parsed, and may be looked at.
    let refusal = match request.get_header(header::HOST) {
        Some(_) => head::host(&request.req_header().headers).err(),
        None => None,
    };
    NoRequest::Refused(refusal.unwrap_or(Refusal::BadRequest("the request's head is malformed")))
}

/// Answers a request of which nothing is certain, and ends the connection.
async fn turn_away(client: &mut Client, socket: &Socket, refusal: &Refusal) {
    tracing::debug!(code = refusal.code(), "A request was refused before it was understood.");
    client.gateway.admission.metrics().refused(refusal);
    client.gateway.log.refused_early(&client.visitor, refusal);
    let id = Trace::random().request_id(&http::HeaderMap::new());
    let answer = Answer::of(refusal, &id, Audience::Program);
    if client.reply.answer(&answer, &Method::GET, Persistence::Close).await.is_ok() {
        linger(socket).await;
    }
}

/// Ends a connection in the middle of a response: the client gets what there was of it.
async fn break_off(reply: &mut Reply) {
    let _ = tokio::time::timeout(LAST_WORDS, reply.flush()).await;
}

/// Ends a connection whose client may still be sending. Closing at once would answer what it sends with a reset, which
/// can overtake the response that it has not read yet.
async fn linger(socket: &Socket) {
    let _ = socket.end();
    // Whoever is not done by then is not listening either.
    let _ = tokio::time::timeout(LAST_WORDS, socket.drained()).await;
}

/// How long a connection is waited for. The timers outlive single requests, so that a busy connection seldom sets one.
struct Patience {
    gateway: Arc<Gateway>,
    rest: Pin<Box<Sleep>>,
    resting_since: Instant,
    head: Option<Pin<Box<Sleep>>>,
    /// What of the first head's time was over when it was waited for.
    spent: Duration,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Patience {
    fn new(gateway: &Arc<Gateway>, spent: Duration) -> Self {
        let now = Instant::now();
        Self {
            rest: Box::pin(sleep_until(now + gateway.limits.keep_alive)),
            resting_since: now,
            head: None,
            spent,
            shutdown: Box::pin(gateway.closing.token.clone().cancelled_owned()),
            gateway: gateway.clone(),
        }
    }

    fn rest_begins(&mut self) {
        self.resting_since = Instant::now();
    }

    fn head_ends(&mut self) {
        (self.head, self.spent) = (None, Duration::ZERO);
    }

    /// Ready when a connection on which nothing happens has to end.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<NoRequest> {
        // With a successor it may rest on: its next request is answered, and told to go elsewhere.
        if self.shutdown.as_mut().poll(cx).is_ready() && !self.gateway.closing.may_rest_on() {
            return Poll::Ready(NoRequest::Over);
        }
        while self.rest.as_mut().poll(cx).is_ready() {
            let end = self.resting_since + self.gateway.limits.keep_alive;
            if end <= Instant::now() {
                return Poll::Ready(NoRequest::Over);
            }
            // It was set for an earlier rest.
            self.rest.as_mut().reset(end);
        }
        Poll::Pending
    }

    /// Ready when a head that has begun has to be given up.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<NoRequest> {
        let end = Instant::now() + self.gateway.limits.head_timeout.saturating_sub(self.spent);
        let head = self.head.get_or_insert_with(|| Box::pin(sleep_until(end)));
        head.as_mut().poll(cx).map(|()| NoRequest::Refused(Refusal::HeadTimeout))
    }
}
