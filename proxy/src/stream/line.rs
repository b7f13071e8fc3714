//! Whether a request line has three words: Pingora repairs a target with spaces or control characters in it instead of
//! refusing it, and shows only the repaired head afterwards. What has to be repaired has two meanings.

/// How far the first line of a head has come. Pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestLine {
    /// Nothing of it has come; empty lines in front of it do not count.
    Before,
    /// In the first, second or third word.
    Word(u8),
    /// A CR has come: an LF has to follow.
    Ending,
    /// It was well formed.
    Over,
    /// It was not.
    Malformed,
}

impl RequestLine {
    /// Goes on by these bytes.
    pub(super) fn advance(self, bytes: &[u8]) -> Self {
        let mut line = self;
        for byte in bytes {
            line = match (line, byte) {
                (Self::Over | Self::Malformed, _) => return line,
                (Self::Before, b'\r' | b'\n') => Self::Before,
                (Self::Before, b' ') => Self::Malformed,
                (Self::Word(3) | Self::Ending, b'\n') => Self::Over,
                (Self::Word(3), b'\r') => Self::Ending,
                (Self::Word(word @ (1 | 2)), b' ') => Self::Word(word + 1),
                (Self::Before, byte) if !byte.is_ascii_control() => Self::Word(1),
                (Self::Word(word), byte) if *byte != b' ' && !byte.is_ascii_control() => Self::Word(word),
                _ => Self::Malformed,
            };
        }
        line
    }

    /// As a number that an atomic can hold.
    pub(super) fn to_bits(self) -> u8 {
        match self {
            Self::Before => 0,
            Self::Word(word) => word,
            Self::Ending => 4,
            Self::Over => 5,
            Self::Malformed => 6,
        }
    }

    /// The reverse of [`RequestLine::to_bits`].
    pub(super) fn from_bits(bits: u8) -> Self {
        match bits {
            0 => Self::Before,
            word @ 1..=3 => Self::Word(word),
            4 => Self::Ending,
            5 => Self::Over,
            _ => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> RequestLine {
        RequestLine::Before.advance(line.as_bytes())
    }

    #[test]
    fn three_words_are_well_formed() {
        for line in [
            "GET / HTTP/1.1\r\nHost: a b\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\n",
            "GET /é x\r\n",
        ] {
            assert_eq!(read(line), RequestLine::Over, "{line:?}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        for line in [
            "GET /a b HTTP/1.1\r\n",
            "GET  / HTTP/1.1\r\n",
            "GET / HTTP/1.1 \r\n",
            " GET / HTTP/1.1\r\n",
            "GET /\r\n",
            "GET /\ta HTTP/1.1\r\n",
            "GET /\rX HTTP/1.1\r\n",
            "GET / HTTP/1.1\rX",
            "GET /\x7f HTTP/1.1\r\n",
            "\0",
        ] {
            assert_eq!(read(line), RequestLine::Malformed, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_are_read_like_the_whole(line in "[A-Z /\r\n\t]{0,30}", cut in 0usize..30) {
            let cut = cut.min(line.len());
            let (first, second) = line.as_bytes().split_at(cut);
            let halfway = RequestLine::from_bits(RequestLine::Before.advance(first).to_bits());
            prop_assert_eq!(halfway.advance(second), read(&line));
        }
    }
}
