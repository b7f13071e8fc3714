//! What a client gets that does not get through: an answer of our own, in the form that its kind can read.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::incoming::Incoming;
use super::reply::Switched;
use super::{Exchange, Next};
use crate::access::Swap;
use crate::head;
use crate::headers::Persistence;
use crate::log::Outcome;
use crate::page::{Answer, Audience};
use crate::refusal::Refusal;
use crate::tunnel::close_frame;

/// How long a browser has to answer a close frame.
const FAREWELL: Duration = Duration::from_secs(1);
/// The subprotocol that goes with a ticket.
const OURS: &[u8] = b"bivouac.v1";
/// What a ticket begins with among subprotocols.
const TICKET: &[u8] = b"bivouac.ticket.";

impl Exchange<'_> {
    /// Answers in the session's stead. The connection goes on where the request was understood and is over.
    pub(super) async fn refuse(&mut self, mut asked: Incoming, refusal: &Refusal) -> Next {
        let id = self.trace.request_id(&asked.head().headers);
        tracing::debug!(code = refusal.code(), request.id = %id, "A request was refused.");
        self.gateway.admission.metrics().refused(refusal);
        self.account.refused(refusal);
        if let Some(head) = handshake(&asked) {
            return self.close(asked, &head, refusal.close()).await;
        }
        let persistence = match refusal {
            Refusal::BadRequest(_) | Refusal::Draining => Persistence::Close,
            _ => self.persistence(&mut asked),
        };
        let audience =
            if head::accepts_html(&asked.head().headers) { Audience::Person } else { Audience::Program };
        self.answer(asked, &Answer::of(refusal, &id, audience), persistence).await
    }

    /// Sends the browser to the same place, with a cookie in place of its one-use link.
    pub(super) async fn swap(&mut self, mut asked: Incoming, swap: Swap) -> Next {
        let id = self.trace.request_id(&asked.head().headers);
        let fields = vec![
            ("Location", in_ascii(&swap.location)),
            ("Set-Cookie", swap.set_cookie),
            ("Referrer-Policy", "no-referrer".to_owned()),
            ("Cache-Control", "no-store".to_owned()),
            ("X-Request-Id", id),
        ];
        let answer = Answer { status: StatusCode::SEE_OTHER, fields, body: String::new() };
        let persistence = self.persistence(&mut asked);
        self.account.head(answer.status);
        self.account.ended(Outcome::Complete);
        self.answer(asked, &answer, persistence).await
    }

    async fn answer(&mut self, asked: Incoming, answer: &Answer, persistence: Persistence) -> Next {
        match self.reply.answer(answer, &asked.head().method, persistence).await {
            Ok(()) => asked.go_on(persistence).await,
            Err(_) => Next::BreakOff,
        }
    }

    /// The page behind a WebSocket sees nothing of a status: it gets its connection, and with it a code why not.
    async fn close(
        &mut self,
        mut asked: Incoming,
        head: &ResponseHeader,
        (code, reason): (u16, &str),
    ) -> Next {
        self.reply.discard();
        let switched = self.reply.switch(&mut asked, head, false, &self.gateway.domain);
        let Ok(Switched { socket, mut greeting }) = switched else { return Next::BreakOff };
        self.account.closed_with(code);
        greeting.extend_from_slice(&close_frame(code, reason));
        socket.send_now(&greeting);
        socket.end();
        let _ = tokio::time::timeout(FAREWELL, socket.drained()).await;
        Next::Close
    }

    /// How the connection goes on behind an answer of ours.
    fn persistence(&self, asked: &mut Incoming) -> Persistence {
        // What stands behind a wish for another protocol may be in that already.
        if !asked.is_over() || head::asks_for_upgrade(asked.head()) {
            return Persistence::Close;
        }
        asked.persistence(self.gateway.closing.token.is_cancelled())
    }
}

/// The answer to a browser's WebSocket handshake, if that is what this is. Other clients can read a status.
fn handshake(asked: &Incoming) -> Option<ResponseHeader> {
    let request = asked.head();
    let key = request.headers.get(header::SEC_WEBSOCKET_KEY)?;
    let browser = request.headers.contains_key(header::ORIGIN);
    if !browser || !asked.plan().is_ok_and(|plan| plan.websocket) {
        return None;
    }
    accepting(request, key.as_bytes()).ok()
}

fn accepting(request: &RequestHeader, key: &[u8]) -> pingora_core::Result<ResponseHeader> {
    let mut head = ResponseHeader::build(StatusCode::SWITCHING_PROTOCOLS, Some(4))?;
    head.insert_header(header::UPGRADE, "websocket")?;
    head.insert_header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key))?;
    // A browser gives up where none of those it offered is chosen, before it has read the reason.
    if let Some(chosen) = chosen(&request.headers) {
        head.insert_header(header::SEC_WEBSOCKET_PROTOCOL, chosen)?;
    }
    Ok(head)
}

/// Ours if it is offered, else the first: never a ticket.
fn chosen(headers: &HeaderMap) -> Option<&[u8]> {
    let offered = || {
        headers
            .get_all(header::SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .flat_map(|value| head::tokens(value.as_bytes()))
    };
    offered()
        .find(|protocol| *protocol == OURS)
        .or_else(|| offered().find(|protocol| !protocol.starts_with(TICKET)))
}

/// A URL's bytes that are not ASCII, as a header field can carry them.
fn in_ascii(url: &[u8]) -> String {
    let mut text = String::with_capacity(url.len());
    for byte in url {
        if byte.is_ascii_graphic() {
            text.push(char::from(*byte));
        } else {
            text += &format!("%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_given_one_of_the_protocols_it_offered() {
        let offer = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, http::HeaderValue::from_static(text));
            chosen(&headers).map(|chosen| String::from_utf8(chosen.to_vec()).unwrap())
        };
        assert_eq!(offer("bivouac.ticket.x, bivouac.v1").as_deref(), Some("bivouac.v1"));
        assert_eq!(offer("chat, other").as_deref(), Some("chat"));
        assert_eq!(offer("bivouac.ticket.x, chat").as_deref(), Some("chat"));
        assert_eq!(offer("bivouac.ticket.x"), None);
        assert_eq!(offer(""), None);
        assert_eq!(chosen(&HeaderMap::new()), None);
    }

    #[test]
    fn a_location_is_one_line_of_ascii() {
        assert_eq!(in_ascii("/a?b=é&c=%20\r\n".as_bytes()), "/a?b=%C3%A9&c=%20%0D%0A");
    }
}
