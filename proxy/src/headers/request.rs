//! The request's head as the backend gets it.

use std::net::IpAddr;

use bivouac_protocol::Route;
use http::{HeaderName, header};
use pingora_http::RequestHeader;

use super::{Nominated, Trace, begins_as, cookies, field, is_hop_by_hop, number, reads_as};
use crate::framing::Framing;
use crate::head::Plan;

/// Who asked, as the backend is told: written once per connection. Nothing in front of us is trusted to say it.
#[derive(Debug)]
pub(crate) struct Forwarded {
    /// The client's address, as `X-Forwarded-For` has it.
    address: String,
    /// The same as a node of `Forwarded`.
    node: String,
}

impl Forwarded {
    /// For one client.
    pub(crate) fn new(client: IpAddr) -> Self {
        let client = client.to_canonical();
        let node = match client {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("\"[{address}]\""),
        };
        Self { address: client.to_string(), node }
    }

    fn write(&self, host: &[u8], buffer: &mut Vec<u8>) {
        field(buffer, b"X-Forwarded-For", self.address.as_bytes());
        field(buffer, b"X-Forwarded-Proto", b"http");
        field(buffer, b"X-Forwarded-Host", host);
        buffer.extend_from_slice(b"Forwarded: for=");
        buffer.extend_from_slice(self.node.as_bytes());
        // The host was checked to have none of the characters that would end the quoted string.
        buffer.extend_from_slice(b";host=\"");
        buffer.extend_from_slice(host);
        buffer.extend_from_slice(b"\";proto=http\r\n");
    }
}

/// Appends the whole head. `host` is the checked `Host`, `target` the origin form.
pub(crate) fn write_request(
    buffer: &mut Vec<u8>,
    request: &RequestHeader,
    (target, host): (&[u8], &[u8]),
    plan: Plan,
    route: &Route,
    (forwarded, trace): (&Forwarded, &Trace),
) {
    buffer.extend_from_slice(request.method.as_str().as_bytes());
    buffer.push(b' ');
    buffer.extend_from_slice(target);
    buffer.extend_from_slice(b" HTTP/1.1\r\n");
    field(buffer, b"Host", host);
    write_end_to_end(buffer, request);
    write_body_and_upgrade(buffer, request, plan);
    forwarded.write(host, buffer);
    trace.write(&request.headers, buffer);
    field(buffer, b"X-Bivouac-Session", route.session.as_str().as_bytes());
    buffer.extend_from_slice(b"X-Bivouac-Generation: ");
    number(buffer, route.generation.0);
    buffer.extend_from_slice(b"\r\n\r\n");
}

fn write_end_to_end(buffer: &mut Vec<u8>, request: &RequestHeader) {
    let nominated = Nominated::of(&request.headers);
    for ((name, value), (as_written, _)) in request.headers.iter().zip(request.case_header_iter()) {
        if is_hop_by_hop(name.as_str()) || is_written_by_us(name) || nominated.contains(name) {
            continue;
        }
        if *name == header::COOKIE && cookies::has_ours(value.as_bytes()) {
            let rest = cookies::without_ours(value.as_bytes());
            if !rest.is_empty() {
                field(buffer, as_written.as_slice(), &rest);
            }
            continue;
        }
        field(buffer, as_written.as_slice(), value.as_bytes());
    }
}

fn write_body_and_upgrade(buffer: &mut Vec<u8>, request: &RequestHeader, plan: Plan) {
    match plan.body {
        Framing::Length(length) => {
            buffer.extend_from_slice(b"Content-Length: ");
            number(buffer, length);
            buffer.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => field(buffer, b"Transfer-Encoding", b"chunked"),
        Framing::Empty | Framing::UntilClose => {}
    }
    if plan.upgrade {
        field(buffer, b"Connection", b"Upgrade");
        for protocol in request.headers.get_all(header::UPGRADE) {
            field(buffer, b"Upgrade", protocol.as_bytes());
        }
    }
}

/// Fields that a client cannot set: we write them, whatever it sent, also in a spelling that a backend might take for
/// the same name.
fn is_written_by_us(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.as_bytes().first() {
        Some(b'x') => {
            begins_as(name, "x-bivouac-")
                || begins_as(name, "x-forwarded-")
                || reads_as(name, "x-real-ip")
                || reads_as(name, "x-request-id")
        }
        Some(b'f') => name == "forwarded",
        Some(b't') => matches!(name, "traceparent" | "tracestate") || reads_as(name, "transfer-encoding"),
        Some(b'h') => name == "host",
        Some(b'c') => reads_as(name, "content-length"),
        _ => false,
    }
}
