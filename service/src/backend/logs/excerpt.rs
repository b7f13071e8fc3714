//! The last words of a run that did not end well, for those who ask why.

use std::collections::VecDeque;
use std::time::Duration;

use bivouac_protocol::AllocationId;
use bivouac_protocol::text::printable;
use tokio::time::timeout;

use super::{Output, Reading, Wanted};
use crate::backend::{Backend, Run};

/// Lines that are kept, at most.
const LINES: usize = 10;
/// Bytes that are kept, at most.
const BYTES: usize = 2048;
/// The end of a session waits for its last words, and people wait for its end.
const PATIENCE: Duration = Duration::from_secs(2);

/// The last lines that a run wrote to its standard error or, if it wrote nothing there, to its standard output. Nothing
/// if they cannot be had soon.
pub(crate) async fn last_words(
    backend: &dyn Backend,
    run: &Run,
    allocation: Option<&AllocationId>,
) -> Vec<String> {
    let read = async {
        for output in [Output::Stderr, Output::Stdout] {
            let wanted = Wanted { output, tail: LINES, follow: None };
            let Ok(Some(reading)) = backend.logs(run, allocation, wanted).await else { continue };
            let lines = lines(&end_of(reading).await);
            if !lines.is_empty() {
                return lines;
            }
        }
        Vec::new()
    };
    timeout(PATIENCE, read).await.unwrap_or_default()
}

/// A line may be as long as the log: only its end is kept.
async fn end_of(mut reading: Reading) -> Vec<u8> {
    let mut end = VecDeque::new();
    while let Ok(Some(bytes)) = reading.next().await {
        end.extend(&bytes[bytes.len().saturating_sub(BYTES)..]);
        end.drain(..end.len().saturating_sub(BYTES));
    }
    end.into()
}

/// Lines of printable text, oldest first.
fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut left = BYTES;
    let mut lines = Vec::new();
    for line in text.lines().rev().map(str::trim_end).skip_while(|line| line.is_empty()).take(LINES) {
        let line = printable(&line.replace('\t', "    "));
        if line.len() > left {
            let from = line.char_indices().map(|(n, _)| n).find(|n| line.len() - n <= left);
            let rest = from.map_or("", |from| &line[from..]);
            lines.extend((!rest.is_empty()).then(|| rest.to_owned()));
            break;
        }
        left -= line.len();
        lines.push(line);
    }
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_lines_are_kept_without_what_controls_a_terminal() {
        assert_eq!(lines(b"one\n\n\x1b[31mtwo\r\n\n\n"), ["one", "", "\\u{1b}[31mtwo"]);
        assert_eq!(lines(b""), [""; 0]);
        assert_eq!(lines(b" \n\n"), [""; 0]);
        let many = "line\n".repeat(50);
        assert_eq!(lines(many.as_bytes()).len(), LINES);
        let long = format!("first\n{}last", "x".repeat(3000));
        let kept = lines(long.as_bytes());
        assert_eq!((kept.len(), kept[0].len()), (1, BYTES));
        assert!(kept[0].ends_with("last"));
    }

    proptest! {
        #[test]
        fn it_is_never_much_and_never_a_control_character(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
            let lines = lines(&bytes);
            prop_assert!(lines.len() <= LINES);
            prop_assert!(lines.iter().map(String::len).sum::<usize>() <= BYTES);
            prop_assert!(!lines.iter().any(|line| line.contains(char::is_control)));
        }
    }
}
