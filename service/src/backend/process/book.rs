//! What a child prints: copied from its pipe into files of a fixed size, of which the last two are kept. A child that
//! prints without end fills no disk, and one whose output nobody reads is never held up.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::backend::logs::{Chunk, Chunks, LogError, Output, Position, Source};

/// Bytes in a file.
pub(super) const PAGE: u64 = 1 << 20;
/// Files that are kept.
const PAGES: u64 = 2;
/// What is copied at once.
const PIECE: usize = 8 * 1024;
/// What is read at once.
const CHUNK: u64 = 64 * 1024;
/// What is left in the pipes of a child that is over is read at once.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// One output of one run.
#[derive(Debug)]
pub(super) struct Book {
    folder: PathBuf,
    name: &'static str,
    written: watch::Sender<Written>,
}

/// How far it was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Written {
    /// Bytes since the run began, those in files that are gone included.
    end: u64,
    /// No more will come.
    done: bool,
}

impl Written {
    /// The first byte that is still kept. A page that is being begun has already cost the oldest.
    fn oldest(self) -> u64 {
        (self.end / PAGE + 1).saturating_sub(PAGES) * PAGE
    }
}

impl Book {
    /// An output of the run in `folder`, in files `<name>.0`, `<name>.1`, …
    pub(super) fn new(folder: &Path, name: &'static str) -> Arc<Self> {
        Arc::new(Self { folder: folder.to_owned(), name, written: watch::Sender::default() })
    }

    fn page(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{}.{number}", self.name))
    }

    /// Copies until the pipe is closed. What cannot be written is lost: the child must not be held up.
    pub(super) async fn keep(self: Arc<Self>, mut pipe: impl AsyncRead + Unpin) {
        let _closed = Closing(&self.written);
        let mut piece = vec![0; PIECE];
        let mut page = None;
        let mut broken = false;
        while let Ok(length @ 1..) = pipe.read(&mut piece).await {
            if broken {
                continue;
            }
            if let Err(error) = self.write(&mut page, &piece[..length]).await {
                broken = true;
                tracing::warn!(%error, folder = %self.folder.display(), "What a session prints is not kept any more.");
            }
        }
    }

    async fn write(&self, page: &mut Option<File>, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let end = self.written.borrow().end;
            if page.is_none() {
                *page = Some(self.turn(end / PAGE).await?);
            }
            let Some(file) = page else { break };
            let room = usize::try_from(PAGE - end % PAGE).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            file.write_all(now).await?;
            file.flush().await?;
            if now.len() == room {
                *page = None;
            }
            bytes = later;
            self.written.send_modify(|written| written.end += now.len() as u64);
        }
        Ok(())
    }

    /// Begins a page, and removes the one that is too old.
    async fn turn(&self, number: u64) -> io::Result<File> {
        if let Some(old) = number.checked_sub(PAGES) {
            tokio::fs::remove_file(self.page(old)).await?;
        }
        OpenOptions::new().append(true).create_new(true).mode(0o600).open(self.page(number)).await
    }

    /// The bytes from `from` on, up to the end of a page and no more than are written.
    async fn read(&self, from: u64, end: u64) -> io::Result<Chunk> {
        let at = Position { file: from / PAGE, offset: from % PAGE };
        let length = (end - from).min(PAGE - at.offset).min(CHUNK);
        let mut file = File::open(self.page(at.file)).await?;
        file.seek(io::SeekFrom::Start(at.offset)).await?;
        let mut data = Vec::new();
        file.take(length).read_to_end(&mut data).await?;
        Ok(Chunk { at, data: Bytes::from(data) })
    }
}

/// Says that no more comes, also when the copying is given up.
struct Closing<'a>(&'a watch::Sender<Written>);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|written| written.done = true);
    }
}

/// Both outputs of a run.
#[derive(Debug)]
pub(super) struct Outputs {
    /// The run's directory.
    pub(super) folder: PathBuf,
    stdout: Arc<Book>,
    stderr: Arc<Book>,
}

impl Outputs {
    pub(super) fn new(folder: PathBuf) -> Self {
        let (stdout, stderr) = (Book::new(&folder, "stdout"), Book::new(&folder, "stderr"));
        Self { folder, stdout, stderr }
    }

    pub(super) fn book(&self, output: Output) -> Arc<Book> {
        match output {
            Output::Stdout => Arc::clone(&self.stdout),
            Output::Stderr => Arc::clone(&self.stderr),
        }
    }

    /// Keeps what a child prints, from now on.
    pub(super) fn keep(&self, child: &mut Child) -> Copying {
        let mut copies = JoinSet::new();
        if let Some(pipe) = child.stdout.take() {
            copies.spawn(Arc::clone(&self.stdout).keep(pipe));
        }
        if let Some(pipe) = child.stderr.take() {
            copies.spawn(Arc::clone(&self.stderr).keep(pipe));
        }
        Copying(copies)
    }
}

/// The copying of both outputs; ends with this.
#[derive(Debug)]
pub(super) struct Copying(JoinSet<()>);

impl Copying {
    /// Waits until all that was printed is kept. Only for a moment: somebody who left the child's process group may hold
    /// its pipes open for ever.
    pub(super) async fn finish(mut self) {
        let all = async { while self.0.join_next().await.is_some() {} };
        drop(timeout(LAST_WORDS, all).await);
    }
}

/// A book being read.
struct Reader {
    book: Arc<Book>,
    written: watch::Receiver<Written>,
    from: u64,
    /// Where to end; following, there is none.
    until: Option<u64>,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Chunk, LogError>> {
        loop {
            let written = *self.written.borrow_and_update();
            self.from = self.from.max(written.oldest());
            let end = self.until.unwrap_or(written.end).min(written.end);
            if self.from < end {
                match self.book.read(self.from, end).await {
                    Ok(chunk) if !chunk.data.is_empty() => {
                        self.from += chunk.data.len() as u64;
                        return Some(Ok(chunk));
                    }
                    // The page was removed under us; or all pages were, with the run.
                    _ if self.written.borrow().oldest() > self.from => continue,
                    _ => return Some(Err(LogError::Gone("what it printed was removed".to_owned()))),
                }
            }
            if written.done || self.until.is_some() || self.written.changed().await.is_err() {
                return None;
            }
        }
    }
}

#[async_trait::async_trait]
impl Source for Arc<Book> {
    async fn open(&self, back: u64, follow: bool) -> Result<Option<Chunks>, LogError> {
        let written = self.written.subscribe();
        let now = *written.borrow();
        let reader = Reader {
            book: Self::clone(self),
            written,
            from: now.end.saturating_sub(back).max(now.oldest()),
            until: (!follow).then_some(now.end),
        };
        let chunks = stream::unfold(reader, async |mut reader| Some((reader.next().await?, reader)));
        Ok(Some(chunks.boxed()))
    }
}
