//! A log for a terminal: nothing in it moves the cursor, sets a title, or answers on the operator's behalf. Pure.

use std::fmt::Write;

use bivouac_protocol::text::is_unprintable;

/// Writes out whatever is not text, byte stream in, text out. Line feeds and tabs stay.
#[derive(Debug, Default)]
pub(super) struct Plain {
    /// The beginning of a character, or of a line's end.
    pending: Vec<u8>,
}

impl Plain {
    /// The text of the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.pending);
        all.extend_from_slice(bytes);
        let whole = all.len() - unfinished(&all);
        self.pending = all.split_off(whole);
        written_out(&all)
    }

    /// The text of what never became whole.
    pub(super) fn rest(self) -> String {
        written_out(&self.pending)
    }
}

/// How many bytes at the end may belong to what comes next.
fn unfinished(bytes: &[u8]) -> usize {
    if bytes.ends_with(b"\r") {
        return 1;
    }
    let last = bytes.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    let cut_short = std::str::from_utf8(last).is_err_and(|error| error.error_len().is_none());
    if cut_short { last.len() } else { 0 }
}

fn written_out(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let mut characters = chunk.valid().chars().peekable();
        while let Some(c) = characters.next() {
            match c {
                '\n' | '\t' => text.push(c),
                '\r' if characters.peek() == Some(&'\n') => {}
                c if is_unprintable(c) => text.extend(c.escape_unicode()),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            write!(text, "\\x{byte:02x}").ok();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pieces: &[&[u8]]) -> String {
        let mut plain = Plain::default();
        let mut text: String = pieces.iter().map(|piece| plain.push(piece)).collect();
        text += &plain.rest();
        text
    }

    #[test]
    fn text_stays_as_it_is() {
        assert_eq!(shown(&["one\ttwo\r\nünïcödé 🏕\n".as_bytes()]), "one\ttwo\nünïcödé 🏕\n");
    }

    #[test]
    fn what_controls_a_terminal_is_written_out() {
        assert_eq!(shown(&[b"\x1b]0;title\x07\x1b[2J"]), "\\u{1b}]0;title\\u{7}\\u{1b}[2J");
        assert_eq!(shown(&[b"\xc2\x9b31m"]), "\\u{9b}31m", "one character does what two do");
        assert_eq!(shown(&[b"\x9b31m \xff\0"]), "\\x9b31m \\xff\\u{0}");
        assert_eq!(shown(&[b"100%\rhidden"]), "100%\\u{d}hidden");
        assert_eq!(shown(&["abc\u{202e}cba".as_bytes()]), "abc\\u{202e}cba");
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_arrive() {
        let bytes = "a\r\nü🏕\r\n\u{1b}[0m\r".as_bytes().iter().copied().chain([0xf0, 0x9f, b'x', 0xe2]);
        let bytes: Vec<u8> = bytes.collect();
        let whole = shown(&[&bytes]);
        for cut in 1..bytes.len() {
            let pieces: Vec<&[u8]> = bytes.chunks(cut).collect();
            assert_eq!(shown(&pieces), whole, "in pieces of {cut}");
        }
    }
}
