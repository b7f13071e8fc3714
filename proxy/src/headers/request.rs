//! The request's head as the backend gets it.

use bivouac_protocol::{Generation, SessionId};
use http::{HeaderMap, HeaderName, Method, header};
use pingora_http::RequestHeader;

use super::sink::{Head, Sink};
use super::{Nominated, Trace, begins_as, cookies, is_hop_by_hop, number, reads_as};
use crate::access::Grant;
use crate::framing::Framing;
use crate::head::{self, Plan};
use crate::visitor::Visitor;

/// What a request's fields depend on, beside the request itself.
#[derive(Clone, Copy)]
pub(crate) struct RequestFields<'a> {
    /// The request's authority, checked.
    pub(crate) host: &'a [u8],
    /// Its target, in origin form.
    pub(crate) target: &'a [u8],
    /// How it goes on.
    pub(crate) plan: Plan,
    /// For which session.
    pub(crate) session: &'a SessionId,
    /// For which run of it.
    pub(crate) generation: Generation,
    /// Who asked.
    pub(crate) visitor: &'a Visitor,
    /// Its names in logs and traces.
    pub(crate) trace: &'a Trace,
    /// As whom it was let in, and what of it is ours.
    pub(crate) grant: &'a Grant,
}

/// A URL that hands a ticket on gives it away.
const TICKET_IN_URL: &[u8] = b"bivouac_ticket";

/// Appends the whole head as HTTP/1.1 has it.
pub(crate) fn write_request(buffer: &mut Vec<u8>, request: &RequestHeader, fields: &RequestFields<'_>) {
    buffer.extend_from_slice(request.method.as_str().as_bytes());
    buffer.push(b' ');
    buffer.extend_from_slice(fields.target());
    buffer.extend_from_slice(b" HTTP/1.1\r\n");
    buffer.put(b"Host", fields.host);
    end_to_end(buffer, request, fields.grant);
    write_body_and_upgrade(buffer, request, fields.plan);
    ours(buffer, request, fields);
    buffer.extend_from_slice(b"\r\n");
}

/// The fields of the head as HTTP/2 has it; method, authority and target stand apart there.
pub(crate) fn request_map(request: &RequestHeader, fields: &RequestFields<'_>) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(request.headers.len() + 12);
    end_to_end(&mut map, request, fields.grant);
    if let Framing::Length(length) = fields.plan.body {
        map.insert(header::CONTENT_LENGTH, length.into());
    }
    // The one thing that TE may still say; without it a gRPC server sends no trailers.
    if head::takes_trailers(&request.headers) {
        map.put(b"te", b"trailers");
    }
    ours(&mut map, request, fields);
    map
}

impl RequestFields<'_> {
    /// The target without what is ours.
    pub(crate) fn target(&self) -> &[u8] {
        self.grant.strip.target.as_deref().unwrap_or(self.target)
    }
}

/// What the backend is told by us alone.
fn ours(sink: &mut impl Sink, request: &RequestHeader, fields: &RequestFields<'_>) {
    fields.visitor.tell(fields.host, |name, parts| sink.join(name, parts));
    fields.trace.write(&request.headers, sink);
    sink.put(b"X-Bivouac-Session", fields.session.as_str().as_bytes());
    let mut digits = [0; 20];
    sink.put(b"X-Bivouac-Generation", number(fields.generation.0, &mut digits));
    if let Some(user) = &fields.grant.user {
        sink.put(b"X-Bivouac-User", user.as_bytes());
    }
    if let Some(claims) = &fields.grant.claims {
        sink.put(b"X-Bivouac-Claims", claims.as_bytes());
    }
}

fn end_to_end(sink: &mut impl Sink, request: &RequestHeader, grant: &Grant) {
    let nominated = Nominated::of(&request.headers);
    let mut protocols = grant.strip.protocols.as_deref();
    for (name, as_written, value) in request.fields() {
        if is_hop_by_hop(name.as_str()) || is_written_by_us(name) || nominated.contains(name) {
            continue;
        }
        if *name == header::COOKIE && cookies::has_ours(value.as_bytes()) {
            let rest = cookies::without_ours(value.as_bytes());
            if !rest.is_empty() {
                sink.put(as_written, &rest);
            }
        } else if *name == header::SEC_WEBSOCKET_PROTOCOL && grant.strip.protocols.is_some() {
            if let Some(protocols) = protocols.take().filter(|protocols| !protocols.is_empty()) {
                sink.put(as_written, protocols);
            }
        } else if !is_ours(name, value.as_bytes(), grant) {
            sink.pass(name, as_written, value);
        }
    }
}

/// Whether a whole field is between the client and us.
fn is_ours(name: &HeaderName, value: &[u8], grant: &Grant) -> bool {
    *name == header::AUTHORIZATION && grant.strip.authorization
        || *name == header::REFERER && hands_a_ticket_on(value)
}

fn hands_a_ticket_on(referer: &[u8]) -> bool {
    referer.windows(TICKET_IN_URL.len()).any(|window| window == TICKET_IN_URL)
}

fn write_body_and_upgrade(buffer: &mut Vec<u8>, request: &RequestHeader, plan: Plan) {
    let mut digits = [0; 20];
    match plan.body {
        Framing::Length(length) => buffer.put(b"Content-Length", number(length, &mut digits)),
        Framing::Chunked => buffer.put(b"Transfer-Encoding", b"chunked"),
        // By HTTP/2 a body that is empty need not be announced; an HTTP/1 server may insist on a length.
        Framing::Empty if request.version == http::Version::HTTP_2 && has_body_by_nature(&request.method) => {
            buffer.put(b"Content-Length", b"0");
        }
        Framing::Empty | Framing::UntilClose => {}
    }
    if plan.upgrade {
        buffer.put(b"Connection", b"Upgrade");
        for protocol in request.headers.get_all(header::UPGRADE) {
            buffer.put(b"Upgrade", protocol.as_bytes());
        }
    }
}

fn has_body_by_nature(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Fields that a client cannot set: we write them, whatever it sent, also in a spelling that a backend might take for
/// the same name.
pub(super) fn is_written_by_us(name: &HeaderName) -> bool {
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
