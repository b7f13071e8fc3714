//! Where a message's body ends, and how it is written so that the receiver agrees.

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    Empty,
    /// So many bytes.
    Length(u64),
    /// Chunks, and an empty one at the end.
    Chunked,
    /// Everything until the connection ends.
    UntilClose,
}

/// Room for a chunk's size in hexadecimal and its line end.
const CHUNK_HEAD: usize = 18;

impl Framing {
    /// How many bytes there are, where that is told in advance.
    pub(crate) fn length(self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Length(length) => Some(length),
            Self::Chunked | Self::UntilClose => None,
        }
    }

    /// Appends what stands in front of `length` bytes of body.
    pub(crate) fn open(self, length: usize, buffer: &mut Vec<u8>) {
        if self == Self::Chunked {
            let mut head = [0; CHUNK_HEAD];
            buffer.extend_from_slice(chunk_head(length, &mut head));
        }
    }

    /// Appends what stands behind them.
    pub(crate) fn close(self, buffer: &mut Vec<u8>) {
        if self == Self::Chunked {
            buffer.extend_from_slice(b"\r\n");
        }
    }

    /// Appends what tells that the body is complete.
    pub(crate) fn end(self, buffer: &mut Vec<u8>) {
        if self == Self::Chunked {
            buffer.extend_from_slice(b"0\r\n\r\n");
        }
    }
}

fn chunk_head(length: usize, head: &mut [u8; CHUNK_HEAD]) -> &[u8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut start = CHUNK_HEAD - 2;
    head[start..].copy_from_slice(b"\r\n");
    let mut rest = length;
    loop {
        start -= 1;
        head[start] = DIGITS[rest % 16];
        rest /= 16;
        if rest == 0 {
            return &head[start..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn chunks_are_framed_and_ended() {
        let mut wire = Vec::new();
        Framing::Chunked.open(5, &mut wire);
        wire.extend_from_slice(b"hello");
        Framing::Chunked.close(&mut wire);
        Framing::Chunked.end(&mut wire);
        assert_eq!(wire, b"5\r\nhello\r\n0\r\n\r\n");
    }

    #[test]
    fn other_bodies_are_written_as_they_are() {
        let mut wire = Vec::new();
        for framing in [Framing::Empty, Framing::Length(7), Framing::UntilClose] {
            framing.open(7, &mut wire);
            framing.close(&mut wire);
            framing.end(&mut wire);
        }
        assert!(wire.is_empty());
    }

    proptest! {
        #[test]
        fn a_chunk_size_can_be_read_again(length in any::<usize>()) {
            let mut head = [0; CHUNK_HEAD];
            let written = chunk_head(length, &mut head);
            let parsed = httparse::parse_chunk_size(written).unwrap().unwrap();
            prop_assert_eq!(parsed, (written.len(), length as u64));
        }
    }
}
