//! A request that came by HTTP/2.

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, Request};
use pingora_http::RequestHeader;

use super::head::Head;
use crate::head::Plan;
use crate::refusal::Refusal;

/// A request: its head, and its body as it comes.
pub(crate) struct Incoming {
    head: RequestHeader,
    plan: Result<Plan, Refusal>,
    /// `None` once it belongs to a tunnel.
    body: Option<RecvStream>,
    /// Bytes of the last piece: the client may send as many again once they have been passed on.
    untold: usize,
    over: bool,
    bodiless: bool,
    trailers: Option<HeaderMap>,
}

impl Incoming {
    /// Takes a request; returns it with the key of its WebSocket handshake, if it is one.
    pub(super) fn new(request: Request<RecvStream>) -> (Self, Option<String>) {
        let (parts, body) = request.into_parts();
        let ended = body.is_end_stream();
        let Head { fields, plan, key } = Head::read(parts, ended);
        // What comes behind a WebSocket's handshake is no body: before the backend has agreed to speak WebSocket it would
        // be read there as the next request. It stays where it is until a tunnel takes it.
        let over = ended || key.is_some();
        (Self { head: fields, plan, body: Some(body), untold: 0, over, bodiless: over, trailers: None }, key)
    }

    /// Its head, in the form that HTTP/1.1 gives it.
    pub(crate) fn head(&self) -> &RequestHeader {
        &self.head
    }

    /// How it goes on, if it may.
    pub(crate) fn plan(&self) -> Result<Plan, Refusal> {
        self.plan.clone()
    }

    /// Whether all of it has come.
    pub(crate) fn is_over(&self) -> bool {
        self.over || self.body.as_ref().is_none_or(RecvStream::is_end_stream)
    }

    /// Whether there was no body at all.
    pub(crate) fn is_bodiless(&self) -> bool {
        self.bodiless
    }

    /// The next piece of the body; `None` at its end. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// When the client takes the request back, or breaks its own rules.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, h2::Error> {
        let Some(body) = self.body.as_mut().filter(|_| !self.over) else { return Ok(None) };
        loop {
            if self.untold > 0 {
                body.flow_control().release_capacity(std::mem::take(&mut self.untold))?;
            }
            match body.data().await.transpose()? {
                Some(piece) if piece.is_empty() => {}
                Some(piece) => {
                    self.untold = piece.len();
                    return Ok(Some(piece));
                }
                None => break,
            }
        }
        self.trailers = body.trailers().await?;
        self.over = true;
        Ok(None)
    }

    /// What came behind the body, once that is over.
    pub(crate) fn trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// What the client goes on to send, for a tunnel.
    pub(super) fn take_body(&mut self) -> Option<RecvStream> {
        self.body.take()
    }
}
