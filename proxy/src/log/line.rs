//! One line: a JSON object whose fields always come in the same order. Pure.
//!
//! Nothing secret is in it: no query, no cookie, no field of the request but its host, no claim and no body. What comes
//! from outside is printable ASCII here, whatever it was.

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bivouac_protocol::{PortLabel, Route, SessionId};
use http::{StatusCode, Version, header};
use jiff::Timestamp;
use pingora_http::RequestHeader;

use super::Outcome;
use crate::admission::Admitted;
use crate::head;
use crate::headers::Trace;
use crate::host::Target;
use crate::visitor::Visitor;

/// More of a path than this is of no use in a log.
const LONGEST_PATH: usize = 2048;
/// No hostname is longer.
const LONGEST_HOST: usize = 255;

/// Who asked for what.
pub(super) struct Asked {
    pub(super) at: Timestamp,
    pub(super) client: IpAddr,
    pub(super) secure: bool,
    pub(super) protocol: &'static str,
    /// Nothing if the head was not understood.
    pub(super) head: Option<Head>,
}

/// What is kept of a request's head.
pub(super) struct Head {
    pub(super) id: String,
    pub(super) method: String,
    pub(super) host: Vec<u8>,
    pub(super) path: Vec<u8>,
}

/// The session that it is about.
#[derive(Default)]
pub(super) struct Place {
    pub(super) session: Option<SessionId>,
    pub(super) port: Option<PortLabel>,
    pub(super) route: Option<Arc<Route>>,
    pub(super) user: Option<Arc<str>>,
}

/// What the client got.
pub(super) struct Answer {
    pub(super) status: Option<StatusCode>,
    /// The code of our own answer.
    pub(super) refused: Option<&'static str>,
    pub(super) outcome: Outcome,
    pub(super) close: Option<u16>,
}

/// How long it took.
pub(super) struct Times {
    pub(super) whole: Duration,
    /// From its head until it was let in.
    pub(super) held: Option<Duration>,
    /// From there until the backend's head was on its way.
    pub(super) backend: Option<Duration>,
}

/// Everything together.
pub(super) struct Line<'a> {
    pub(super) asked: &'a Asked,
    pub(super) protocol: &'static str,
    pub(super) answer: Answer,
    pub(super) place: &'a Place,
    pub(super) to_backend: u64,
    pub(super) to_client: u64,
    pub(super) times: Times,
    pub(super) reused: Option<bool>,
}

impl Asked {
    pub(super) fn new(at: Timestamp, visitor: &Visitor, head: &RequestHeader, trace: &Trace) -> Self {
        let host = match head.headers.get(header::HOST) {
            Some(host) => host.as_bytes(),
            None => head.uri.authority().map(|authority| authority.as_str().as_bytes()).unwrap_or_default(),
        };
        let head_of_it = Head {
            id: trace.request_id(&head.headers),
            method: head.method.as_str().to_owned(),
            host: first(host, LONGEST_HOST).to_vec(),
            path: first(path(head), LONGEST_PATH).to_vec(),
        };
        Self { protocol: protocol(head.version), head: Some(head_of_it), ..Self::nothing(at, visitor) }
    }

    /// A client that has said nothing that was understood.
    pub(super) fn nothing(at: Timestamp, visitor: &Visitor) -> Self {
        Self { at, client: visitor.client.to_canonical(), secure: visitor.secure, protocol: "", head: None }
    }
}

impl Place {
    pub(super) fn target(&mut self, target: &Target) {
        self.session = Some(target.session.clone());
        self.port.clone_from(&target.port);
    }

    pub(super) fn admitted(&mut self, admitted: &Admitted) {
        self.route = Some(admitted.route().clone());
        self.user.clone_from(&admitted.grant().user);
    }
}

/// The path alone: what follows `?` is nobody's business, what stands before the path may hold a password.
fn path(head: &RequestHeader) -> &[u8] {
    let target = head::origin_form(head).unwrap_or(b"");
    target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default()
}

fn first(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(..most).unwrap_or(bytes)
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

impl Line<'_> {
    /// Appends it, with a line's end.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.write_request(out);
        self.write_answer(out);
        self.write_place(out);
        self.write_course(out);
        out.extend_from_slice(b"}\n");
    }

    fn write_request(&self, out: &mut Vec<u8>) {
        let asked = self.asked;
        // Writing to a Vec cannot fail; here and below.
        let _ = write!(out, "{{\"at\":\"{:.3}\"", asked.at);
        if let Some(head) = &asked.head {
            text(out, "id", head.id.as_bytes());
        }
        let _ = write!(out, ",\"client\":\"{}\"", asked.client);
        if !self.protocol.is_empty() {
            text(out, "proto", self.protocol.as_bytes());
        }
        let _ = write!(out, ",\"tls\":{}", asked.secure);
        if let Some(head) = &asked.head {
            text(out, "method", head.method.as_bytes());
            text(out, "host", &head.host);
            text(out, "path", &head.path);
        }
    }

    fn write_answer(&self, out: &mut Vec<u8>) {
        let answer = &self.answer;
        if let Some(status) = answer.status {
            let _ = write!(out, ",\"status\":{}", status.as_u16());
        }
        let (cut, code) = match (answer.refused, answer.outcome) {
            (Some(code), _) => ("", code),
            (None, Outcome::Complete) => ("", "ok"),
            (None, Outcome::ClientGone) => ("", "client_gone"),
            (None, Outcome::Broken) => ("", "broken"),
            (None, Outcome::Cut(reason)) => ("cut:", reason),
        };
        let _ = write!(out, ",\"code\":\"{cut}{code}\"");
    }

    fn write_place(&self, out: &mut Vec<u8>) {
        let place = self.place;
        let route = place.route.as_deref();
        if let Some(session) = route.map(|route| &route.session).or(place.session.as_ref()) {
            text(out, "session", session.as_str().as_bytes());
        }
        if let Some(route) = route {
            let _ = write!(out, ",\"generation\":{}", route.generation.0);
        }
        if let Some(port) = place.port.as_ref().or(route.map(|route| &route.port)) {
            text(out, "port", port.as_str().as_bytes());
        }
        if let Some(route) = route {
            text(out, "allocation", route.allocation.as_str().as_bytes());
        }
        if let Some(user) = &place.user {
            text(out, "user", user.as_bytes());
        }
    }

    fn write_course(&self, out: &mut Vec<u8>) {
        let millis = |span: Duration| span.as_secs_f64() * 1e3;
        let _ = write!(out, ",\"in\":{},\"out\":{}", self.to_backend, self.to_client);
        let _ = write!(out, ",\"ms\":{:.3}", millis(self.times.whole));
        for (name, span) in [("held_ms", self.times.held), ("backend_ms", self.times.backend)] {
            if let Some(span) = span {
                let _ = write!(out, ",\"{name}\":{:.3}", millis(span));
            }
        }
        if let Some(reused) = self.reused {
            let _ = write!(out, ",\"reused\":{reused}");
        }
        if let Some(code) = self.answer.close {
            let _ = write!(out, ",\"close\":{code}");
        }
    }
}

/// A field with a text in printable ASCII: other bytes are percent-encoded, so that a line neither ends early nor says
/// anything to a terminal.
fn text(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let _ = write!(out, ",\"{name}\":\"");
    for byte in value {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => out.push(*byte),
            _ => {
                let [high, low] = [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]);
                out.extend_from_slice(&[b'%', high, low]);
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests;
