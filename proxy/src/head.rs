//! What the proxy insists on in a request's head. Pure.
//!
//! Pingora parses and refuses what no server could agree on; here is refused what two servers might read differently,
//! because one of them is the backend: a request must be one request for both of us.

use http::{HeaderMap, Method, Version, header};
use pingora_http::RequestHeader;
use pingora_http::authority::{RawTargetAuthority, raw_target_authority};

use crate::framing::Framing;
use crate::refusal::Refusal;

/// `Connection` may nominate so many fields; an honest client nominates two or three.
const MAX_NOMINATIONS: usize = 16;

/// What the head says about how the request goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// How its body ends.
    pub(crate) body: Framing,
    /// Whether it asks for another protocol on this connection, and may get it.
    pub(crate) upgrade: bool,
    /// Whether that protocol is WebSocket.
    pub(crate) websocket: bool,
    /// Whether a person's browser waits for a page.
    pub(crate) navigation: bool,
}

/// Judges a head. `raw` is the head as it came over the wire.
pub(crate) fn check(head: &RequestHeader, raw: &[u8]) -> Result<Plan, Refusal> {
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(Refusal::MethodNotAllowed);
    }
    if !matches!(head.version, Version::HTTP_10 | Version::HTTP_11) {
        return Err(Refusal::BadRequest("only HTTP/1.0 and HTTP/1.1 are spoken here"));
    }
    if !lines_end_well(raw) {
        return Err(Refusal::BadRequest("a line of the request's head does not end with CR LF"));
    }
    if nominations(&head.headers).count() > MAX_NOMINATIONS {
        return Err(Refusal::BadRequest("Connection nominates too many fields"));
    }
    let body = body(head, raw)?;
    let upgrade = matches!(body, Framing::Empty | Framing::Length(0)) && asks_for_upgrade(head);
    Ok(Plan {
        body,
        upgrade,
        websocket: upgrade && is(&head.headers, header::UPGRADE, "websocket"),
        navigation: !upgrade && is_navigation(head),
    })
}

/// The one `Host` of a request.
pub(crate) fn host(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Ok(host.as_bytes()),
        (None, _) => Err(Refusal::BadRequest("the request has no Host")),
        (Some(_), Some(_)) => Err(Refusal::BadRequest("the request has more than one Host")),
    }
}

/// The target as the backend gets it: origin form, or `*` for OPTIONS. That an absolute target names the same authority
/// as `Host` was checked by the parser.
pub(crate) fn origin_form(head: &RequestHeader) -> Result<&[u8], Refusal> {
    const REFUSED: Refusal = Refusal::BadRequest("the request's target is neither a path nor an http URL");
    let target = head.raw_path();
    match raw_target_authority(target) {
        RawTargetAuthority::None if target.starts_with(b"/") => Ok(target),
        RawTargetAuthority::None if target == b"*" && head.method == Method::OPTIONS => Ok(target),
        RawTargetAuthority::Absolute { scheme, path_and_query, .. }
            if scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https") =>
        {
            match path_and_query.first() {
                None => Ok(b"/"),
                Some(b'/') => Ok(path_and_query),
                Some(_) => Err(REFUSED),
            }
        }
        _ => Err(REFUSED),
    }
}

/// Whether the client wants the fields behind a body.
pub(crate) fn takes_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::TE)
        .iter()
        .flat_map(|value| tokens(value.as_bytes()))
        .any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

/// Whether the backend may be asked twice: the second time changes nothing.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

/// The fields that `Connection` nominates, `close`, `keep-alive` and `upgrade` included.
pub(crate) fn nominations(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(header::CONNECTION).iter().flat_map(|value| tokens(value.as_bytes()))
}

/// The elements of a comma-separated list.
pub(crate) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

fn body(head: &RequestHeader, raw: &[u8]) -> Result<Framing, Refusal> {
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        // The parser has removed Content-Length where both are given; a backend might have believed the other one.
        if lengths.next().is_some() || has_line(raw, b"content-length") {
            return Err(Refusal::BadRequest("the request has both Content-Length and Transfer-Encoding"));
        }
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::BadRequest("Transfer-Encoding may only be chunked"));
        }
        if head.version != Version::HTTP_11 {
            return Err(Refusal::BadRequest("HTTP/1.0 has no Transfer-Encoding"));
        }
        return Ok(Framing::Chunked);
    }
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(Framing::Empty),
        (Some(length), None) => decimal(length.as_bytes())
            .map(Framing::Length)
            .ok_or(Refusal::BadRequest("Content-Length is not one decimal number")),
        (Some(_), Some(_)) => Err(Refusal::BadRequest("the request has more than one Content-Length")),
    }
}

/// A number of digits alone.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

/// Whether every LF follows a CR. The parser accepts a bare LF; a backend may not see a line's end there, or the other
/// way about.
fn lines_end_well(raw: &[u8]) -> bool {
    let mut previous = 0;
    for byte in raw {
        if *byte == b'\n' && previous != b'\r' {
            return false;
        }
        previous = *byte;
    }
    true
}

/// Whether a line of the raw head begins with this field name, in any case.
pub(crate) fn has_line(raw: &[u8], name: &[u8]) -> bool {
    raw.split(|b| *b == b'\n').any(|line| {
        line.split_at_checked(name.len()).is_some_and(|(start, rest)| {
            start.eq_ignore_ascii_case(name) && rest.trim_ascii_start().starts_with(b":")
        })
    })
}

/// An upgrade needs both fields. `h2c` and `TLS` would open a way around everything that is checked here, on a
/// connection that was admitted once; a server may ignore an upgrade, and so are they.
pub(crate) fn asks_for_upgrade(head: &RequestHeader) -> bool {
    head.version == Version::HTTP_11
        && head.headers.contains_key(header::UPGRADE)
        && nominations(&head.headers).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
        && head.headers.get_all(header::UPGRADE).iter().flat_map(|value| tokens(value.as_bytes())).all(
            |protocol| {
                let name = protocol.split(|b| *b == b'/').next().unwrap_or_default();
                ![b"h2c".as_slice(), b"h2", b"http", b"tls"]
                    .iter()
                    .any(|other| name.eq_ignore_ascii_case(other))
            },
        )
}

/// Whether a person's browser waits for a page.
pub(crate) fn is_navigation(head: &RequestHeader) -> bool {
    let mode = head.headers.get("sec-fetch-mode");
    head.method == Method::GET
        && mode.is_none_or(|mode| mode.as_bytes() == b"navigate")
        && accepts_html(&head.headers)
}

/// Whether an answer for a person may be HTML.
pub(crate) fn accepts_html(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().flat_map(|value| tokens(value.as_bytes())).any(|range| {
        let media = range.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        media.eq_ignore_ascii_case(b"text/html")
    })
}

fn is(headers: &HeaderMap, name: header::HeaderName, expected: &str) -> bool {
    headers.get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(expected.as_bytes()))
}

#[cfg(test)]
mod tests;
