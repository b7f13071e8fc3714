//! One request to a backend that speaks HTTP/2, and its response.

use std::future::poll_fn;
use std::io;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Uri, Version, uri};
use pingora_http::{RequestHeader, ResponseHeader};

use super::outward::Outward;
use super::upstream::{STALL, Share};
use crate::framing::Framing;
use crate::headers::{self, RequestFields};

/// A place on a connection, for one request.
pub(crate) struct Call {
    share: Share,
    /// Whether the connection has carried a request before.
    pub(crate) reused: bool,
}

/// Why there is no response, or only half of one.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The backend has not looked at the request, and says so: it may be sent again, whatever it was.
    Unprocessed,
    /// It broke off, or broke the protocol.
    Broken(h2::Error),
    /// The request cannot be said in HTTP/2.
    Unsayable,
}

/// The request's way to the backend.
pub(crate) struct Up(Outward);

/// The response's way back.
pub(crate) struct Down {
    response: ResponseFuture,
    head: Option<ResponseHeader>,
    body: Option<RecvStream>,
    /// Bytes of the last piece: the backend may send as many again once they have been passed on.
    untold: usize,
    _share: Share,
}

impl Call {
    pub(super) fn new(share: Share, reused: bool) -> Self {
        Self { share, reused }
    }

    /// Sends the head.
    ///
    /// # Errors
    /// When the connection takes no more requests, or authority and target have bytes that HTTP/2 does not.
    pub(crate) fn ask(self, head: &RequestHeader, fields: &RequestFields<'_>) -> Result<(Up, Down), Lost> {
        let (announced, over) = match fields.plan.body {
            Framing::Length(length) => (Some(length), length == 0),
            body => (None, body == Framing::Empty),
        };
        let mut request = Request::new(());
        *request.method_mut() = head.method.clone();
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = address(fields.host, fields.target()).ok_or(Lost::Unsayable)?;
        *request.headers_mut() = headers::request_map(head, fields);
        // Nothing of it was sent when this fails.
        let sent = self.share.requests().send_request(request, over).map_err(|_| Lost::Unprocessed)?;
        let down = Down { response: sent.0, head: None, body: None, untold: 0, _share: self.share };
        Ok((Up(Outward::new(sent.1, announced, over, STALL)), down))
    }
}

fn address(authority: &[u8], target: &[u8]) -> Option<Uri> {
    let mut parts = uri::Parts::default();
    parts.scheme = Some(uri::Scheme::HTTP);
    parts.authority = Some(authority.try_into().ok()?);
    parts.path_and_query = Some(target.try_into().ok()?);
    Uri::from_parts(parts).ok()
}

impl Up {
    /// Sends a piece of the body. It may wait for the next one, or for a flush.
    ///
    /// # Errors
    /// When the backend takes no more.
    pub(crate) async fn send(&mut self, data: Bytes) -> io::Result<()> {
        self.0.send(data).await
    }

    /// Sends what was gathered.
    ///
    /// # Errors
    /// When the backend takes no more.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.0.flush().await
    }

    /// Ends the request.
    ///
    /// # Errors
    /// When the backend takes no more.
    pub(crate) async fn end(&mut self, trailers: Option<HeaderMap>) -> io::Result<()> {
        self.0.end(trailers).await
    }
}

impl Down {
    /// The next head: each 1xx, then the final one. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// When none comes.
    pub(crate) async fn read_head(&mut self) -> Result<(), Lost> {
        let interim = poll_fn(|cx| self.response.poll_informational(cx)).await;
        let head = match interim {
            Some(interim) => interim.map_err(Lost::of)?.into_parts().0,
            None => {
                let (head, body) = (&mut self.response).await.map_err(Lost::of)?.into_parts();
                self.body = Some(body);
                head
            }
        };
        self.head = Some(head.into());
        Ok(())
    }

    /// The last head that came.
    pub(crate) fn head(&self) -> Option<&ResponseHeader> {
        self.head.as_ref()
    }

    /// Whether the final head was all: gRPC says a failure so, and it is none any more if anything follows.
    pub(crate) fn ended_with_head(&self) -> bool {
        self.body.as_ref().is_some_and(RecvStream::is_end_stream)
    }

    /// The next piece of the body; `None` at its end. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// When the backend breaks off.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Lost> {
        let Some(body) = &mut self.body else { return Ok(None) };
        loop {
            if self.untold > 0 {
                let passed_on = std::mem::take(&mut self.untold);
                body.flow_control().release_capacity(passed_on).map_err(Lost::Broken)?;
            }
            match body.data().await {
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(Ok(piece)) => {
                    self.untold = piece.len();
                    return Ok(Some(piece));
                }
                Some(Err(error)) => return Err(Lost::Broken(error)),
                None => return Ok(None),
            }
        }
    }

    /// What came behind the body, once that is over.
    ///
    /// # Errors
    /// When the backend breaks off.
    pub(crate) async fn trailers(&mut self) -> Result<Option<HeaderMap>, Lost> {
        match &mut self.body {
            Some(body) => body.trailers().await.map_err(Lost::Broken),
            None => Ok(None),
        }
    }
}

impl Lost {
    fn of(error: h2::Error) -> Self {
        // With GOAWAY a backend names the last request that it has looked at: those behind it fail with that very word.
        let untouched = error.is_remote()
            && (error.is_go_away() || error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM));
        if untouched { Self::Unprocessed } else { Self::Broken(error) }
    }

    /// What kind of failure it is. An error's text may quote what the backend sent.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Unprocessed => "unprocessed",
            Self::Unsayable => "unsayable",
            Self::Broken(error) if error.is_io() => "io",
            Self::Broken(error) if error.is_go_away() => "goaway",
            Self::Broken(error) if error.is_reset() => "reset",
            Self::Broken(_) => "protocol",
        }
    }
}
