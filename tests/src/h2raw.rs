//! HTTP/2 by hand: single frames, so that a test can send what no library would, and see frame by frame what comes back.
//!
//! Heads are written without compression, and the other end is told to use no table (`SETTINGS_HEADER_TABLE_SIZE` 0), so
//! that a status can be read without a decoder.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a client begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest wait for a frame that must come.
const SOON: Duration = Duration::from_secs(20);
/// No frame of a test is longer.
const LONGEST: usize = 1 << 20;

/// Types of frames.
pub mod kind {
    /// Body.
    pub const DATA: u8 = 0;
    /// Head, or trailers.
    pub const HEADERS: u8 = 1;
    /// Ignored by everybody.
    pub const PRIORITY: u8 = 2;
    /// End of one stream.
    pub const RST_STREAM: u8 = 3;
    /// What this end permits.
    pub const SETTINGS: u8 = 4;
    /// Never from a client.
    pub const PUSH_PROMISE: u8 = 5;
    /// Are you there.
    pub const PING: u8 = 6;
    /// End of the connection.
    pub const GOAWAY: u8 = 7;
    /// More may be sent.
    pub const WINDOW_UPDATE: u8 = 8;
    /// The rest of a head.
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    /// No flag.
    pub const NONE: u8 = 0;
    /// Of SETTINGS and PING: an answer.
    pub const ACK: u8 = 1;
    /// Nothing follows on this stream.
    pub const END_STREAM: u8 = 1;
    /// The head is whole.
    pub const END_HEADERS: u8 = 4;
}

/// Reasons in RST_STREAM and GOAWAY.
pub mod reason {
    /// All is well.
    pub const NO_ERROR: u32 = 0;
    /// Against the protocol.
    pub const PROTOCOL_ERROR: u32 = 1;
    /// Our own fault.
    pub const INTERNAL_ERROR: u32 = 2;
    /// More than the window.
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    /// On a stream that has ended.
    pub const STREAM_CLOSED: u32 = 5;
    /// A frame of the wrong size.
    pub const FRAME_SIZE_ERROR: u32 = 6;
    /// Nothing was done with it.
    pub const REFUSED_STREAM: u32 = 7;
    /// Not wanted any more.
    pub const CANCEL: u32 = 8;
    /// The table is out of step.
    pub const COMPRESSION_ERROR: u32 = 9;
    /// Too much of something.
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// See [`kind`].
    pub kind: u8,
    /// See [`flag`].
    pub flags: u8,
    /// 0 is the connection.
    pub stream: u32,
    /// The rest.
    pub payload: Vec<u8>,
}

/// How a connection, or a stream, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// GOAWAY with this reason.
    GoAway(u32),
    /// RST_STREAM with this reason.
    Reset(u32),
    /// A response with this status.
    Status(u16),
    /// The connection was closed without a word.
    Closed,
}

/// A client's connection.
#[derive(Debug)]
pub struct H2<S = TcpStream> {
    stream: S,
    buffer: Vec<u8>,
}

impl H2 {
    /// Connects to a port of this machine, by prior knowledge, and exchanges settings.
    ///
    /// # Panics
    /// When the port cannot be reached, or does not speak HTTP/2.
    pub async fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        Self::over(stream).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> H2<S> {
    /// Exchanges settings over a connection that was made, with TLS for one.
    ///
    /// # Panics
    /// When the other end does not speak HTTP/2.
    pub async fn over(stream: S) -> Self {
        // HEADER_TABLE_SIZE 0.
        Self::over_with(stream, &[(1, 0)]).await
    }

    /// The same, with settings of one's own.
    ///
    /// # Panics
    /// When the other end does not speak HTTP/2.
    pub async fn over_with(stream: S, settings: &[(u16, u32)]) -> Self {
        let mut h2 = Self { stream, buffer: Vec::new() };
        h2.raw(PREFACE).await;
        h2.settings(settings).await;
        loop {
            let frame = h2.expect().await;
            if frame.kind == kind::SETTINGS && frame.flags & flag::ACK == 0 {
                h2.frame(kind::SETTINGS, flag::ACK, 0, &[]).await;
                return h2;
            }
        }
    }

    /// Sends bytes as they are. That nobody takes them any more is found out by reading.
    pub async fn raw(&mut self, bytes: &[u8]) {
        let _ = tokio::time::timeout(SOON, self.stream.write_all(bytes)).await.expect("somebody reads");
    }

    /// Sends a frame.
    pub async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.raw(&frame(kind, flags, stream, payload)).await;
    }

    /// Sends settings.
    pub async fn settings(&mut self, settings: &[(u16, u32)]) {
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        self.frame(kind::SETTINGS, flag::NONE, 0, &payload).await;
    }

    /// Sends a whole head in one frame.
    pub async fn headers(&mut self, stream: u32, end_stream: bool, fields: &[(&str, &str)]) {
        let end = if end_stream { flag::END_STREAM } else { flag::NONE };
        self.frame(kind::HEADERS, flag::END_HEADERS | end, stream, &block(fields)).await;
    }

    /// Sends a GET without a body.
    pub async fn get(&mut self, stream: u32, authority: &str, path: &str) {
        self.headers(stream, true, &request("GET", authority, path)).await;
    }

    /// Resets a stream.
    pub async fn reset(&mut self, stream: u32, reason: u32) {
        self.frame(kind::RST_STREAM, flag::NONE, stream, &reason.to_be_bytes()).await;
    }

    /// Permits more to be sent.
    pub async fn window(&mut self, stream: u32, more: u32) {
        self.frame(kind::WINDOW_UPDATE, flag::NONE, stream, &more.to_be_bytes()).await;
    }

    /// The next frame; `None` once the connection is closed.
    ///
    /// # Panics
    /// When nothing comes.
    pub async fn next(&mut self) -> Option<Frame> {
        tokio::time::timeout(SOON, self.read()).await.expect("a frame, or the end")
    }

    /// The next frame.
    ///
    /// # Panics
    /// When the connection is closed instead.
    pub async fn expect(&mut self) -> Frame {
        self.next().await.expect("the connection goes on")
    }

    /// Reads until the connection ends, and says how. What belongs to single streams is passed over.
    ///
    /// # Panics
    /// When it goes on.
    pub async fn ends(&mut self) -> End {
        let mut end = End::Closed;
        loop {
            match self.next().await {
                Some(frame) if frame.kind == kind::GOAWAY => end = End::GoAway(frame.reason()),
                Some(_) => {}
                None => return end,
            }
        }
    }

    /// Reads until something decides about a stream: its status, its reset, or the connection's end. Settings and pings
    /// are answered meanwhile.
    ///
    /// # Panics
    /// When nothing comes.
    pub async fn outcome(&mut self, stream: u32) -> End {
        loop {
            let Some(frame) = self.next().await else { return End::Closed };
            match frame.kind {
                kind::SETTINGS if frame.flags & flag::ACK == 0 => {
                    self.frame(kind::SETTINGS, flag::ACK, 0, &[]).await;
                }
                kind::PING if frame.flags & flag::ACK == 0 => {
                    self.frame(kind::PING, flag::ACK, 0, &frame.payload).await;
                }
                kind::GOAWAY if frame.reason() != reason::NO_ERROR => return End::GoAway(frame.reason()),
                kind::RST_STREAM if frame.stream == stream => return End::Reset(frame.reason()),
                kind::HEADERS if frame.stream == stream => {
                    let status = frame.status().expect("a response begins with its status");
                    // 1xx are followed by another.
                    if status >= 200 {
                        return End::Status(status);
                    }
                }
                _ => {}
            }
        }
    }

    async fn read(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return None,
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head = self.buffer.get(..9)?;
        let length = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).expect("24 bits");
        assert!(length <= LONGEST, "a frame of {length} bytes: this is no HTTP/2");
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let payload = self.buffer.get(9..9 + length)?.to_vec();
        self.buffer.drain(..9 + length);
        Some(Frame { kind, flags, stream, payload })
    }
}

impl Frame {
    /// The reason of RST_STREAM or GOAWAY; `u32::MAX` of any other frame.
    #[must_use]
    pub fn reason(&self) -> u32 {
        let at = if self.kind == kind::GOAWAY { 4 } else { 0 };
        let bytes = self.payload.get(at..at + 4).and_then(|four| four.try_into().ok());
        match self.kind {
            kind::GOAWAY | kind::RST_STREAM => bytes.map_or(u32::MAX, u32::from_be_bytes),
            _ => u32::MAX,
        }
    }

    /// Whether nothing follows on its stream.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self.kind, kind::DATA | kind::HEADERS) && self.flags & flag::END_STREAM != 0
    }

    /// The status that a response's head begins with.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
        // A change of the table's size stands in front of the fields.
        let mut block = self.payload.as_slice();
        while block.first()? & 0xe0 == 0x20 {
            block = &block[1..];
        }
        match block {
            [indexed @ 0x88..=0x8e, ..] => INDEXED.get(usize::from(indexed - 0x88)).copied(),
            // A literal under the name `:status`, in one of three kinds.
            [0x48 | 0x08 | 0x18, length, rest @ ..] => {
                let text = rest.get(..usize::from(length & 0x7f))?;
                if length & 0x80 == 0 { str::from_utf8(text).ok()?.parse().ok() } else { digits(text) }
            }
            _ => None,
        }
    }
}

/// Three digits in Huffman's code: `0`, `1`, `2` have five bits, the others six.
fn digits(coded: &[u8]) -> Option<u16> {
    let bits: Vec<u8> = coded.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let value = |bits: &[u8]| bits.iter().fold(0_u16, |value, bit| value << 1 | u16::from(*bit));
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let short = value(bits.get(at..at + 5)?);
        let digit = if short <= 2 {
            at += 5;
            short
        } else {
            let long = value(bits.get(at..at + 6)?);
            at += 6;
            long.checked_sub(0b01_1001).filter(|digit| *digit <= 6)? + 3
        };
        number = number * 10 + digit;
    }
    Some(number)
}

/// A frame's bytes.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The fields of a request.
#[must_use]
pub fn request<'a>(method: &'a str, authority: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
    [(":method", method), (":scheme", "http"), (":authority", authority), (":path", path)]
}

/// A head's block: every field a literal that enters no table, every name and value as it is.
#[must_use]
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// A text with its length in front, in HPACK's integers.
fn text(block: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    if length < 0x7f {
        block.push(u8::try_from(length).expect("below 127"));
    } else {
        block.push(0x7f);
        length -= 0x7f;
        while length >= 0x80 {
            block.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
            length >>= 7;
        }
        block.push(u8::try_from(length).expect("seven bits"));
    }
    block.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(payload: &[u8]) -> Option<u16> {
        Frame { kind: kind::HEADERS, flags: 4, stream: 1, payload: payload.to_vec() }.status()
    }

    #[test]
    fn a_status_is_read_in_every_form() {
        assert_eq!(status(&[0x88]), Some(200));
        assert_eq!(status(&[0x20, 0x8d, 0x00]), Some(404));
        assert_eq!(status(b"\x08\x03503"), Some(503));
        // "302" and "307" from RFC 7541, C.6.
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
        assert_eq!(status(&[0x48, 0x83, 0x64, 0x0e, 0xff]), Some(307));
        assert_eq!(status(&[0xbe]), None);
        assert_eq!(status(&[]), None);
    }

    #[test]
    fn texts_have_their_length_in_front() {
        assert_eq!(block(&[("a", "bc")]), b"\x00\x01a\x02bc");
        let long = block(&[("a", &"x".repeat(200))]);
        assert_eq!(&long[..5], [0, 1, b'a', 0x7f, 73]);
        assert_eq!(long.len(), 5 + 200);
        let longer = block(&[("a", &"x".repeat(1337 + 127))]);
        assert_eq!(&longer[3..6], [0x7f, 0xb9, 0x0a]);
    }
}
