//! The response's way to the client: its heads, then its body, piece by piece as it comes.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::Poll;

use http::{Method, StatusCode, Version, header};
use pingora_http::ResponseHeader;

use super::backend::{BackendError, FromBackend};
use super::course::Course;
use super::reply::Reply;
use crate::framing::Framing;
use crate::headers::{self, Persistence};

/// What the response depends on.
pub(super) struct Setting<'a> {
    /// The request's.
    pub(super) method: Method,
    /// The client's.
    pub(super) version: Version,
    /// Whether the client asked for another protocol: what it sends next may be in that.
    pub(super) asked: bool,
    /// Whether the backend was asked for it.
    pub(super) upgrade: bool,
    /// Whether the client wants what stands behind a body.
    pub(super) trailers: bool,
    /// What the client may expect of its connection, if its request is over by then.
    pub(super) persistence: Persistence,
    /// Above which no cookie is set.
    pub(super) domain: &'a str,
}

/// How it ended well.
pub(super) enum Responded {
    /// Everything was sent.
    Complete(Persistence),
    /// The backend speaks another protocol from here on.
    Switched,
}

/// Which side ended it early.
pub(super) enum RespondError {
    /// The backend broke off, or cannot be understood.
    Backend(BackendError),
    /// The backend broke the rules.
    Protocol(&'static str),
    /// The client takes no more.
    Client(io::Error),
}

/// Sends the whole response.
pub(super) async fn respond(
    from: &mut FromBackend,
    reply: &mut Reply,
    setting: &Setting<'_>,
    course: &Course<'_>,
) -> Result<Responded, RespondError> {
    if !read_final_head(from, reply, setting, course).await? {
        return Ok(Responded::Switched);
    }
    let head = head_of(from)?;
    if !is_framed_plainly(head) {
        return Err(RespondError::Protocol("a Transfer-Encoding other than chunked"));
    }
    let body = body_of(from, head, setting);
    // A client that is still sending cannot be told later that nobody reads it any more.
    let over = course.uploaded.load(Ordering::Relaxed) && body != Framing::UntilClose && !setting.asked;
    let persistence = if over { setting.persistence } else { Persistence::Close };
    reply.begin(head, body, persistence, setting.domain).map_err(RespondError::Client)?;
    course.begun.store(true, Ordering::Relaxed);
    course.answered(head.status);
    course.to_client.begin();
    from.head_done();
    send_body(from, reply, body, course).await?;
    let trailers = from.trailers().await.map_err(RespondError::Backend)?;
    reply.end(body, trailers.filter(|_| setting.trailers)).await.map_err(RespondError::Client)?;
    Ok(Responded::Complete(persistence))
}

/// Reads heads until the final one; those before it are passed on. False: the protocol is switched.
async fn read_final_head(
    from: &mut FromBackend,
    reply: &mut Reply,
    setting: &Setting<'_>,
    course: &Course<'_>,
) -> Result<bool, RespondError> {
    loop {
        beside(reply, pin!(from.read_head())).await?.map_err(RespondError::Backend)?;
        let head = head_of(from)?;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let agreed = setting.upgrade && head.version == Version::HTTP_11;
            return if agreed { Ok(false) } else { Err(RespondError::Protocol("101 that nobody asked for")) };
        }
        if !head.status.is_informational() {
            return Ok(true);
        }
        // HTTP/1.0 knows no 1xx.
        if setting.version >= Version::HTTP_11 {
            reply.interim(head, setting.domain).map_err(RespondError::Client)?;
            course.begun.store(true, Ordering::Relaxed);
            reply.flush().await.map_err(RespondError::Client)?;
            course.begun.store(false, Ordering::Relaxed);
        }
    }
}

fn head_of(from: &FromBackend) -> Result<&ResponseHeader, RespondError> {
    from.head().ok_or(RespondError::Protocol("no head"))
}

/// Whether the body's end is told in a way that both of us read alike.
fn is_framed_plainly(head: &ResponseHeader) -> bool {
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
        && codings.next().is_none()
}

/// How the body is written to the client.
fn body_of(from: &FromBackend, head: &ResponseHeader, setting: &Setting<'_>) -> Framing {
    // A gRPC server that refuses says so in its one head: with an end of its own behind it, that would be no answer.
    if from.ends_with_head() && setting.version == Version::HTTP_2 {
        return Framing::Empty;
    }
    headers::framing(head, &setting.method, setting.version)
}

async fn send_body(
    from: &mut FromBackend,
    reply: &mut Reply,
    body: Framing,
    course: &Course<'_>,
) -> Result<(), RespondError> {
    loop {
        let piece = {
            let mut reading = pin!(from.piece());
            match futures::poll!(reading.as_mut()) {
                Poll::Ready(piece) => piece,
                // Nothing more is at hand: what was gathered goes out, above all the head.
                Poll::Pending => {
                    reply.flush().await.map_err(RespondError::Client)?;
                    course.to_client.hush();
                    beside(reply, reading).await?
                }
            }
        };
        let Some(piece) = piece.map_err(RespondError::Backend)? else { return Ok(()) };
        let length = piece.bytes().len() as u64;
        course.to_client.passes().await;
        reply.send(body, piece).await.map_err(RespondError::Client)?;
        course.carried(0, length);
    }
}

/// Waits for the backend, unless the client takes its request back meanwhile.
async fn beside<T>(
    reply: &mut Reply,
    mut waiting: Pin<&mut impl Future<Output = T>>,
) -> Result<T, RespondError> {
    poll_fn(|cx| match waiting.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
        Poll::Pending => {
            let left = |()| Err(RespondError::Client(io::ErrorKind::ConnectionReset.into()));
            reply.poll_taken_back(cx).map(left)
        }
    })
    .await
}
