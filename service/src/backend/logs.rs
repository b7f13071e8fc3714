//! What sessions print, read the same way wherever they run.
//!
//! A [`Source`] knows how to read one output of one run from about so far before its end; [`Reading`] makes of that what
//! a reader wants: the last lines, exactly, then what comes, without a gap or a repetition when the source breaks off,
//! until the run is over and everything was read. Whole logs are never in memory.

mod excerpt;
mod tail;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use tokio::time::sleep;

pub(crate) use excerpt::last_words;
use tail::Tail;

/// Which output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A place in an output that is kept in numbered files. Numbers rise, and old files go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The file's number.
    pub file: u64,
    /// Bytes from its beginning.
    pub offset: u64,
}

/// A piece of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where it begins; it ends in the same file.
    pub at: Position,
    /// As it was written.
    pub data: Bytes,
}

/// Chunks, each right after the one before.
pub type Chunks = BoxStream<'static, Result<Chunk, LogError>>;

/// Why an output cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// It was removed.
    #[error("{0}")]
    Gone(String),
    /// Nobody who has it answers now.
    #[error("{0}")]
    Unavailable(String),
    /// Our credentials do not suffice.
    #[error("{0}")]
    Denied(String),
}

/// One output of one run.
#[async_trait::async_trait]
pub trait Source: Send + Sync + 'static {
    /// Reads from at least `back` bytes before the end, or from the oldest byte there is: to the end, or with `follow`
    /// on and on. `None`: nothing was written yet.
    async fn open(&self, back: u64, follow: bool) -> Result<Option<Chunks>, LogError>;
}

/// What of an output is wanted.
pub struct Wanted {
    /// Which one.
    pub output: Output,
    /// The last so many lines of what is there.
    pub tail: usize,
    /// What comes afterwards too, until this says that the run is over.
    pub follow: Option<BoxFuture<'static, ()>>,
}

/// As far back as it goes.
const EVERYTHING: u64 = u64::MAX;
/// How far back is looked at first.
const GLANCE: u64 = 64 * 1024;
/// A line, where nothing is known of the lines.
const USUAL_LINE: u64 = 160;
/// Between two tries of a source that is empty or does not answer.
const PAUSE: Duration = Duration::from_millis(250);
/// Tries in a row, once everything is written: what does not answer then may never.
const LAST_TRIES: u32 = 20;

/// An output being read. Dropping it closes what it holds open.
pub struct Reading {
    source: Box<dyn Source>,
    /// Where the next byte for the reader is.
    at: Position,
    chunks: Option<Chunks>,
    /// How far before the end `chunks` began, or the next ones shall.
    back: u64,
    /// Nothing of `chunks` was looked at yet.
    fresh: bool,
    /// While following: says when the run is over.
    over: Option<BoxFuture<'static, ()>>,
    failures: u32,
}

impl Reading {
    /// Finds the place where the wanted lines begin.
    ///
    /// # Errors
    /// As the source says.
    pub async fn begin(source: Box<dyn Source>, wanted: Wanted) -> Result<Self, LogError> {
        let (at, back) = measure(source.as_ref(), wanted.tail).await?;
        Ok(Self { source, at, chunks: None, back, fresh: true, over: wanted.follow, failures: 0 })
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When it cannot be read any further.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LogError> {
        loop {
            if self.chunks.is_none() {
                match self.source.open(self.back, self.over.is_some()).await {
                    Ok(Some(chunks)) => (self.chunks, self.fresh) = (Some(chunks), true),
                    Ok(None) if self.over.is_none() => return Ok(None),
                    Ok(None) => self.rest().await,
                    Err(error) => self.after(error).await?,
                }
            }
            match self.chunk().await {
                Some(Ok(chunk)) => {
                    self.failures = 0;
                    if let Some(bytes) = self.take(chunk) {
                        return Ok(Some(bytes));
                    }
                }
                Some(Err(error)) => {
                    self.break_off();
                    self.after(error).await?;
                }
                None if self.chunks.is_none() => {}
                None if self.over.is_none() => return Ok(None),
                None => {
                    self.break_off();
                    self.rest().await;
                }
            }
        }
    }

    /// All that is left to read, as a stream that ends with its first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, LogError>> + Send {
        stream::unfold(Some(self), async |reading| {
            let mut reading = reading?;
            match reading.next().await {
                Ok(None) => None,
                Ok(Some(bytes)) => Some((Ok(bytes), Some(reading))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// The next chunk. Once the run is over, `None`, and the rest is to be read from a source that ends.
    async fn chunk(&mut self) -> Option<Result<Chunk, LogError>> {
        let chunks = self.chunks.as_mut()?;
        let Some(over) = &mut self.over else { return chunks.next().await };
        tokio::select! {
            biased;
            () = over => {
                self.over = None;
                self.break_off();
                None
            }
            chunk = chunks.next() => chunk,
        }
    }

    /// What of a chunk the reader has not had yet.
    fn take(&mut self, Chunk { at, data }: Chunk) -> Option<Bytes> {
        if std::mem::take(&mut self.fresh) && at > self.at && self.back < EVERYTHING {
            // Not far enough back. If that was as far as it goes, the next try says so.
            let back = self.back.saturating_mul(8);
            self.break_off();
            self.back = if back > 1 << 30 { EVERYTHING } else { back };
            return None;
        }
        let had = match at.file.cmp(&self.at.file) {
            std::cmp::Ordering::Less => data.len(),
            std::cmp::Ordering::Equal => {
                let had = self.at.offset.saturating_sub(at.offset);
                usize::try_from(had).unwrap_or(usize::MAX).min(data.len())
            }
            std::cmp::Ordering::Greater => 0,
        };
        if had == data.len() {
            return None;
        }
        self.at = Position { offset: at.offset + data.len() as u64, ..at };
        Some(data.slice(had..))
    }

    fn break_off(&mut self) {
        self.chunks = None;
        self.back = GLANCE;
    }

    /// What becomes of a failure: while the run lives the source will answer again.
    async fn after(&mut self, error: LogError) -> Result<(), LogError> {
        self.failures += 1;
        match error {
            LogError::Unavailable(why) if self.over.is_some() || self.failures < LAST_TRIES => {
                tracing::debug!(%why, failures = self.failures, "A log broke off and is opened again.");
                self.rest().await;
                Ok(())
            }
            error => Err(error),
        }
    }

    async fn rest(&mut self) {
        let Some(over) = &mut self.over else { return sleep(PAUSE).await };
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = over => self.over = None,
        }
    }
}

/// Where the last so many lines begin, and how far before the end that is.
async fn measure(source: &dyn Source, lines: usize) -> Result<(Position, u64), LogError> {
    let mut back = GLANCE.max(lines as u64 * USUAL_LINE);
    loop {
        let mut tail = Tail::new(lines);
        let Some(mut chunks) = source.open(back, false).await? else {
            return Ok((Position::default(), EVERYTHING));
        };
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            tail.feed(chunk.at, &chunk.data);
        }
        if let Some((at, distance)) = tail.start() {
            // The output goes on growing until it is opened again.
            return Ok((at, distance.saturating_add(GLANCE)));
        }
        if tail.length() < back {
            return Ok((tail.first(), EVERYTHING));
        }
        back = back.saturating_mul(8);
    }
}
