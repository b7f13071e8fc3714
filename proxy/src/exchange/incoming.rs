//! A request as it comes in, whatever it comes by.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Version, header};
use pingora_core::ErrorType;
use pingora_core::protocols::http::v1::server::HttpSession;
use pingora_http::RequestHeader;

use super::Next;
use crate::h2;
use crate::head::{self, Plan};
use crate::headers::Persistence;
use crate::refusal::Refusal;

/// A request whose head was read.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the common one: no allocation for each request"
)]
pub(crate) enum Incoming {
    /// By HTTP/1.
    H1(HttpSession),
    /// By HTTP/2.
    H2(Box<h2::Incoming>),
}

/// Why no more of a body comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// The client has left.
    Left,
    /// It cannot be read.
    Malformed,
}

impl Incoming {
    /// Its head. It has exactly one `Host` once it was judged.
    pub(super) fn head(&self) -> &RequestHeader {
        match self {
            Self::H1(session) => session.req_header(),
            Self::H2(stream) => stream.head(),
        }
    }

    /// Judges the head.
    pub(super) fn plan(&self) -> Result<Plan, Refusal> {
        match self {
            Self::H1(session) => head::check(session.req_header(), &session.get_headers_raw_bytes()),
            Self::H2(stream) => stream.plan(),
        }
    }

    /// Whether nothing of it is left to be read.
    pub(super) fn is_over(&mut self) -> bool {
        match self {
            Self::H1(session) => session.is_body_done(),
            Self::H2(stream) => stream.is_over(),
        }
    }

    /// Whether it could be sent again: it had no body.
    pub(super) fn is_bodiless(&mut self) -> bool {
        match self {
            Self::H1(session) => session.is_body_empty(),
            Self::H2(stream) => stream.is_bodiless(),
        }
    }

    /// Whether its body has to come at some pace. A stream that shares its connection with others may rest: the
    /// connection is watched instead.
    pub(super) fn is_paced(&self) -> bool {
        match self {
            Self::H1(_) => true,
            Self::H2(_) => false,
        }
    }

    /// The next piece of its body, or `None` at its end. Nothing is lost when this is given up half-way.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, BodyError> {
        match self {
            Self::H1(session) => {
                if session.is_body_done() {
                    return Ok(None);
                }
                session.read_body_bytes().await.map_err(|error| BodyError::of(&error))
            }
            // What is malformed in it was answered with a reset: nobody is left to be told.
            Self::H2(stream) => stream.piece().await.map_err(|_| BodyError::Left),
        }
    }

    /// The fields behind its body. Those of HTTP/1 are discarded, as RFC 9110 permits.
    pub(super) fn trailers(&mut self) -> Option<HeaderMap> {
        match self {
            Self::H1(_) => None,
            Self::H2(stream) => stream.trailers(),
        }
    }

    /// What the client may expect of its connection once its request is over.
    pub(super) fn persistence(&self, closing: bool) -> Persistence {
        match self {
            Self::H1(session) if closing || !session.will_keepalive() => Persistence::Close,
            Self::H1(session) if session.req_header().version == Version::HTTP_10 => Persistence::Announced,
            Self::H1(_) | Self::H2(_) => Persistence::Implied,
        }
    }

    /// What the client has sent behind the head of its upgrade: the first bytes of the new protocol.
    pub(super) async fn sent_early(self) -> BytesMut {
        match self {
            Self::H1(session) => sent_early(session).await,
            // A stream's data waits in it.
            Self::H2(_) => BytesMut::new(),
        }
    }

    /// How the connection goes on after a response that said so.
    pub(super) async fn go_on(self, persistence: Persistence) -> Next {
        match self {
            Self::H1(session) => go_on(session, persistence).await,
            Self::H2(_) => Next::Close,
        }
    }
}

impl BodyError {
    /// Whether the client's end of the connection is gone, or rather its body malformed.
    fn of(error: &pingora_core::Error) -> Self {
        match error.etype() {
            ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::ReadTimedout => Self::Left,
            _ => Self::Malformed,
        }
    }
}

async fn go_on(mut session: HttpSession, persistence: Persistence) -> Next {
    if persistence == Persistence::Close {
        let said_all = session.is_body_done() && session.get_header(header::UPGRADE).is_none();
        return if said_all { Next::Close } else { Next::Linger };
    }
    match session.reuse().await {
        Ok(Some(connection)) => Next::Again(connection),
        Ok(None) | Err(_) => Next::Linger,
    }
}

async fn sent_early(mut session: HttpSession) -> BytesMut {
    // Only a session that may be used again hands out what it has read ahead.
    session.req_header_mut().remove_header(&header::CONNECTION);
    session.set_server_keepalive(Some(0));
    match session.reuse().await {
        Ok(Some(connection)) => connection.into_parts().1.unwrap_or_default(),
        Ok(None) | Err(_) => BytesMut::new(),
    }
}
