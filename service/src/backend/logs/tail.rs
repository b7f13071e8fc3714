//! Where the last lines begin. Pure.

use std::collections::VecDeque;

use super::Position;

/// Reads an output forward and remembers where its last lines begin.
#[derive(Debug)]
pub(super) struct Tail {
    lines: usize,
    /// Beginnings of lines, each with the number of bytes before it.
    starts: VecDeque<(Position, u64)>,
    first: Option<Position>,
    end: Position,
    length: u64,
    after_newline: bool,
}

impl Tail {
    /// For so many lines. An unfinished last line counts as one.
    pub(super) fn new(lines: usize) -> Self {
        Self {
            lines,
            starts: VecDeque::new(),
            first: None,
            end: Position::default(),
            length: 0,
            after_newline: false,
        }
    }

    /// Takes in a chunk, right after the one before.
    pub(super) fn feed(&mut self, at: Position, data: &[u8]) {
        self.first.get_or_insert(at);
        for (n, byte) in (0..).zip(data) {
            if self.after_newline {
                self.begin_line(Position { offset: at.offset + n, ..at }, self.length + n);
            }
            self.after_newline = *byte == b'\n';
        }
        self.length += data.len() as u64;
        self.end = Position { offset: at.offset + data.len() as u64, ..at };
    }

    fn begin_line(&mut self, at: Position, before: u64) {
        if self.starts.len() == self.lines {
            self.starts.pop_front();
        }
        if self.lines > 0 {
            self.starts.push_back((at, before));
        }
    }

    /// Where the last lines begin, and how many bytes they are; `None` if they may begin before what was read.
    pub(super) fn start(&self) -> Option<(Position, u64)> {
        if self.lines == 0 {
            return Some((self.end, 0));
        }
        let (at, before) = self.starts.front().filter(|_| self.starts.len() == self.lines)?;
        Some((*at, self.length - before))
    }

    /// Where the reading began.
    pub(super) fn first(&self) -> Position {
        self.first.unwrap_or_default()
    }

    /// Bytes that were read.
    pub(super) fn length(&self) -> u64 {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fed(text: &[u8], lines: usize, cut: usize) -> Tail {
        let mut tail = Tail::new(lines);
        for (n, piece) in text.chunks(cut).enumerate() {
            tail.feed(Position { file: 7, offset: 100 + (n * cut) as u64 }, piece);
        }
        tail
    }

    #[test]
    fn an_unfinished_line_is_a_line() {
        let starts =
            |text: &str, lines| fed(text.as_bytes(), lines, 3).start().map(|(at, _)| at.offset - 100);
        assert_eq!(starts("one\ntwo\nthree\n", 2), Some(4));
        assert_eq!(starts("one\ntwo\nthree", 2), Some(4));
        assert_eq!(starts("one\n\n\n", 2), Some(4), "empty lines are lines");
        assert_eq!(starts("one\ntwo\n", 2), None, "what was read may begin within a line");
        assert_eq!(starts("one\ntwo", 0), Some(7));
    }

    proptest! {
        #[test]
        fn the_last_lines_are_those_of_the_whole_text(
            text in "[ab\n]{0,60}", lines in 1_usize..8, cut in 1_usize..9,
        ) {
            let all: Vec<&str> = text.split_inclusive('\n').collect();
            let tail = fed(text.as_bytes(), lines, cut);
            prop_assert_eq!(tail.length(), text.len() as u64);
            match tail.start() {
                Some((at, distance)) => {
                    let wanted: String = all[all.len() - lines..].concat();
                    prop_assert_eq!(distance, wanted.len() as u64);
                    prop_assert_eq!(at.offset - 100 + distance, text.len() as u64);
                }
                None => prop_assert!(all.len() <= lines),
            }
        }
    }
}
