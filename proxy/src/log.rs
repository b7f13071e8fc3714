//! The access log: one line for each request, and one for each tunnel, written when it is over.
//!
//! Whoever serves a request fills its [`Account`]. The line is written when that is dropped, however that comes about: a
//! connection that breaks, and a task that is dropped, have their line too. Without a log an account is one empty word.

mod line;
mod writer;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::StatusCode;
use jiff::Timestamp;
use pingora_http::RequestHeader;

use crate::admission::Admitted;
use crate::headers::Trace;
use crate::host::Target;
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::visitor::Visitor;
use line::{Answer, Asked, Line, Place, Times};
use writer::Writer;

/// Where requests are written down, if anywhere. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Log(Option<Arc<Writer>>);

/// One request or tunnel; what is known of it is written down when this is dropped.
#[derive(Default)]
pub(crate) struct Account(Option<Box<Open>>);

/// How it ended. What was refused by us says so by [`Account::refused`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything was said.
    Complete,
    /// The client left before.
    ClientGone,
    /// The backend broke off, or what it sent cannot be understood.
    Broken,
    /// We ended it, for this reason.
    Cut(&'static str),
}

struct Open {
    writer: Arc<Writer>,
    since: Instant,
    /// Without a head, if none was understood.
    asked: Asked,
    place: Place,
    admitted: Option<Instant>,
    reused: bool,
    switched: Option<&'static str>,
    answered: OnceLock<(StatusCode, Instant)>,
    refused: Option<(StatusCode, &'static str)>,
    outcome: Option<Outcome>,
    close: Option<u16>,
    to_backend: AtomicU64,
    to_client: AtomicU64,
}

impl Log {
    /// Writes to a file, which is opened again when another one takes its name; `-` is standard output.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn to(path: &Path, metrics: &Metrics) -> io::Result<Self> {
        Ok(Self(Some(Arc::new(Writer::open(path, metrics.clone())?))))
    }

    /// Begins the account of a request whose head was read.
    pub(crate) fn open(&self, visitor: &Visitor, head: &RequestHeader, trace: &Trace) -> Account {
        let Some(writer) = &self.0 else { return Account(None) };
        Self::begin(writer, Asked::new(Timestamp::now(), visitor, head, trace))
    }

    /// Writes down a client that was refused before its head was understood.
    pub(crate) fn refused_early(&self, visitor: &Visitor, refusal: &Refusal) {
        let Some(writer) = &self.0 else { return };
        Self::begin(writer, Asked::nothing(Timestamp::now(), visitor)).refused(refusal);
    }

    fn begin(writer: &Arc<Writer>, asked: Asked) -> Account {
        Account(Some(Box::new(Open {
            writer: writer.clone(),
            since: Instant::now(),
            asked,
            place: Place::default(),
            admitted: None,
            reused: false,
            switched: None,
            answered: OnceLock::new(),
            refused: None,
            outcome: None,
            close: None,
            to_backend: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
        })))
    }
}

impl Account {
    /// The session that it asked for.
    pub(crate) fn target(&mut self, target: &Target) {
        if let Some(open) = &mut self.0 {
            open.place.target(target);
        }
    }

    /// It was let in: from here on the backend is waited for, and no longer the session.
    pub(crate) fn admitted(&mut self, admitted: &Admitted) {
        if let Some(open) = &mut self.0 {
            open.place.admitted(admitted);
            open.admitted = Some(Instant::now());
        }
    }

    /// Whether it went over a connection that was kept; of more than one attempt the last counts.
    pub(crate) fn reused(&mut self, reused: bool) {
        if let Some(open) = &mut self.0 {
            open.reused = reused;
        }
    }

    /// The final head of a backend's response went out.
    pub(crate) fn head(&self, status: StatusCode) {
        if let Some(open) = &self.0 {
            // There is one final head.
            let _ = open.answered.set((status, Instant::now()));
        }
    }

    /// The connection speaks another protocol from here on.
    pub(crate) fn switched(&mut self, websocket: bool) {
        if let Some(open) = &mut self.0 {
            open.switched = Some(if websocket { "ws" } else { "upgrade" });
        }
    }

    /// We answered in the session's stead.
    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        if let Some(open) = &mut self.0 {
            open.refused = Some((refusal.status(), refusal.code()));
        }
    }

    /// Bytes of a body, or of a tunnel, were passed on. Of each direction there is one who calls this.
    pub(crate) fn carried(&self, to_backend: u64, to_client: u64) {
        if let Some(open) = &self.0 {
            for (count, bytes) in [(&open.to_backend, to_backend), (&open.to_client, to_client)] {
                if bytes > 0 {
                    count.store(count.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
                }
            }
        }
    }

    /// How it ended; without a word it was broken off.
    pub(crate) fn ended(&mut self, outcome: Outcome) {
        if let Some(open) = &mut self.0 {
            open.outcome = Some(outcome);
        }
    }

    /// A WebSocket was closed with this code, by us.
    pub(crate) fn closed_with(&mut self, code: u16) {
        if let Some(open) = &mut self.0 {
            open.close = Some(code);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let answered = self.answered.get();
        let whole = self.since.elapsed();
        let line = Line {
            asked: &self.asked,
            protocol: self.switched.unwrap_or(self.asked.protocol),
            answer: Answer {
                status: self.refused.map(|(status, _)| status).or(answered.map(|(status, _)| *status)),
                refused: self.refused.map(|(_, code)| code),
                outcome: self.outcome.unwrap_or(Outcome::Broken),
                close: self.close,
            },
            place: &self.place,
            to_backend: self.to_backend.load(Ordering::Relaxed),
            to_client: self.to_client.load(Ordering::Relaxed),
            times: Times {
                whole,
                held: self.admitted.map(|at| at - self.since),
                backend: self.admitted.zip(answered).map(|(from, (_, to))| *to - from),
            },
            reused: self.admitted.map(|_| self.reused),
        };
        let mut text = Vec::with_capacity(768);
        line.write(&mut text);
        self.writer.push(&text);
    }
}
