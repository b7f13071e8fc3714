//! The event stream: what changed, as it changes, and whether anything may have been missed.
//!
//! A server remembers the last transactions only (`event_buffer_size`, 100 by default) and resumes past a gap without
//! a word, so continuity is proven, not assumed: the index that was seen last must come once more. See [`Cursor`].

mod cursor;
mod frame;

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use reqwest::Method;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;

pub use cursor::Cursor;
pub use frame::{Event, Payload, Topic};

use crate::{Client, Error};

/// An idle server says `{}` every 30 seconds.
const SILENCE: Duration = Duration::from_secs(45);
/// Connecting, the head of the answer and the first `{}`.
const OPENING: Duration = Duration::from_secs(10);
/// Replayed events follow the first `{}` at once; without one there is no proof that nothing was missed.
const REPLAY: Duration = Duration::from_secs(1);
/// One frame is one transaction: a server gathers the clients' updates of 50 ms, some KiB for each allocation.
const LONGEST_FRAME: usize = 64 << 20;

type Lines = Pin<Box<dyn Stream<Item = Result<String, LinesCodecError>> + Send>>;

/// Whether a stream goes on where the last one ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// There was nothing to go on from: everything that happens from now on will be told.
    Fresh,
    /// Nothing was missed.
    Continuous,
    /// Events may have been missed; everything that happens from now on will be told.
    Gap,
}

/// Events in the order of the Raft log. Dropping it closes the connection.
pub struct EventStream {
    lines: Lines,
    pending: VecDeque<Event>,
    cursor: Cursor,
    heard: Instant,
}

impl Client {
    /// Follows `topics` in one namespace or in all that the token may read (`*`). Returns once the server has
    /// subscribed us, so that a list read afterwards together with the stream leaves nothing out; the newest event
    /// from before may be told once more. With the cursor of an earlier stream **on the same topics and namespace**
    /// it goes on from there if the server still can.
    ///
    /// # Errors
    /// If the server cannot be reached, or refuses the token.
    pub async fn events(
        &self,
        namespace: &str,
        topics: &[Topic],
        after: Option<Cursor>,
    ) -> Result<(EventStream, Continuity), Error> {
        // A token without rights gets no refusal from the stream: it stays silent, or ends.
        self.check_access(namespace).await?;
        // Beyond the newest index a server begins with the newest event. Go reads the number as a signed one.
        let newest = i64::MAX.unsigned_abs();
        let after = after.filter(|cursor| cursor.index() > 0);
        let index = after.as_ref().map_or(newest, Cursor::index);
        let mut request = self.transport.lasting_call(Method::GET, &["event", "stream"]);
        request = request.query(&[("namespace", namespace)]).query(&[("index", index)]);
        for topic in topics {
            request = request.query(&[("topic", topic.as_str())]);
        }
        let opening = async {
            let response = self.transport.open(request).await?;
            let bytes = response.bytes_stream().map_err(io::Error::other);
            let lines =
                FramedRead::new(StreamReader::new(bytes), LinesCodec::new_with_max_length(LONGEST_FRAME));
            let mut stream = EventStream {
                lines: lines.boxed(),
                pending: VecDeque::new(),
                cursor: Cursor::default(),
                heard: Instant::now(),
            };
            stream.read_frame().await?;
            Ok::<_, Error>(stream)
        };
        let mut stream = timeout(OPENING, opening).await.map_err(|_| {
            Error::Unavailable("the event stream does not begin; may the token read jobs?".into())
        })??;
        let continuity = match after {
            None => Continuity::Fresh,
            Some(cursor) => stream.resume(cursor).await?,
        };
        Ok((stream, continuity))
    }
}

impl EventStream {
    /// The next event. Cancel safe.
    ///
    /// # Errors
    /// If the stream ends or falls silent; a new one may go on from [`EventStream::cursor`].
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(event);
            }
            self.read_frame().await?;
        }
    }

    /// How far the stream was read from the server. Events that [`EventStream::next`] has not returned yet count as
    /// read: take it when `next` has failed, or be ready to miss them.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor.clone()
    }

    async fn resume(&mut self, cursor: Cursor) -> Result<Continuity, Error> {
        let expected = cursor.index();
        let deadline = Instant::now() + REPLAY;
        // What arrived together with the greeting belongs to the replay.
        let early: Vec<Event> = self.pending.drain(..).collect();
        let mut first = (self.cursor.index() > 0).then(|| self.cursor.index());
        self.cursor = cursor;
        self.pending = self.cursor.admit(first.unwrap_or(expected), early).into();
        while first.is_none() {
            match timeout_at(deadline, self.read_frame()).await {
                Ok(index) => first = index?,
                Err(_) => return Ok(Continuity::Gap),
            }
        }
        Ok(if first == Some(expected) { Continuity::Continuous } else { Continuity::Gap })
    }

    /// Reads one frame into `pending`. Its index, or `None` for a sign of life.
    async fn read_frame(&mut self) -> Result<Option<u64>, Error> {
        let line = match timeout_at(self.heard + SILENCE, self.lines.next()).await {
            Ok(Some(line)) => line.map_err(broken)?,
            Ok(None) => return Err(Error::Unavailable("the event stream ended".into())),
            Err(_) => {
                let seconds = SILENCE.as_secs();
                return Err(Error::Unavailable(format!("the event stream was silent for {seconds} s")));
            }
        };
        self.heard = Instant::now();
        let frame = frame::decode(&line)?;
        let Some(index) = frame.index else { return Ok(None) };
        let admitted = self.cursor.admit(index, frame.events);
        self.pending.extend(admitted);
        Ok(Some(index))
    }
}

fn broken(error: LinesCodecError) -> Error {
    match error {
        LinesCodecError::MaxLineLengthExceeded => {
            Error::Unavailable(format!("a frame of the event stream is longer than {LONGEST_FRAME} bytes"))
        }
        LinesCodecError::Io(error) => {
            Error::Unavailable(format!("the event stream broke: {}", crate::error::causes(&error)))
        }
    }
}
