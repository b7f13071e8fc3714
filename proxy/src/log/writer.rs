//! Where lines go: into a buffer at once, and from there to the file in a thread of its own. Whoever serves a request
//! never waits for a disk; if that does not follow, lines are dropped and counted.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::metrics::Metrics;

/// Bytes that may wait to be written.
const MOST: usize = 16 << 20;
/// A buffer that has grown beyond this is given back.
const KEPT: usize = 1 << 20;
/// Lines are gathered for so long before they are written together: fewer system calls, and none for those who serve.
const GATHER: Duration = Duration::from_millis(20);
/// How often it is looked whether the file still has its name.
const LOOK: Duration = Duration::from_secs(1);

/// Standard output.
const STDOUT: &str = "-";

/// Takes lines. Dropping it writes what is left, and waits until that has happened.
pub(super) struct Writer {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

struct Queue {
    pending: Mutex<Pending>,
    /// Something is there, or it is over.
    news: Condvar,
    metrics: Metrics,
}

#[derive(Default)]
struct Pending {
    lines: Vec<u8>,
    /// The thread waits: only then has it to be woken.
    asleep: bool,
    over: bool,
}

impl Writer {
    /// Opens the file, or standard output for `-`.
    ///
    /// # Errors
    /// When it cannot be opened, or there is no thread to be had.
    pub(super) fn open(path: &Path, metrics: Metrics) -> io::Result<Self> {
        let target: Target = if path == Path::new(STDOUT) {
            Target::Stdout
        } else {
            Target::File(Followed::open(path.to_owned())?)
        };
        let queue = Arc::new(Queue { pending: Mutex::default(), news: Condvar::new(), metrics });
        let taken = queue.clone();
        let thread = std::thread::Builder::new().name("access log".to_owned());
        let thread = thread.spawn(move || taken.write_all(target))?;
        Ok(Self { queue, thread: Some(thread) })
    }

    /// Adds one line.
    pub(super) fn push(&self, line: &[u8]) {
        let mut pending = self.queue.pending.lock();
        if pending.lines.len() + line.len() > MOST {
            drop(pending);
            self.queue.metrics.log_dropped(1);
            return;
        }
        pending.lines.extend_from_slice(line);
        if std::mem::take(&mut pending.asleep) {
            self.queue.news.notify_one();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.pending.lock().over = true;
        self.queue.news.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Queue {
    fn write_all(&self, mut target: Target) {
        let mut lines = Vec::new();
        let mut well = true;
        while self.take(&mut lines) {
            let written = target.write(&lines);
            if let Err(error) = &written {
                self.metrics.log_dropped(lines.iter().filter(|byte| **byte == b'\n').count() as u64);
                if well {
                    tracing::error!(%error, "The access log cannot be written: its lines are lost.");
                }
            }
            well = written.is_ok();
            lines.clear();
            if lines.capacity() > KEPT {
                lines = Vec::new();
            }
        }
    }

    /// Waits for lines, and takes all there are. `false`: there are none, and will be none.
    fn take(&self, lines: &mut Vec<u8>) -> bool {
        let mut pending = self.pending.lock();
        while pending.lines.is_empty() && !pending.over {
            pending.asleep = true;
            self.news.wait(&mut pending);
        }
        let deadline = Instant::now() + GATHER;
        while !pending.over && !self.news.wait_until(&mut pending, deadline).timed_out() {}
        std::mem::swap(&mut pending.lines, lines);
        !lines.is_empty()
    }
}

enum Target {
    Stdout,
    File(Followed),
}

impl Target {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
            Self::File(file) => file.write(lines),
        }
    }
}

/// A file by its name: when it was moved away, another one is begun.
struct Followed {
    path: PathBuf,
    file: File,
    looked: Instant,
}

impl Followed {
    fn open(path: PathBuf) -> io::Result<Self> {
        // Not for everybody: it says who was where.
        let file = File::options().create(true).append(true).mode(0o640).open(&path)?;
        Ok(Self { path, file, looked: Instant::now() })
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.looked.elapsed() >= LOOK {
            if self.was_moved() {
                *self = Self::open(self.path.clone())?;
            }
            self.looked = Instant::now();
        }
        self.file.write_all(lines)
    }

    fn was_moved(&self) -> bool {
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        match (std::fs::metadata(&self.path), self.file.metadata()) {
            (Ok(named), Ok(opened)) => identity(named) != identity(opened),
            (Err(error), _) => error.kind() == io::ErrorKind::NotFound,
            (Ok(_), Err(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests;
