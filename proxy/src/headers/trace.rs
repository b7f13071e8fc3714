//! The request's names in logs and traces: kept where a client or a proxy before us gave usable ones, else made.

use http::{HeaderMap, HeaderValue};

use super::sink::Sink;

/// One request's identity.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trace {
    random: u128,
    span: u64,
}

impl Trace {
    /// A new one.
    pub(crate) fn random() -> Self {
        Self { random: rand::random(), span: rand::random() }
    }

    /// What the person, the log and the backend know the request by.
    pub(crate) fn request_id(&self, headers: &HeaderMap) -> String {
        match kept_id(headers) {
            Some(kept) => String::from_utf8_lossy(kept).into_owned(),
            None => String::from_utf8_lossy(&hex(self.random)).into_owned(),
        }
    }

    /// Writes `X-Request-Id` and `traceparent`; `tracestate` belongs to a `traceparent` that was kept.
    pub(super) fn write(&self, headers: &HeaderMap, sink: &mut impl Sink) {
        let made = hex(self.random);
        sink.put(b"X-Request-Id", kept_id(headers).unwrap_or(&made));
        if let Some(parent) = kept_parent(headers) {
            sink.put(b"traceparent", parent);
            for state in headers.get_all("tracestate") {
                sink.put(b"tracestate", state.as_bytes());
            }
        } else {
            let span = hex(u128::from(self.span | 1));
            // Sampled: whoever records traces behind us decides by its own rate, not by our silence.
            sink.join(b"traceparent", &[b"00-", &made, b"-", &span[16..], b"-01"]);
        }
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    values.next().filter(|_| values.next().is_none())
}

fn kept_id(headers: &HeaderMap) -> Option<&[u8]> {
    let usable = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(b);
    single(headers, "x-request-id").filter(|id| (1..=128).contains(&id.len()) && id.iter().all(usable))
}

/// A `traceparent` of the form that every version begins with.
fn kept_parent(headers: &HeaderMap) -> Option<&[u8]> {
    let parent = single(headers, "traceparent")?;
    let is_hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &[u8]| part.iter().all(|b| *b == b'0');
    let mut parts = parent.split(|b| *b == b'-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lengths = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2);
    let valid = lengths
        && [version, trace, span, flags].into_iter().all(is_hex)
        && version != b"ff"
        && !is_zero(trace)
        && !is_zero(span)
        && (version != b"00" || parts.next().is_none());
    (valid && parent.len() <= 256).then_some(parent)
}

fn hex(value: u128) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(value.to_be_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}
