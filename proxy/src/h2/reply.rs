//! The response to a request that came by HTTP/2.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};
use pingora_http::ResponseHeader;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::incoming::Incoming;
use super::into_io;
use super::outward::Outward;
use super::strand::Strand;
use crate::framing::Framing;
use crate::headers;
use crate::page::Answer;

/// Where a response goes.
pub(crate) struct Reply {
    respond: SendResponse<Bytes>,
    /// Once the final head is on its way.
    outward: Option<Outward>,
    /// Nothing was answered yet, or that this is no request.
    wasted: bool,
    /// Of the WebSocket handshake that this answers.
    key: Option<String>,
    stall: Duration,
}

impl Reply {
    /// `key`: of the WebSocket handshake that this answers; `stall`: how long the client may take nothing.
    pub(super) fn new(respond: SendResponse<Bytes>, key: Option<String>, stall: Duration) -> Self {
        Self { respond, outward: None, wasted: true, key, stall }
    }

    /// Whether the request came to nothing: it was taken back before an answer, or was none.
    pub(super) fn is_wasted(&self) -> bool {
        self.wasted
    }

    /// Passes a 1xx on.
    ///
    /// # Errors
    /// When the client has left.
    pub(crate) fn interim(&mut self, head: &ResponseHeader, session_domain: &str) -> io::Result<()> {
        let fields = headers::response_map(head, None, session_domain);
        self.respond.send_informational(message(head.status, fields)).map_err(into_io)
    }

    /// Sends the final head. With [`Framing::Empty`] the response is over.
    ///
    /// # Errors
    /// When the client has left.
    pub(crate) fn begin(
        &mut self,
        head: &ResponseHeader,
        body: Framing,
        session_domain: &str,
    ) -> io::Result<()> {
        self.start(head.status, headers::response_map(head, Some(body), session_domain), body)
    }

    fn start(&mut self, status: StatusCode, fields: HeaderMap, body: Framing) -> io::Result<()> {
        let stream = self.open(status, fields, body == Framing::Empty)?;
        let announced = match body {
            Framing::Length(length) => Some(length),
            _ => None,
        };
        self.outward = Some(Outward::new(stream, announced, body == Framing::Empty, self.stall));
        Ok(())
    }

    fn open(&mut self, status: StatusCode, fields: HeaderMap, over: bool) -> io::Result<SendStream<Bytes>> {
        let stream = self.respond.send_response(message(status, fields), over).map_err(into_io)?;
        self.wasted = false;
        Ok(stream)
    }

    /// Sends a piece of the body.
    ///
    /// # Errors
    /// When the client takes no more, or this is more than the head announced.
    pub(crate) async fn send(&mut self, data: Bytes) -> io::Result<()> {
        self.outward()?.send(data).await
    }

    /// Sends what was gathered.
    ///
    /// # Errors
    /// When the client takes no more.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        match &mut self.outward {
            Some(outward) => outward.flush().await,
            None => Ok(()),
        }
    }

    /// Ends the response.
    ///
    /// # Errors
    /// When the client takes no more, or this was less than the head announced.
    pub(crate) async fn end(&mut self, trailers: Option<HeaderMap>) -> io::Result<()> {
        self.outward()?.end(trailers).await
    }

    /// Answers in the session's stead, with everything at once.
    ///
    /// # Errors
    /// When the client takes no more.
    pub(crate) async fn answer(&mut self, answer: &Answer, method: &Method) -> io::Result<()> {
        let mut fields = HeaderMap::with_capacity(answer.fields.len() + 1);
        for (name, value) in &answer.fields {
            let value = HeaderValue::from_str(value).map_err(|_| io::ErrorKind::InvalidData)?;
            fields.append(
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| io::ErrorKind::InvalidData)?,
                value,
            );
        }
        fields.insert(header::CONTENT_LENGTH, answer.body.len().into());
        let body = match u64::try_from(answer.body.len()) {
            Ok(length @ 1..) if *method != Method::HEAD => Framing::Length(length),
            _ => Framing::Empty,
        };
        self.start(answer.status, fields, body)?;
        self.wasted = answer.status == StatusCode::BAD_REQUEST;
        if body != Framing::Empty {
            self.send(Bytes::copy_from_slice(answer.body.as_bytes())).await?;
            self.end(None).await?;
        }
        Ok(())
    }

    fn outward(&mut self) -> io::Result<&mut Outward> {
        self.outward.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Ends it in the middle: the client must not take what it has for a whole response.
    pub(crate) fn break_off(&mut self) {
        match &mut self.outward {
            Some(outward) => outward.break_off(Reason::INTERNAL_ERROR),
            None => self.respond.send_reset(Reason::INTERNAL_ERROR),
        }
    }

    /// Ready when the client has given up the request.
    pub(crate) fn poll_departed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.outward {
            Some(outward) => outward.poll_reset(cx),
            None => self.respond.poll_reset(cx).map(|_| ()),
        }
    }

    /// Answers a WebSocket's handshake as its backend did with `head`, a 101; the stream carries its frames from here on.
    /// `offered_ours`: so was our own subprotocol.
    ///
    /// # Errors
    /// When the backend has answered somebody else's handshake, or the client has left.
    pub(crate) fn switch(
        &mut self,
        request: &mut Incoming,
        head: &ResponseHeader,
        offered_ours: bool,
        session_domain: &str,
    ) -> io::Result<Strand> {
        // An HTTP/1.1 client compares this itself.
        let expected = self.key.as_ref().map(|key| derive_accept_key(key.as_bytes()));
        let answered = head.headers.get(header::SEC_WEBSOCKET_ACCEPT).map(|value| value.as_bytes());
        let (true, Some(body)) = (answered == expected.as_ref().map(String::as_bytes), request.take_body())
        else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let fields = headers::switch_map(head, offered_ours, session_domain);
        Ok(Strand::new(body, self.open(StatusCode::OK, fields, false)?))
    }
}

fn message(status: StatusCode, fields: HeaderMap) -> Response<()> {
    let mut message = Response::new(());
    *message.status_mut() = status;
    *message.version_mut() = Version::HTTP_2;
    *message.headers_mut() = fields;
    message
}
