//! What a proxy owes both sides in the fields of a message: pure, and written straight to where it goes out: the rules are
//! in [`request`], [`response`] and [`mod@trailers`], the two forms of a head in [`sink`].
//!
//! Nothing is edited in place: the parsed heads stay as they came, so that a request can be sent a second time.

mod cookies;
mod request;
mod response;
mod sink;
mod trace;
mod trailers;

use http::{HeaderMap, HeaderName};

use request::is_written_by_us;
pub(crate) use request::{RequestFields, request_map, write_request};
pub(crate) use response::{
    Persistence, framing, response_map, switch_map, write_interim, write_response, write_switch,
};
pub(crate) use trace::Trace;
pub(crate) use trailers::{trailers, write_trailers};

use crate::head;

/// Fields that belong to one connection and never to the next, whatever `Connection` says.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-authentication-info"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// What `Connection` nominates beside the tokens that every proxy knows.
struct Nominated<'a> {
    headers: &'a HeaderMap,
    any: bool,
}

impl<'a> Nominated<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let known = |token: &[u8]| {
            [b"keep-alive".as_slice(), b"close", b"upgrade"]
                .iter()
                .any(|known| token.eq_ignore_ascii_case(known))
        };
        Self { headers, any: head::nominations(headers).any(|token| !known(token)) }
    }

    fn contains(&self, name: &HeaderName) -> bool {
        self.any
            && head::nominations(self.headers)
                .any(|token| token.eq_ignore_ascii_case(name.as_str().as_bytes()))
    }
}

/// Whether `name` would reach a backend as `expected`: some read `_` as `-` (CGI and its heirs). `expected` is lower case.
fn reads_as(name: &str, expected: &str) -> bool {
    name.len() == expected.len() && begins_as(name, expected)
}

fn begins_as(name: &str, prefix: &str) -> bool {
    name.len() >= prefix.len()
        && name
            .bytes()
            .zip(prefix.bytes())
            .all(|(a, b)| (if a == b'_' { b'-' } else { a.to_ascii_lowercase() }) == b)
}

/// A decimal number without a detour through a `String`.
fn number(value: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    let mut rest = value;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return &digits[start..];
        }
    }
}

#[cfg(test)]
mod tests;
