//! One client connection: a request at a time, in order, for as long as both sides like.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use http::{Method, header};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::server::HttpSession;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::exchange::{self, Next};
use crate::head;
use crate::headers::{Forwarded, Persistence, Trace};
use crate::listener::Gateway;
use crate::page::{self, Audience};
use crate::refusal::Refusal;
use crate::stream::{Meter, Outlet, Wire, is_quiet, try_recv};

/// How long a client is waited for once everything was said.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What the exchange needs of a client's connection.
pub(crate) struct Client {
    /// The house.
    pub(crate) gateway: Arc<Gateway>,
    /// Where responses go.
    pub(crate) outlet: Outlet,
    /// Who the client is, for the backend.
    pub(crate) forwarded: Forwarded,
    meter: Arc<Meter>,
}

/// Why there is no next request.
enum NoRequest {
    /// The client left, rested too long, or the proxy stops: nobody waits for an answer.
    Over,
    /// The client is told.
    Refused(Refusal),
}

/// Serves a connection to its end.
pub(crate) async fn run(gateway: Arc<Gateway>, stream: TcpStream, address: IpAddr) {
    let Wire { mut inlet, outlet, meter } = Wire::new(stream);
    let mut patience = Patience::new(&gateway);
    let mut client = Client { gateway, outlet, forwarded: Forwarded::new(address), meter };
    let mut ahead = None;
    loop {
        let request = match next_request(&client, inlet, ahead.take(), &mut patience).await {
            Ok(request) => request,
            Err(NoRequest::Over) => return,
            Err(NoRequest::Refused(refusal)) => return turn_away(&mut client, &refusal).await,
        };
        match exchange::serve(&mut client, request).await {
            Next::Again(connection) => (inlet, ahead) = connection.into_parts(),
            Next::Tunnel(tunnel) => {
                // A task of its own: this one, with all it holds, ends and gives its memory back.
                client.gateway.tracker.spawn(tunnel.run());
                return;
            }
            Next::Close if is_quiet(client.outlet.socket()) => return,
            Next::Close | Next::Linger => return linger(&client.outlet).await,
            Next::BreakOff => return break_off(&mut client.outlet).await,
        }
    }
}

/// Reads the next head. `ahead` is what the client has sent of it behind its last request.
async fn next_request(
    client: &Client,
    inlet: Stream,
    ahead: Option<BytesMut>,
    patience: &mut Patience,
) -> Result<HttpSession, NoRequest> {
    let limits = &client.gateway.limits;
    let mut begun = ahead.is_some();
    client.meter.expect_request(limits.head_bytes, ahead.as_deref().unwrap_or_default());
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
            begun |= client.meter.has_received();
            let waited = if begun { patience.poll_head(cx) } else { patience.poll_rest(cx) };
            waited.map(Err)
        })
        .await
    };
    let exhausted = client.meter.is_exhausted();
    client.meter.head_done();
    patience.head_ends();
    match outcome {
        Ok(Ok(Some(_))) if client.meter.has_odd_line() => Err(NoRequest::Refused(Refusal::BadRequest(
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
async fn turn_away(client: &mut Client, refusal: &Refusal) {
    tracing::debug!(code = refusal.code(), "A request was refused before it was understood.");
    client.gateway.admission.metrics().refused(refusal);
    let id = Trace::random().request_id(&http::HeaderMap::new());
    let answer = page::render(refusal, &id, Audience::Program, &Method::GET, Persistence::Close);
    client.outlet.discard();
    client.outlet.buffer().extend_from_slice(&answer);
    if client.outlet.flush().await.is_ok() {
        linger(&client.outlet).await;
    }
}

/// Ends a connection in the middle of a response: the client gets what there was of it.
async fn break_off(outlet: &mut Outlet) {
    let _ = tokio::time::timeout(LAST_WORDS, outlet.flush()).await;
}

/// Ends a connection whose client may still be sending. Closing at once would answer what it sends with a reset, which
/// can overtake the response that it has not read yet.
async fn linger(outlet: &Outlet) {
    outlet.end();
    let drained = async {
        let mut scrap = vec![0; 4096];
        while outlet.socket().readable().await.is_ok() {
            match try_recv(outlet.socket(), &mut scrap.as_mut_slice()) {
                Ok(0) => return,
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    };
    // Whoever is not done by then is not listening either.
    let _ = tokio::time::timeout(LAST_WORDS, drained).await;
}

/// How long a connection is waited for. The timers outlive single requests, so that a busy connection seldom sets one.
struct Patience {
    rest: Pin<Box<Sleep>>,
    resting_since: Instant,
    keep_alive: Duration,
    head: Option<Pin<Box<Sleep>>>,
    head_timeout: Duration,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Patience {
    fn new(gateway: &Gateway) -> Self {
        let now = Instant::now();
        Self {
            rest: Box::pin(sleep_until(now + gateway.limits.keep_alive)),
            resting_since: now,
            keep_alive: gateway.limits.keep_alive,
            head: None,
            head_timeout: gateway.limits.head_timeout,
            shutdown: Box::pin(gateway.shutdown.clone().cancelled_owned()),
        }
    }

    fn rest_begins(&mut self) {
        self.resting_since = Instant::now();
    }

    fn head_ends(&mut self) {
        self.head = None;
    }

    /// Ready when a connection on which nothing happens has to end.
    fn poll_rest(&mut self, cx: &mut std::task::Context<'_>) -> Poll<NoRequest> {
        if self.shutdown.as_mut().poll(cx).is_ready() {
            return Poll::Ready(NoRequest::Over);
        }
        while self.rest.as_mut().poll(cx).is_ready() {
            let end = self.resting_since + self.keep_alive;
            if end <= Instant::now() {
                return Poll::Ready(NoRequest::Over);
            }
            // It was set for an earlier rest.
            self.rest.as_mut().reset(end);
        }
        Poll::Pending
    }

    /// Ready when a head that has begun has to be given up.
    fn poll_head(&mut self, cx: &mut std::task::Context<'_>) -> Poll<NoRequest> {
        let end = Instant::now() + self.head_timeout;
        let head = self.head.get_or_insert_with(|| Box::pin(sleep_until(end)));
        head.as_mut().poll(cx).map(|()| NoRequest::Refused(Refusal::HeadTimeout))
    }
}
