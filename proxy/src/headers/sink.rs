//! Where the fields of a head go: into the bytes of an HTTP/1 head, or into the map that HTTP/2 encodes. The rules are
//! the same for both and are written once.

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};

/// Takes fields, in order.
pub(crate) trait Sink {
    /// One field, whose value is made of these parts.
    fn join(&mut self, name: &[u8], parts: &[&[u8]]);

    /// One field.
    fn put(&mut self, name: &[u8], value: &[u8]);

    /// One field as it came.
    fn pass(&mut self, name: &HeaderName, as_written: &[u8], value: &HeaderValue);
}

impl Sink for Vec<u8> {
    fn join(&mut self, name: &[u8], parts: &[&[u8]]) {
        self.extend_from_slice(name);
        self.extend_from_slice(b": ");
        for part in parts {
            self.extend_from_slice(part);
        }
        self.extend_from_slice(b"\r\n");
    }

    fn put(&mut self, name: &[u8], value: &[u8]) {
        self.extend_from_slice(name);
        self.extend_from_slice(b": ");
        self.extend_from_slice(value);
        self.extend_from_slice(b"\r\n");
    }

    fn pass(&mut self, _: &HeaderName, as_written: &[u8], value: &HeaderValue) {
        self.put(as_written, value.as_bytes());
    }
}

impl Sink for HeaderMap {
    fn join(&mut self, name: &[u8], parts: &[&[u8]]) {
        self.put(name, &parts.concat());
    }

    fn put(&mut self, name: &[u8], value: &[u8]) {
        // What is no field's name or value would have been refused with the head that it came in.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            let _ = self.try_append(name, value);
        }
    }

    fn pass(&mut self, name: &HeaderName, _: &[u8], value: &HeaderValue) {
        let _ = self.try_append(name.clone(), value.clone());
    }
}

/// A head whose fields can be gone through.
pub(super) trait Head {
    /// Each field: its name, the same as it was written, its value.
    fn fields(&self) -> impl Iterator<Item = (&HeaderName, &[u8], &HeaderValue)>;
}

impl Head for RequestHeader {
    fn fields(&self) -> impl Iterator<Item = (&HeaderName, &[u8], &HeaderValue)> {
        zip(&self.headers, self.case_header_iter().map(|(name, _)| name.as_slice()))
    }
}

impl Head for ResponseHeader {
    fn fields(&self) -> impl Iterator<Item = (&HeaderName, &[u8], &HeaderValue)> {
        zip(&self.headers, self.case_header_iter().map(|(name, _)| name.as_slice()))
    }
}

/// A head that came by HTTP/2 has no names as written; its fields must not be lost for that.
fn zip<'a>(
    headers: &'a HeaderMap,
    mut written: impl Iterator<Item = &'a [u8]>,
) -> impl Iterator<Item = (&'a HeaderName, &'a [u8], &'a HeaderValue)> {
    headers.iter().map(move |(name, value)| (name, written.next().unwrap_or(name.as_str().as_bytes()), value))
}
