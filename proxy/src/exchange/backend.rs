//! The two ways of an exchange with a backend, whatever that speaks.

use std::io;
use std::sync::Arc;

use bivouac_protocol::{Endpoint, Route};
use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Method, header};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_http::{RequestHeader, ResponseHeader};

use super::reply::Piece;
use crate::framing::Framing;
use crate::h2;
use crate::head;
use crate::headers::{self, RequestFields};
use crate::refusal::Refusal;
use crate::stream::{Meter, Outlet, Socket, Wire};
use crate::upstream::{self, Pool};

/// Bytes that the heads of one response may have, all 1xx included.
const RESPONSE_HEAD: usize = 256 * 1024;

/// A connection to a backend, or a place on one, for one request.
pub(super) enum Connection {
    /// A whole one.
    H1(upstream::Backend),
    /// A place on one.
    H2(h2::Call),
}

/// A backend that is being asked.
pub(super) struct Backend {
    pub(super) to: ToBackend,
    pub(super) from: FromBackend,
    /// The connection has carried a request before.
    reused: bool,
}

/// The request's way.
pub(super) enum ToBackend {
    H1(Outlet),
    H2(h2::Up),
}

/// The response's way.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the common one: no allocation for each request"
)]
pub(super) enum FromBackend {
    H1(Response),
    H2(Box<h2::Down>),
}

/// A response by HTTP/1.
pub(super) struct Response {
    session: HttpSession,
    meter: Arc<Meter>,
}

/// Why there is no response, or only a part of one.
pub(super) enum BackendError {
    /// Of an HTTP/1 connection.
    H1(pingora_core::BError),
    /// Of a stream.
    H2(h2::Lost),
}

impl Connection {
    /// Whether it has carried a request before.
    pub(super) fn is_reused(&self) -> bool {
        match self {
            Self::H1(backend) => backend.reused,
            Self::H2(call) => call.reused,
        }
    }

    /// Gathers the request's head, and goes out with the first flush.
    pub(super) async fn ask(
        self,
        head: &RequestHeader,
        fields: &RequestFields<'_>,
    ) -> Result<Backend, BackendError> {
        match self {
            Self::H1(upstream::Backend { wire: Wire { inlet, mut outlet, meter }, reused }) => {
                headers::write_request(outlet.buffer(), head, fields);
                meter.expect_head(RESPONSE_HEAD);
                let session =
                    begin(inlet, &head.method, fields.plan.upgrade).await.map_err(BackendError::H1)?;
                let from = FromBackend::H1(Response { session, meter });
                Ok(Backend { to: ToBackend::H1(outlet), from, reused })
            }
            Self::H2(call) => {
                let reused = call.reused;
                let (to, from) = call.ask(head, fields).map_err(BackendError::H2)?;
                Ok(Backend { to: ToBackend::H2(to), from: FromBackend::H2(Box::new(from)), reused })
            }
        }
    }
}

impl Backend {
    /// Whether a kept connection was given up by the backend before anything of a response came.
    pub(super) fn was_stale(&self, error: &BackendError) -> bool {
        self.reused
            && match (&self.from, error) {
                (FromBackend::H1(response), _) => !response.meter.has_received(),
                (FromBackend::H2(stream), BackendError::H2(h2::Lost::Broken(error))) => {
                    stream.head().is_none() && error.is_io()
                }
                (FromBackend::H2(_), _) => false,
            }
    }

    /// Gives the connection back, if both messages have ended so that the next ones can follow.
    pub(super) async fn keep(self, pool: &Pool, route: &Arc<Route>, endpoint: &Endpoint) {
        // A stream's place is free again when it is dropped.
        if let (ToBackend::H1(outlet), FromBackend::H1(Response { session, meter })) = (self.to, self.from)
            && let Some(inlet) = reusable(session).await
        {
            pool.keep(route, endpoint, Wire { inlet, outlet, meter });
        }
    }

    /// The connection as it is behind a switch of protocols, and what came in already. From here on silence is no fault:
    /// whoever carries the bytes looks after it.
    pub(super) fn into_tunnel(self) -> Option<(Socket, Vec<u8>)> {
        match (self.to, self.from) {
            (ToBackend::H1(outlet), FromBackend::H1(Response { mut session, .. })) => {
                // What was read with the head is there at once; nothing is waited for.
                let early = match session.read_body_ref().now_or_never() {
                    Some(Ok(Some(early))) => early.to_vec(),
                    _ => Vec::new(),
                };
                upstream::let_rest(outlet.socket());
                Some((outlet.socket().clone(), early))
            }
            // HTTP/2 switches to nothing.
            _ => None,
        }
    }
}

impl ToBackend {
    /// Sends a piece of the body. It may wait for more.
    pub(super) async fn send(&mut self, body: Framing, piece: Piece<'_>) -> io::Result<()> {
        match self {
            Self::H1(outlet) => outlet.send(body, piece.bytes()).await,
            Self::H2(stream) => stream.send(piece.into_own()).await,
        }
    }

    /// Sends everything that was gathered.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::H1(outlet) => outlet.flush().await,
            Self::H2(stream) => stream.flush().await,
        }
    }

    /// Sends the end of the body. The fields behind it are for HTTP/2 only: an HTTP/1 server may not expect any.
    pub(super) async fn end(&mut self, body: Framing, trailers: Option<HeaderMap>) -> io::Result<()> {
        match self {
            Self::H1(outlet) => {
                body.end(outlet.buffer());
                outlet.flush().await
            }
            Self::H2(stream) => stream.end(trailers).await,
        }
    }
}

impl FromBackend {
    /// Reads the next head: each 1xx, then the final one.
    pub(super) async fn read_head(&mut self) -> Result<(), BackendError> {
        match self {
            Self::H1(response) => {
                response.session.read_response().await.map_err(BackendError::H1)?;
                Ok(())
            }
            Self::H2(stream) => stream.read_head().await.map_err(BackendError::H2),
        }
    }

    /// The head that was read last.
    pub(super) fn head(&self) -> Option<&ResponseHeader> {
        match self {
            Self::H1(response) => response.session.resp_header(),
            Self::H2(stream) => stream.head(),
        }
    }

    /// Heads are over: what follows is counted by others.
    pub(super) fn head_done(&self) {
        match self {
            Self::H1(response) => response.meter.head_done(),
            // The library counts them.
            Self::H2(_) => {}
        }
    }

    /// Whether nothing follows the head, not even an empty body.
    pub(super) fn ends_with_head(&self) -> bool {
        match self {
            Self::H1(_) => false,
            Self::H2(stream) => stream.ended_with_head(),
        }
    }

    /// The next piece of the body, or `None` at its end.
    pub(super) async fn piece(&mut self) -> Result<Option<Piece<'_>>, BackendError> {
        match self {
            Self::H1(response) => {
                let piece = response.session.read_body_ref().await.map_err(BackendError::H1)?;
                Ok(piece.map(Piece::Lent))
            }
            Self::H2(stream) => Ok(stream.piece().await.map_err(BackendError::H2)?.map(Piece::Own)),
        }
    }

    /// The fields behind the body, once that is over. Those of HTTP/1 are discarded, as RFC 9110 permits.
    pub(super) async fn trailers(&mut self) -> Result<Option<HeaderMap>, BackendError> {
        match self {
            Self::H1(_) => Ok(None),
            Self::H2(stream) => stream.trailers().await.map_err(BackendError::H2),
        }
    }
}

impl BackendError {
    /// What kind of failure it is. An error's text may quote what the backend sent.
    pub(super) fn kind(&self) -> &str {
        match self {
            Self::H1(error) => error.etype().as_str(),
            Self::H2(lost) => lost.kind(),
        }
    }

    /// What the client is told of it, if nothing else explains it.
    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::H2(h2::Lost::Unsayable) => {
                Refusal::BadRequest("the request's target has characters that HTTP/2 does not allow")
            }
            Self::H1(_) | Self::H2(_) => Refusal::BackendFailed,
        }
    }

    /// Whether the backend has certainly not looked at the request.
    pub(super) fn is_unprocessed(&self) -> bool {
        match self {
            Self::H1(_) => false,
            Self::H2(lost) => matches!(lost, h2::Lost::Unprocessed),
        }
    }
}

/// The session that reads the response. It has to know what is answered, as that decides where the response ends: it is
/// told by a head that goes nowhere.
async fn begin(inlet: Stream, method: &Method, upgrade: bool) -> pingora_core::Result<HttpSession> {
    let mut response = HttpSession::new(inlet);
    let mut asked = RequestHeader::build_no_case(method.clone(), b"/", Some(0))?;
    if upgrade {
        asked.insert_header(header::UPGRADE, HeaderValue::from_static("any"))?;
    }
    response.write_request_header(Box::new(asked)).await?;
    Ok(response)
}

/// The connection, if the response has ended so that the next one can follow.
async fn reusable(mut response: HttpSession) -> Option<Stream> {
    let head = response.resp_header()?;
    let ambiguous = head.headers.contains_key(header::TRANSFER_ENCODING)
        && head::has_line(&response.get_headers_raw_bytes(), b"content-length");
    response.respect_keepalive();
    if ambiguous { None } else { response.reuse().await }
}
