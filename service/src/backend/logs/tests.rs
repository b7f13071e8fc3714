//! Readings of an output that is in memory, grows, rotates, and breaks off when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::sync::{Notify, watch};

use super::*;

/// Bytes in a file.
const FILE: usize = 10;

/// An output of which the last bytes are kept, in files of [`FILE`] bytes.
struct Printed {
    bytes: Mutex<Vec<u8>>,
    grown: watch::Sender<()>,
    /// Files that are kept.
    files: usize,
    /// Bytes of a chunk.
    piece: usize,
    /// Begins no further back than asked, so that a reading has to ask again.
    exact: bool,
    /// Streams that break off after one chunk.
    breaks: AtomicUsize,
    opened: AtomicUsize,
}

impl Printed {
    fn new(text: &[u8], files: usize, piece: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes: Mutex::new(text.to_vec()),
            grown: watch::Sender::default(),
            files,
            piece,
            exact: true,
            breaks: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
        })
    }

    fn print(&self, text: &[u8]) {
        self.bytes.lock().extend_from_slice(text);
        self.grown.send_replace(());
    }

    fn oldest(&self, end: usize) -> usize {
        (end.div_ceil(FILE)).saturating_sub(self.files) * FILE
    }

    fn piece_at(&self, from: usize) -> Option<Chunk> {
        let bytes = self.bytes.lock();
        let from = from.max(self.oldest(bytes.len()));
        let to = bytes.len().min(from + self.piece).min((from / FILE + 1) * FILE);
        let at = Position { file: (from / FILE) as u64, offset: (from % FILE) as u64 };
        (from < to).then(|| Chunk { at, data: Bytes::copy_from_slice(&bytes[from..to]) })
    }
}

#[async_trait::async_trait]
impl Source for Arc<Printed> {
    async fn open(&self, back: u64, follow: bool) -> Result<Option<Chunks>, LogError> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let end = self.bytes.lock().len();
        let back = if self.exact { usize::try_from(back).unwrap_or(usize::MAX) } else { usize::MAX };
        let from = end.saturating_sub(back);
        let breaks = follow && self.breaks.load(Ordering::Relaxed) > 0;
        if breaks {
            self.breaks.fetch_sub(1, Ordering::Relaxed);
        }
        let (own, grown) = (Arc::clone(self), self.grown.subscribe());
        let chunks = stream::unfold((from, grown, 0), move |(from, mut grown, told)| {
            let own = Arc::clone(&own);
            async move {
                if breaks && told == 1 {
                    return Some((Err(LogError::Unavailable("broken".to_owned())), (from, grown, 2)));
                }
                loop {
                    grown.borrow_and_update();
                    if let Some(chunk) = own.piece_at(from) {
                        let at = usize::try_from(chunk.at.file).unwrap() * FILE;
                        let next = at + usize::try_from(chunk.at.offset).unwrap() + chunk.data.len();
                        return Some((Ok(chunk), (next, grown, told + 1)));
                    }
                    if !follow || grown.changed().await.is_err() {
                        return None;
                    }
                }
            }
        });
        Ok(Some(chunks.boxed()))
    }
}

fn wanted(tail: usize, over: Option<Arc<Notify>>) -> Wanted {
    let follow = over.map(|over| async move { over.notified().await }.boxed());
    Wanted { output: Output::Stdout, tail, follow }
}

async fn all(printed: &Arc<Printed>, wanted: Wanted) -> Vec<u8> {
    let reading = Reading::begin(Box::new(Arc::clone(printed)), wanted).await.unwrap();
    reading.into_stream().map(Result::unwrap).collect::<Vec<_>>().await.concat()
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test)
}

/// Reads `count` bytes of a reading that goes on.
async fn some(reading: &mut Reading, count: usize) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < count {
        read.extend_from_slice(&reading.next().await.unwrap().expect("it goes on"));
    }
    read
}

#[test]
fn a_follower_gets_what_comes_and_ends_with_the_run() {
    run(async {
        let (printed, over) = (Printed::new(b"one\ntwo\n", 9, 4), Arc::new(Notify::new()));
        let source = Box::new(Arc::clone(&printed));
        let mut reading = Reading::begin(source, wanted(1, Some(Arc::clone(&over)))).await.unwrap();
        assert_eq!(some(&mut reading, 4).await, b"two\n");
        printed.print(b"three");
        assert_eq!(some(&mut reading, 5).await, b"three");
        printed.print(b"\nfour\n");
        over.notify_one();
        assert_eq!(some(&mut reading, 6).await, b"\nfour\n");
        assert_eq!(reading.next().await.unwrap(), None);
    });
}

#[test]
fn what_breaks_off_is_taken_up_where_it_was() {
    run(async {
        let (printed, over) = (Printed::new(b"0123456789", 99, 3), Arc::new(Notify::new()));
        printed.breaks.store(4, Ordering::Relaxed);
        let source = Box::new(Arc::clone(&printed));
        let mut reading = Reading::begin(source, wanted(9, Some(Arc::clone(&over)))).await.unwrap();
        assert_eq!(some(&mut reading, 10).await, b"0123456789");
        printed.print(b"abc");
        over.notify_one();
        assert_eq!(some(&mut reading, 3).await, b"abc");
        assert_eq!(reading.next().await.unwrap(), None);
        assert!(printed.opened.load(Ordering::Relaxed) > 5);
    });
}

#[test]
fn nothing_is_the_end_of_nothing() {
    run(async {
        assert_eq!(all(&Printed::new(b"", 1, 1), wanted(10, None)).await, b"");
        assert_eq!(all(&Printed::new(b"one\ntwo", 1, 1), wanted(0, None)).await, b"");
    });
}

/// A source that has what it had, and no more.
struct Removed;

#[async_trait::async_trait]
impl Source for Removed {
    async fn open(&self, _: u64, _: bool) -> Result<Option<Chunks>, LogError> {
        Err(LogError::Gone("removed".to_owned()))
    }
}

#[test]
fn what_is_gone_is_told_at_once() {
    let begun = run(Reading::begin(Box::new(Removed), wanted(1, None)));
    assert!(matches!(begun, Err(LogError::Gone(_))));
}

#[test]
fn long_lines_are_looked_for_further_back() {
    let line = [vec![b'x'; 200_000], b"\n".to_vec()].concat();
    let text = line.repeat(4);
    let printed = Printed::new(&text, usize::MAX, 1 << 20);
    let read = run(all(&printed, wanted(3, None)));
    assert_eq!(read.len(), 3 * line.len());
    assert!(read == line.repeat(3));
}

proptest! {
    #[test]
    fn the_last_lines_that_are_kept_are_read(
        text in "[ab\n]{0,80}", files in 1_usize..9, piece in 1_usize..12, lines in 0_usize..12, exact: bool,
    ) {
        let mut printed = Printed::new(text.as_bytes(), files, piece);
        Arc::get_mut(&mut printed).unwrap().exact = exact;
        let kept = &text[printed.oldest(text.len())..];
        let all_lines: Vec<&str> = kept.split_inclusive('\n').collect();
        let expected = all_lines[all_lines.len().saturating_sub(lines)..].concat();
        let read = run(all(&printed, wanted(lines, None)));
        prop_assert_eq!(String::from_utf8(read).unwrap(), expected);
    }
}
