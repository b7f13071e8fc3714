//! The response's head as the client gets it.

use http::{HeaderName, Method, StatusCode, Version, header};
use pingora_core::protocols::http::date::get_cached_date;
use pingora_http::ResponseHeader;

use super::{Nominated, cookies, field, is_hop_by_hop};
use crate::framing::Framing;

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

/// How this response's body is to be written to a client of `version`; `known` is how the backend wrote it.
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
        None if version == Version::HTTP_11 => Framing::Chunked,
        None => Framing::UntilClose,
    }
}

/// Appends the final head.
pub(crate) fn write_response(
    buffer: &mut Vec<u8>,
    response: &ResponseHeader,
    body: Framing,
    persistence: Persistence,
    session_domain: &str,
) {
    write_status(buffer, response);
    write_fields(buffer, response, session_domain, Some(body));
    if !response.headers.contains_key(header::DATE) {
        field(buffer, b"Date", get_cached_date().as_bytes());
    }
    if body == Framing::Chunked {
        field(buffer, b"Transfer-Encoding", b"chunked");
    }
    // 426 names the protocols it wants in a field that only counts together with Connection.
    if response.status == StatusCode::UPGRADE_REQUIRED && response.headers.contains_key(header::UPGRADE) {
        write_upgrade(buffer, response);
    }
    match persistence {
        Persistence::Implied => {}
        Persistence::Announced => field(buffer, b"Connection", b"keep-alive"),
        Persistence::Close => field(buffer, b"Connection", b"close"),
    }
    buffer.extend_from_slice(b"\r\n");
}

/// Appends the head of a 1xx response.
pub(crate) fn write_interim(buffer: &mut Vec<u8>, response: &ResponseHeader, session_domain: &str) {
    write_status(buffer, response);
    write_fields(buffer, response, session_domain, None);
    buffer.extend_from_slice(b"\r\n");
}

/// Appends the head of a 101: from here on the connection speaks another protocol.
pub(crate) fn write_switch(buffer: &mut Vec<u8>, response: &ResponseHeader, session_domain: &str) {
    write_status(buffer, response);
    write_fields(buffer, response, session_domain, None);
    write_upgrade(buffer, response);
    buffer.extend_from_slice(b"\r\n");
}

fn write_upgrade(buffer: &mut Vec<u8>, response: &ResponseHeader) {
    field(buffer, b"Connection", b"Upgrade");
    for protocol in response.headers.get_all(header::UPGRADE) {
        field(buffer, b"Upgrade", protocol.as_bytes());
    }
}

fn write_status(buffer: &mut Vec<u8>, response: &ResponseHeader) {
    buffer.extend_from_slice(b"HTTP/1.1 ");
    buffer.extend_from_slice(response.status.as_str().as_bytes());
    buffer.push(b' ');
    buffer.extend_from_slice(response.get_reason_phrase().unwrap_or_default().as_bytes());
    buffer.extend_from_slice(b"\r\n");
}

/// Everything that is the client's business. `body` is that of a final response.
fn write_fields(
    buffer: &mut Vec<u8>,
    response: &ResponseHeader,
    session_domain: &str,
    body: Option<Framing>,
) {
    let nominated = Nominated::of(&response.headers);
    let mut length_written = false;
    for ((name, value), (as_written, _)) in response.headers.iter().zip(response.case_header_iter()) {
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
        field(buffer, as_written.as_slice(), value.as_bytes());
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
