//! What the proxy insists on in a request's head that came by HTTP/2. Pure.
//!
//! The `h2` crate refuses what is malformed in itself: pseudo fields out of place, upper case, fields of a connection,
//! a `te` other than `trailers`. Here a head is brought into the form that everything behind expects, whichever way it
//! came: one `Host`, one `Cookie`, an origin-form target, and a WebSocket's handshake as HTTP/1.1 has it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use h2::ext::Protocol;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, header};
use pingora_http::RequestHeader;

use crate::framing::Framing;
use crate::head::{self, Plan};
use crate::refusal::Refusal;

/// Fields that a head may have. Cookies are counted by their crumbs.
const MAX_FIELDS: usize = 256;

/// A head in the common form, and how its request goes on.
pub(super) struct Head {
    /// In the common form as far as that was possible.
    pub(super) fields: RequestHeader,
    /// How it goes on, or why it does not.
    pub(super) plan: Result<Plan, Refusal>,
    /// The `Sec-WebSocket-Key` that was made for the backend.
    pub(super) key: Option<String>,
}

impl Head {
    /// Reads a head. `ended`: no body follows.
    pub(super) fn read(mut parts: Parts, ended: bool) -> Self {
        let websocket = is_websocket(&parts);
        let judged = judge(&parts, ended, websocket);
        let host = settle_host(&mut parts);
        join_cookies(&mut parts.headers);
        let key = (websocket && judged.is_ok()).then(|| into_handshake(&mut parts));
        let fields = RequestHeader::from(parts);
        let plan = host.and(judged).map(|body| Plan {
            body,
            upgrade: websocket,
            websocket,
            navigation: !websocket && head::is_navigation(&fields),
        });
        Self { fields, plan, key }
    }
}

/// Whether it is an extended CONNECT (RFC 8441) for the one protocol that browsers ask for.
fn is_websocket(parts: &Parts) -> bool {
    let protocol = parts.extensions.get::<Protocol>();
    parts.method == Method::CONNECT
        && protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"))
}

/// How the body ends, of a request that may be served.
fn judge(parts: &Parts, ended: bool, websocket: bool) -> Result<Framing, Refusal> {
    if (parts.method == Method::CONNECT && !websocket) || parts.method == Method::TRACE {
        return Err(Refusal::MethodNotAllowed);
    }
    if parts.headers.len() > MAX_FIELDS {
        return Err(Refusal::HeadTooLarge);
    }
    if parts.uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(Refusal::BadRequest("the request's scheme is neither http nor https"));
    }
    let path = parts.uri.path_and_query().map(|path| path.as_str().as_bytes()).unwrap_or_default();
    let everywhere = path == b"*" && parts.method == Method::OPTIONS;
    if !(path.starts_with(b"/") || everywhere) || path.iter().any(|b| *b <= b' ' || *b == 0x7f) {
        return Err(Refusal::BadRequest(
            "the request's path does not begin with a slash, or has odd characters",
        ));
    }
    let body = body(&parts.headers, ended)?;
    match (websocket, ended, body) {
        (false, _, body) => Ok(body),
        (true, false, Framing::Chunked) => Ok(Framing::Empty),
        (true, ..) => Err(Refusal::BadRequest("a WebSocket's handshake has no body, and its stream goes on")),
    }
}

fn body(headers: &HeaderMap, ended: bool) -> Result<Framing, Refusal> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    match (lengths.next().map(|length| head::decimal(length.as_bytes())), lengths.next()) {
        (None, _) if !ended => Ok(Framing::Chunked),
        (None, _) => Ok(Framing::Empty),
        (Some(Some(0)), None) => Ok(Framing::Length(0)),
        (Some(Some(length)), None) if !ended => Ok(Framing::Length(length)),
        _ => Err(Refusal::BadRequest("Content-Length is not one decimal number, or not that of the body")),
    }
}

/// Makes the authority the one `Host`. Two that differ would let whoever looks at the other one be misled.
fn settle_host(parts: &mut Parts) -> Result<(), Refusal> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Refusal::BadRequest("the request has more than one Host"));
    }
    let Some(authority) = parts.uri.authority() else {
        return host.map(|_| ()).ok_or(Refusal::BadRequest("the request has no authority"));
    };
    if host.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())) {
        return Err(Refusal::BadRequest("the request's Host is not its authority"));
    }
    let named = HeaderValue::from_str(authority.as_str())
        .map_err(|_| Refusal::BadRequest("the request's authority is malformed"))?;
    parts.headers.insert(header::HOST, named);
    Ok(())
}

/// HTTP/2 may cut cookies into crumbs, to compress each of them; backends expect one field.
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    if let (Some(first), Some(_)) = (crumbs.next(), crumbs.next()) {
        let mut joined = first.as_bytes().to_vec();
        for crumb in headers.get_all(header::COOKIE).iter().skip(1) {
            joined.extend_from_slice(b"; ");
            joined.extend_from_slice(crumb.as_bytes());
        }
        // Valid, as each of its parts is.
        if let Ok(joined) = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
            headers.insert(header::COOKIE, joined);
        }
    }
}

/// The handshake that a WebSocket's stream stands for, as its backend knows it; returns the key.
fn into_handshake(parts: &mut Parts) -> String {
    let key = BASE64_STANDARD.encode(rand::random::<[u8; 16]>());
    parts.method = Method::GET;
    parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    parts.headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    if let Ok(value) = HeaderValue::from_str(&key) {
        parts.headers.insert(header::SEC_WEBSOCKET_KEY, value);
    }
    key
}

#[cfg(test)]
mod tests;
