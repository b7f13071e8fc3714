//! The frames of a log: JSON objects one after the other with nothing in between.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use reqwest::StatusCode;
use serde::Deserialize;
use tokio_util::codec::Decoder;

use crate::Error;

/// A frame carries 64 KiB at most, a third more in base64.
const LONGEST_FRAME: usize = 1 << 20;

/// One frame; a sign of life has no file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Frame {
    /// Number of the log file.
    pub(super) file: Option<u64>,
    /// Where in that file the first read of the frame ended.
    pub(super) offset: u64,
    pub(super) data: Bytes,
    /// The file begins anew.
    pub(super) truncated: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Wire {
    offset: u64,
    data: String,
    file: String,
    file_event: String,
}

/// Splits and reads the frames.
#[derive(Debug)]
pub(super) struct Frames;

/// Why there are no more frames.
#[derive(Debug)]
pub(super) struct Broken(pub(super) Error);

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self(Error::Unavailable(format!("the log broke off: {}", crate::error::causes(&error))))
    }
}

impl Decoder for Frames {
    type Item = Frame;
    type Error = Broken;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Broken> {
        let blank = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        buffer.advance(blank);
        // Anything else is an error in plain text, and complete only at the end.
        if buffer.first() == Some(&b'{') {
            let mut frames = serde_json::Deserializer::from_slice(buffer).into_iter::<Wire>();
            match frames.next() {
                Some(Ok(wire)) => {
                    let length = frames.byte_offset();
                    buffer.advance(length);
                    return read(wire).map(Some);
                }
                Some(Err(error)) if !error.is_eof() => return Err(foreign(error)),
                _ => {}
            }
        }
        if buffer.len() > LONGEST_FRAME { Err(foreign("a frame is too long")) } else { Ok(None) }
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Broken> {
        match self.decode(buffer)? {
            None if !buffer.is_empty() => {
                let text = String::from_utf8_lossy(buffer);
                Err(Broken(Error::refusal(StatusCode::INTERNAL_SERVER_ERROR, &text)))
            }
            frame => Ok(frame),
        }
    }
}

fn foreign(what: impl std::fmt::Display) -> Broken {
    Broken(Error::Foreign(format!("a frame of a log cannot be read: {what}")))
}

fn read(wire: Wire) -> Result<Frame, Broken> {
    let data = STANDARD.decode(&wire.data).map_err(foreign)?.into();
    // "alloc/logs/<task>.<kind>.<number>"
    let file = wire.file.rsplit_once('.').and_then(|(_, number)| number.parse().ok());
    Ok(Frame { file, offset: wire.offset, data, truncated: wire.file_event == "file truncated" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(pieces: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<Frame>, Error> {
        all(pieces).map_err(|Broken(error)| error)
    }

    fn all(pieces: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<Frame>, Broken> {
        let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(&piece);
            while let Some(frame) = Frames.decode(&mut buffer)? {
                frames.push(frame);
            }
        }
        while let Some(frame) = Frames.decode_eof(&mut buffer)? {
            frames.push(frame);
        }
        Ok(frames)
    }

    fn wire(file: u64, offset: u64, data: &[u8]) -> String {
        let data = STANDARD.encode(data);
        format!(r#"{{"Offset":{offset},"Data":"{data}","File":"alloc/logs/a.b}}.stdout.{file}","New":1}}"#)
    }

    #[test]
    fn an_error_at_the_end_is_an_error_and_not_a_log_line() {
        let text = format!("{}{{}}Permission denied", wire(0, 2, b"ok"));
        assert!(matches!(decoded([text.into_bytes()]), Err(Error::Denied(_))));
        assert!(matches!(decoded([b"{\"Data\":7}".to_vec()]), Err(Error::Foreign(_))));
        assert!(matches!(decoded([b"{\"Data\":\"*\"}".to_vec()]), Err(Error::Foreign(_))));
        assert!(matches!(decoded([b"{\"Data\":\"b2".to_vec()]), Err(Error::Unavailable(_))));
        assert!(decoded([vec![b'x'; LONGEST_FRAME + 1]]).is_err());
    }

    proptest! {
        /// However the network cuts them.
        #[test]
        fn frames_are_read_as_they_were_written(
            sent in prop::collection::vec((0_u64..9, 0_u64..1 << 40, prop::collection::vec(any::<u8>(), 1..200)), 0..6),
            cut in 1_usize..300,
        ) {
            let mut text = String::new();
            for (file, offset, data) in &sent {
                text.push_str("{}");
                text.push_str(&wire(*file, *offset, data));
            }
            let frames = decoded(text.as_bytes().chunks(cut).map(<[u8]>::to_vec)).unwrap();
            let told = frames.into_iter().filter(|frame| frame.file.is_some());
            let told: Vec<_> = told.map(|frame| (frame.file.unwrap(), frame.offset, frame.data.to_vec())).collect();
            prop_assert_eq!(told, sent);
        }
    }
}
