//! The response's head as the client gets it.

use http::{HeaderMap, HeaderName, Method, StatusCode, Version, header};
use pingora_core::protocols::http::date::get_cached_date;
use pingora_http::ResponseHeader;

use super::sink::{Head, Sink};
use super::{Nominated, cookies, is_hop_by_hop};
use crate::framing::Framing;

/// The subprotocol that a client offers beside its ticket, so that there is one to be chosen.
const OURS: &[u8] = b"bivouac.v1";

/// What the client is told about the connection after this response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// It goes on, as HTTP/1.1 takes for granted.
    Implied,
    /// It goes on, and an HTTP/1.0 client has to be told.
    Announced,
    /// It ends.
    Close,
}

impl Persistence {
    /// Appends what tells it.
    pub(crate) fn write(self, buffer: &mut Vec<u8>) {
        match self {
            Self::Implied => {}
            Self::Announced => buffer.put(b"Connection", b"keep-alive"),
            Self::Close => buffer.put(b"Connection", b"close"),
        }
    }
}

/// How this response's body is to be written to a client of `version`; its head says how the backend wrote it.
pub(crate) fn framing(response: &ResponseHeader, method: &Method, version: Version) -> Framing {
    if *method == Method::HEAD || matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    {
        return Framing::Empty;
    }
    let coded = response.headers.contains_key(header::TRANSFER_ENCODING);
    let length = response.headers.get(header::CONTENT_LENGTH).filter(|_| !coded);
    let length = length.and_then(|value| str::from_utf8(value.as_bytes()).ok()?.trim().parse().ok());
    match length {
        Some(length) => Framing::Length(length),
        // A body that ends with the backend's connection is given an end of its own, so that ours can go on.
        None if version >= Version::HTTP_11 => Framing::Chunked,
        None => Framing::UntilClose,
    }
}

/// Appends the final head as HTTP/1.1 has it.
pub(crate) fn write_response(
    buffer: &mut Vec<u8>,
    response: &ResponseHeader,
    body: Framing,
    persistence: Persistence,
    session_domain: &str,
) {
    write_status(buffer, response);
    final_fields(buffer, response, body, session_domain);
    if body == Framing::Chunked {
        buffer.put(b"Transfer-Encoding", b"chunked");
    }
    // 426 names the protocols it wants in a field that only counts together with Connection.
    if response.status == StatusCode::UPGRADE_REQUIRED && response.headers.contains_key(header::UPGRADE) {
        write_upgrade(buffer, response);
    }
    persistence.write(buffer);
    buffer.extend_from_slice(b"\r\n");
}

/// The fields of a head as HTTP/2 has it. `body`: of a final response; `None` is a 1xx.
pub(crate) fn response_map(
    response: &ResponseHeader,
    body: Option<Framing>,
    session_domain: &str,
) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(response.headers.len() + 1);
    match body {
        Some(body) => final_fields(&mut map, response, body, session_domain),
        None => fields(&mut map, response, session_domain, None),
    }
    map
}

/// Appends the head of a 1xx response.
pub(crate) fn write_interim(buffer: &mut Vec<u8>, response: &ResponseHeader, session_domain: &str) {
    write_status(buffer, response);
    fields(buffer, response, session_domain, None);
    buffer.extend_from_slice(b"\r\n");
}

/// Appends the head of a 101: from here on the connection speaks another protocol. `offered_ours`: our own subprotocol
/// was, and a browser gives up where none of those it offered is chosen.
pub(crate) fn write_switch(
    buffer: &mut Vec<u8>,
    response: &ResponseHeader,
    offered_ours: bool,
    session_domain: &str,
) {
    write_status(buffer, response);
    switch_fields(buffer, response, offered_ours, session_domain);
    write_upgrade(buffer, response);
    buffer.extend_from_slice(b"\r\n");
}

/// The fields of a 200 that stands for a 101 in HTTP/2.
pub(crate) fn switch_map(response: &ResponseHeader, offered_ours: bool, session_domain: &str) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(response.headers.len());
    switch_fields(&mut map, response, offered_ours, session_domain);
    map.remove(header::SEC_WEBSOCKET_ACCEPT);
    map
}

fn switch_fields(sink: &mut impl Sink, response: &ResponseHeader, offered_ours: bool, session_domain: &str) {
    fields(sink, response, session_domain, None);
    if offered_ours && !response.headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        sink.put(b"Sec-WebSocket-Protocol", OURS);
    }
}

fn write_upgrade(buffer: &mut Vec<u8>, response: &ResponseHeader) {
    buffer.put(b"Connection", b"Upgrade");
    for protocol in response.headers.get_all(header::UPGRADE) {
        buffer.put(b"Upgrade", protocol.as_bytes());
    }
}

fn write_status(buffer: &mut Vec<u8>, response: &ResponseHeader) {
    buffer.extend_from_slice(b"HTTP/1.1 ");
    buffer.extend_from_slice(response.status.as_str().as_bytes());
    buffer.push(b' ');
    buffer.extend_from_slice(response.get_reason_phrase().unwrap_or_default().as_bytes());
    buffer.extend_from_slice(b"\r\n");
}

fn final_fields(sink: &mut impl Sink, response: &ResponseHeader, body: Framing, session_domain: &str) {
    fields(sink, response, session_domain, Some(body));
    if !response.headers.contains_key(header::DATE) {
        sink.put(b"Date", get_cached_date().as_bytes());
    }
}

/// Everything that is the client's business. `body` is that of a final response.
fn fields(sink: &mut impl Sink, response: &ResponseHeader, session_domain: &str, body: Option<Framing>) {
    let nominated = Nominated::of(&response.headers);
    let mut length_written = false;
    for (name, as_written, value) in response.fields() {
        if is_hop_by_hop(name.as_str()) || nominated.contains(name) && !is_essential(name) {
            continue;
        }
        if *name == header::CONTENT_LENGTH {
            if !keeps_length(response.status, body) || length_written {
                continue;
            }
            length_written = true;
        }
        if *name == header::SET_COOKIE && !cookies::may_be_set(value.as_bytes(), session_domain) {
            continue;
        }
        sink.pass(name, as_written, value);
    }
}

/// Without these a response cannot be read: no nomination removes them.
fn is_essential(name: &HeaderName) -> bool {
    *name == header::CONTENT_LENGTH
}

/// Content-Length describes the body, or the one that HEAD and 304 leave out; 1xx and 204 never have one.
fn keeps_length(status: StatusCode, body: Option<Framing>) -> bool {
    match body {
        Some(Framing::Length(_)) => true,
        Some(Framing::Empty) => status != StatusCode::NO_CONTENT,
        Some(Framing::Chunked | Framing::UntilClose) | None => false,
    }
}
