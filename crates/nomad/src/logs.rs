//! What a task has written: its standard output and standard error, read from its node through whichever agent is asked.
//!
//! Nomad's frames are used, not its plain text: they tell a silent task from a dead connection, and an error in the
//! middle of an answer, which Nomad appends to the text, from what the task wrote.

mod frame;

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use reqwest::Method;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::FramedRead;
use tokio_util::io::StreamReader;

use crate::{Client, Error};
use frame::{Broken, Frame, Frames};

/// A node says `{}` every second.
const SILENCE: Duration = Duration::from_secs(10);
/// Connecting, through servers to the node, and the head of the answer.
const OPENING: Duration = Duration::from_secs(10);
/// What a node reads at once. A stream that begins at least so far before the end begins with a frame of one read; only
/// then does the frame's offset tell where it begins (see [`LogStream::next`]).
const ONE_READ: u64 = 64 * 1024;

/// Which of a task's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogKind {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl LogKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Which part of which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRequest<'a> {
    /// The allocation's id.
    pub allocation: &'a str,
    /// The task's name.
    pub task: &'a str,
    /// Which of its streams.
    pub kind: LogKind,
    /// Begin about so many bytes before the end: at least these, where they exist. `None`: with the oldest byte that
    /// is kept.
    pub back: Option<u64>,
    /// Go on with whatever is written later. Such a stream does not end by itself, not even with the task.
    pub follow: bool,
}

/// What Nomad has of a log.
#[derive(Debug)]
pub enum Logs {
    /// Here it comes.
    Stream(LogStream),
    /// The task was not started yet, or has no log files: they may be switched off in its job.
    Nothing,
    /// Servers or node have forgotten the allocation, and the log with it.
    Gone(String),
}

/// A piece of a log, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Number of the file that it is in. Nomad rotates: files begin at 0 bytes, numbers rise, old files go.
    pub file: u64,
    /// Where it begins in that file, in bytes.
    pub offset: u64,
    /// The bytes; never empty.
    pub data: Bytes,
}

/// A log, chunk by chunk. Dropping it closes the connection.
pub struct LogStream {
    frames: Pin<Box<dyn Stream<Item = Result<Frame, Broken>> + Send>>,
    /// The file that is being read, and where the next byte of it belongs.
    place: Option<(u64, u64)>,
    /// Since when the next frame is waited for; `None` while nobody waits: a reader that takes its time is no silence.
    waiting: Option<Instant>,
}

impl std::fmt::Debug for LogStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogStream").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Client {
    /// Opens a log. The agent that is asked forwards to the allocation's node. With ACLs the token needs the capability
    /// `read-logs` in the allocation's namespace. Counts as no call: the caller bounds how many are open at a time,
    /// because an agent allows an address 100 connections by default.
    ///
    /// # Errors
    /// [`Error::Unavailable`] also while the node cannot be reached; [`Error::Invalid`] if there is no such task.
    pub async fn logs(&self, request: &LogRequest<'_>) -> Result<Logs, Error> {
        let mut call =
            self.transport.lasting_call(Method::GET, &["client", "fs", "logs", request.allocation]);
        call = call.query(&[("task", request.task), ("type", request.kind.as_str())]);
        call = call.query(&[("follow", request.follow)]);
        if let Some(back) = request.back {
            call = call.query(&[("origin", "end")]).query(&[("offset", back.max(ONE_READ))]);
        }
        let opened = timeout(OPENING, self.transport.open(call)).await;
        match opened.unwrap_or_else(|_| Err(Error::Unavailable("the log does not begin".into()))) {
            Ok(response) => {
                let bytes = response.bytes_stream().map_err(io::Error::other);
                let frames = FramedRead::new(StreamReader::new(bytes), Frames).boxed();
                Ok(Logs::Stream(LogStream { frames, place: None, waiting: None }))
            }
            Err(Error::NotFound(text)) => absent(text),
            Err(error) => Err(error),
        }
    }
}

/// Nomad says 404 to everything that is missing; only the text tells what.
fn absent(text: String) -> Result<Logs, Error> {
    if text.contains("No path to node") {
        return Err(Error::Unavailable(text));
    }
    let unwritten = text.contains("not started yet") || text.contains("log entry");
    Ok(if unwritten { Logs::Nothing } else { Logs::Gone(text) })
}

impl LogStream {
    /// The next chunk; `None` at the end of what there was. Cancel safe.
    ///
    /// # Errors
    /// If the stream breaks or falls silent: nodes give signs of life. Another one may be opened.
    pub async fn next(&mut self) -> Result<Option<LogChunk>, Error> {
        loop {
            let since = *self.waiting.get_or_insert_with(Instant::now);
            let frame = match timeout_at(since + SILENCE, self.frames.next()).await {
                Ok(Some(frame)) => frame.map_err(|Broken(error)| error)?,
                Ok(None) => return Ok(None),
                Err(_) => {
                    let seconds = SILENCE.as_secs();
                    return Err(Error::Unavailable(format!("the log was silent for {seconds} s")));
                }
            };
            self.waiting = None;
            if let Some(chunk) = self.place(frame) {
                return Ok(Some(chunk));
            }
        }
    }

    /// A frame's own offset is where its *first read* ended, and several short reads share a frame: it is exact for a
    /// frame of one read. The first is one, by the choice of where to begin; the rest is counted.
    fn place(&mut self, frame: Frame) -> Option<LogChunk> {
        let (data, file) = (frame.data, frame.file?);
        let length = data.len() as u64;
        let offset = match self.place {
            _ if frame.truncated => 0,
            None => frame.offset.saturating_sub(length),
            Some((known, next)) if known == file => next,
            Some(_) => 0,
        };
        self.place = Some((file, offset + length));
        (!data.is_empty()).then_some(LogChunk { file, offset, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> LogStream {
        LogStream { frames: futures::stream::empty().boxed(), place: None, waiting: None }
    }

    fn frame(file: u64, offset: u64, data: &'static str) -> Frame {
        Frame { file: Some(file), offset, data: Bytes::from_static(data.as_bytes()), truncated: false }
    }

    #[tokio::test]
    async fn chunks_are_placed_by_the_first_offset_and_counted_on() {
        let mut log = stream();
        let mut at = |frame| log.place(frame).map(|chunk| (chunk.file, chunk.offset));
        assert_eq!(at(frame(3, 104, "four")), Some((3, 100)));
        // Two reads in one frame, which tells the end of the first.
        assert_eq!(at(frame(3, 106, "two-and-more")), Some((3, 104)));
        assert_eq!(at(frame(3, 116, "")), None);
        assert_eq!(at(frame(3, 118, "xx")), Some((3, 116)));
        assert_eq!(at(frame(4, 2, "next")), Some((4, 0)));
        assert_eq!(at(Frame { truncated: true, ..frame(4, 9, "again") }), Some((4, 0)));
        assert_eq!(at(Frame { file: None, ..frame(0, 0, "") }), None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_node_can_be_silent_not_a_reader_that_takes_its_time() {
        let later = |n: u64| async move {
            tokio::time::sleep(Duration::from_secs(n)).await;
            Ok::<_, Broken>(frame(0, n, "x"))
        };
        let frames = futures::stream::iter([1, 1, 60]).then(later).boxed();
        let mut log = LogStream { frames, ..stream() };
        assert!(log.next().await.unwrap().is_some());
        tokio::time::sleep(2 * SILENCE).await;
        assert!(log.next().await.unwrap().is_some());
        let waited = Instant::now();
        for _ in 0..4 {
            // Whoever gives up and asks again waits for the same frame.
            assert!(timeout(SILENCE / 5, log.next()).await.is_err());
        }
        assert!(matches!(log.next().await, Err(Error::Unavailable(_))));
        assert!((SILENCE..SILENCE + Duration::from_secs(1)).contains(&waited.elapsed()));
    }

    #[test]
    fn what_is_missing_is_told_apart() {
        let said = |text: &str| absent(text.to_owned());
        assert!(matches!(said("No path to node"), Err(Error::Unavailable(_))));
        let fresh = r#"task "guest" not started yet. No logs available"#;
        assert!(matches!(said(fresh), Ok(Logs::Nothing)));
        let empty = r#"log entry for task "guest" and log type "stderr" not found"#;
        assert!(matches!(said(empty), Ok(Logs::Nothing)));
        for text in ["Unknown allocation \"a\"", "state for allocation a not found on client"] {
            assert!(matches!(said(text), Ok(Logs::Gone(_))), "{text}");
        }
    }
}
