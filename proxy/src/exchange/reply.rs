//! The way back to the client, whatever the client speaks.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method};
use pingora_http::ResponseHeader;

use super::incoming::Incoming;
use crate::framing::Framing;
use crate::h2;
use crate::headers::{self, Persistence};
use crate::page::Answer;
use crate::stream::{Outlet, Socket};

/// Where a response goes.
pub(crate) enum Reply {
    /// Into an HTTP/1 connection.
    H1(Outlet),
    /// Into a stream of an HTTP/2 one.
    H2(h2::Reply),
}

/// Some bytes of a body: HTTP/1 only borrows them, HTTP/2 keeps them until the other end has room.
pub(crate) enum Piece<'a> {
    /// In somebody's buffer.
    Lent(&'a [u8]),
    /// For whoever takes them.
    Own(Bytes),
}

/// What a switch of protocols begins with: the client's connection, and what is sent into it first.
pub(crate) struct Switched {
    pub(crate) socket: Socket,
    pub(crate) greeting: Vec<u8>,
}

impl Reply {
    /// Gathers a 1xx head.
    pub(super) fn interim(&mut self, head: &ResponseHeader, domain: &str) -> io::Result<()> {
        match self {
            Self::H1(outlet) => headers::write_interim(outlet.buffer(), head, domain),
            Self::H2(stream) => stream.interim(head, domain)?,
        }
        Ok(())
    }

    /// Gathers the final head.
    pub(super) fn begin(
        &mut self,
        head: &ResponseHeader,
        body: Framing,
        persistence: Persistence,
        domain: &str,
    ) -> io::Result<()> {
        match self {
            Self::H1(outlet) => headers::write_response(outlet.buffer(), head, body, persistence, domain),
            Self::H2(stream) => stream.begin(head, body, domain)?,
        }
        Ok(())
    }

    /// Sends a piece of the body. It may wait for more: whoever has nothing more at hand flushes.
    pub(super) async fn send(&mut self, body: Framing, piece: Piece<'_>) -> io::Result<()> {
        match self {
            Self::H1(outlet) => outlet.send(body, piece.bytes()).await,
            Self::H2(stream) => stream.send(piece.into_own()).await,
        }
    }

    /// Sends everything that was gathered.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::H1(outlet) => outlet.flush().await,
            Self::H2(stream) => stream.flush().await,
        }
    }

    /// Sends the end of the body, and the fields behind it to whoever wants them.
    pub(super) async fn end(&mut self, body: Framing, trailers: Option<HeaderMap>) -> io::Result<()> {
        match self {
            Self::H1(outlet) => {
                match trailers.filter(|_| body == Framing::Chunked) {
                    Some(trailers) => headers::write_trailers(outlet.buffer(), &trailers),
                    None => body.end(outlet.buffer()),
                }
                outlet.flush().await
            }
            Self::H2(stream) => stream.end(trailers).await,
        }
    }

    /// Sends a whole response of our own, in place of whatever was gathered.
    pub(crate) async fn answer(
        &mut self,
        answer: &Answer,
        method: &Method,
        persistence: Persistence,
    ) -> io::Result<()> {
        match self {
            Self::H1(outlet) => {
                outlet.discard();
                outlet.buffer().extend_from_slice(&answer.to_http1(method, persistence));
                outlet.flush().await
            }
            Self::H2(stream) => stream.answer(answer, method).await,
        }
    }

    /// Says that the connection speaks another protocol from here on, and hands it out.
    pub(super) fn switch(
        &mut self,
        asked: &mut Incoming,
        head: &ResponseHeader,
        offered_ours: bool,
        domain: &str,
    ) -> io::Result<Switched> {
        match (self, asked) {
            (Self::H1(outlet), _) => {
                let mut greeting = Vec::with_capacity(512);
                headers::write_switch(&mut greeting, head, offered_ours, domain);
                Ok(Switched { socket: outlet.socket().clone(), greeting })
            }
            (Self::H2(stream), Incoming::H2(asked)) => {
                let strand = stream.switch(asked, head, offered_ours, domain)?;
                Ok(Switched { socket: Socket::Strand(Arc::new(strand)), greeting: Vec::new() })
            }
            (Self::H2(_), Incoming::H1(_)) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// The response ends here, and must not look whole.
    pub(super) fn break_off(&mut self) {
        match self {
            Self::H1(outlet) => outlet.break_off(),
            Self::H2(stream) => stream.break_off(),
        }
    }

    /// Drops what was gathered and not sent.
    pub(super) fn discard(&mut self) {
        match self {
            Self::H1(outlet) => outlet.discard(),
            // What was taken is sent, or dies with its stream.
            Self::H2(_) => {}
        }
    }

    /// Resolves when the client has left.
    pub(super) async fn departed(&mut self) {
        match self {
            Self::H1(outlet) => outlet.socket().gone().await,
            Self::H2(stream) => poll_fn(|cx| stream.poll_departed(cx)).await,
        }
    }

    /// The connection, where the client's end shows in it and can be watched beside a response.
    pub(super) fn watched(&self) -> Option<Socket> {
        match self {
            Self::H1(outlet) => Some(outlet.socket().clone()),
            Self::H2(_) => None,
        }
    }

    /// Ready when the client has taken its request back: what shows in a response's own stream, and not in
    /// [`Reply::watched`].
    pub(super) fn poll_taken_back(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::H1(_) => Poll::Pending,
            Self::H2(stream) => stream.poll_departed(cx),
        }
    }
}

impl Piece<'_> {
    /// As they lie.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }

    /// For keeps: copied only if they were lent.
    pub(crate) fn into_own(self) -> Bytes {
        match self {
            Self::Lent(bytes) => Bytes::copy_from_slice(bytes),
            Self::Own(bytes) => bytes,
        }
    }
}
