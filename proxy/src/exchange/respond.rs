//! The response's way to the client: its heads, then its body, piece by piece as it comes.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use http::{Method, StatusCode, Version, header};
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_http::ResponseHeader;

use crate::framing::Framing;
use crate::headers::{self, Persistence};
use crate::metrics::Metrics;
use crate::stream::Outlet;

/// What the response depends on.
pub(super) struct Setting<'a> {
    /// The request's.
    pub(super) method: Method,
    /// The client's.
    pub(super) version: Version,
    /// Whether the client asked for another protocol.
    pub(super) upgrade: bool,
    /// What the client may expect of its connection, if its request is over by then.
    pub(super) persistence: Persistence,
    /// Above which no cookie is set.
    pub(super) domain: &'a str,
    /// Whether the whole request has been sent.
    pub(super) uploaded: &'a AtomicBool,
    /// Set when the client may have seen something of a response.
    pub(super) begun: &'a AtomicBool,
    /// Where its bytes are counted.
    pub(super) metrics: &'a Metrics,
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
    Backend(pingora_core::BError),
    /// The backend broke the rules.
    Protocol(&'static str),
    /// The client takes no more.
    Client(io::Error),
}

/// Sends the whole response. `on_head` is called with its status once its final head is on its way.
pub(super) async fn respond(
    response: &mut HttpSession,
    outlet: &mut Outlet,
    setting: &Setting<'_>,
    on_head: impl FnOnce(StatusCode),
) -> Result<Responded, RespondError> {
    let Some(head) = final_head(response, outlet, setting).await? else { return Ok(Responded::Switched) };
    if !is_framed_plainly(head) {
        return Err(RespondError::Protocol("a Transfer-Encoding other than chunked"));
    }
    let body = headers::framing(head, &setting.method, setting.version);
    // A client that is still sending cannot be told later that nobody reads it any more.
    let over = setting.uploaded.load(Ordering::Relaxed) && body != Framing::UntilClose && !setting.upgrade;
    let persistence = if over { setting.persistence } else { Persistence::Close };
    headers::write_response(outlet.buffer(), head, body, persistence, setting.domain);
    setting.begun.store(true, Ordering::Relaxed);
    on_head(head.status);
    send_body(response, outlet, body, setting.metrics).await?;
    Ok(Responded::Complete(persistence))
}

/// Reads heads until the final one; those before it are passed on. `None`: the protocol is switched.
async fn final_head<'a>(
    response: &'a mut HttpSession,
    outlet: &mut Outlet,
    setting: &Setting<'_>,
) -> Result<Option<&'a ResponseHeader>, RespondError> {
    loop {
        response.read_response().await.map_err(RespondError::Backend)?;
        let Some(head) = response.resp_header() else { return Err(RespondError::Protocol("no head")) };
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let agreed = setting.upgrade && head.version == Version::HTTP_11;
            return if agreed { Ok(None) } else { Err(RespondError::Protocol("101 that nobody asked for")) };
        }
        if !head.status.is_informational() {
            break;
        }
        // HTTP/1.0 knows no 1xx.
        if setting.version == Version::HTTP_11 {
            headers::write_interim(outlet.buffer(), head, setting.domain);
            setting.begun.store(true, Ordering::Relaxed);
            outlet.flush().await.map_err(RespondError::Client)?;
            setting.begun.store(false, Ordering::Relaxed);
        }
    }
    Ok(response.resp_header())
}

/// Whether the body's end is told in a way that both of us read alike.
fn is_framed_plainly(head: &ResponseHeader) -> bool {
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
        && codings.next().is_none()
}

async fn send_body(
    response: &mut HttpSession,
    outlet: &mut Outlet,
    body: Framing,
    metrics: &Metrics,
) -> Result<(), RespondError> {
    loop {
        let piece = {
            let mut reading = pin!(response.read_body_ref());
            match futures::poll!(reading.as_mut()) {
                Poll::Ready(piece) => piece,
                // Nothing more is at hand: what was gathered goes out, above all the head.
                Poll::Pending => {
                    outlet.flush().await.map_err(RespondError::Client)?;
                    reading.await
                }
            }
        };
        match piece.map_err(RespondError::Backend)? {
            Some(piece) => {
                outlet.send(body, piece).await.map_err(RespondError::Client)?;
                metrics.carried(0, piece.len() as u64);
            }
            None => break,
        }
    }
    body.end(outlet.buffer());
    outlet.flush().await.map_err(RespondError::Client)
}
