//! The fields behind a body: those that say something about it pass, those that would say something about the message,
//! the connection or the person do not, for a recipient may merge them into the head.

use http::{HeaderMap, HeaderName};

use super::sink::Sink;
use super::{is_hop_by_hop, is_written_by_us};

/// Appends the end of a chunked body with fields behind it.
pub(crate) fn write_trailers(buffer: &mut Vec<u8>, given: &HeaderMap) {
    buffer.extend_from_slice(b"0\r\n");
    trailers(buffer, given);
    buffer.extend_from_slice(b"\r\n");
}

/// Passes a message's trailers on.
pub(crate) fn trailers(sink: &mut impl Sink, trailers: &HeaderMap) {
    for (name, value) in trailers {
        if !is_misplaced(name) {
            sink.pass(name, name.as_str().as_bytes(), value);
        }
    }
}

/// Whether a field may not stand behind a body, or not come from another.
fn is_misplaced(name: &HeaderName) -> bool {
    is_hop_by_hop(name.as_str())
        || is_written_by_us(name)
        || matches!(
            name.as_str(),
            "authorization"
                | "cache-control"
                | "content-encoding"
                | "content-range"
                | "content-type"
                | "cookie"
                | "expect"
                | "location"
                | "set-cookie"
                | "www-authenticate"
        )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn passed(names: &[&str]) -> HeaderMap {
        let mut given = HeaderMap::new();
        for name in names {
            given.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("v"));
        }
        let mut passed = HeaderMap::new();
        trailers(&mut passed, &given);
        passed
    }

    #[test]
    fn what_describes_the_body_passes() {
        assert_eq!(passed(&["grpc-status", "grpc-message", "x-checksum", "x-checksum"]).len(), 4);
    }

    #[test]
    fn what_could_change_the_message_does_not() {
        let names = [
            "x-bivouac-user",
            "x_bivouac_user",
            "x-forwarded-for",
            "forwarded",
            "x-real-ip",
            "content-length",
            "transfer-encoding",
            "connection",
            "trailer",
            "te",
            "host",
            "set-cookie",
            "cookie",
            "authorization",
        ];
        assert!(passed(&names).is_empty());
    }

    #[test]
    fn they_are_lines_behind_the_last_chunk() {
        let mut given = HeaderMap::new();
        given.insert("grpc-status", HeaderValue::from_static("0"));
        let mut wire = Vec::new();
        write_trailers(&mut wire, &given);
        assert_eq!(wire, b"0\r\ngrpc-status: 0\r\n\r\n");
    }

    proptest! {
        #[test]
        fn nothing_of_ours_is_forged(rest in "[a-z_-]{0,12}") {
            let name = format!("x-bivouac-{rest}");
            prop_assert!(passed(&[&name, &name.replace('-', "_")]).is_empty());
        }
    }
}
