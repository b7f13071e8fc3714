//! Text of strangers, shown to people.

/// Whether a character does something to a terminal, or to the order of the characters around it, rather than being
/// shown. Line feed and tab are among them: who shows lines takes them apart first.
#[must_use]
pub fn is_unprintable(c: char) -> bool {
    // Besides the controls: what turns the direction of text, and what separates lines without being a line feed.
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with each such character written out: `\u{1b}`.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unprintable(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_controls_is_written_out_and_all_else_stays() {
        assert_eq!(
            printable("a\x1b[2J\x07é🏕 \u{9b}\u{202e}x\r\t"),
            "a\\u{1b}[2J\\u{7}é🏕 \\u{9b}\\u{202e}x\\u{d}\\u{9}"
        );
        assert_eq!(printable("plain \"text\" \\n"), "plain \"text\" \\n");
    }
}
