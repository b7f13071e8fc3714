//! One session on this proxy: its gate and its route, changed under one lock.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bivouac_protocol::link::FromProxy;
use bivouac_protocol::{FenceTag, Generation, Phase, Reason, SessionId};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::gate::Gate;
use crate::admission::standing::Recorded;
use crate::routes::merge::Known;

/// One session.
pub(crate) struct Entry {
    pub(crate) id: SessionId,
    state: Mutex<State>,
    changed: Notify,
    /// The last generation whose first byte was reported.
    pub(crate) first_byte: AtomicU64,
    /// Number of the look-up that is under way, or would be next: unique in this process.
    pub(crate) round: AtomicU64,
}

/// What the lock protects.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) gate: Gate,
    pub(crate) known: Known,
    /// The session is known to exist: its uses leave a trace and are reported.
    pub(crate) exists: bool,
    /// The generation that was used last.
    pub(crate) used: Option<Generation>,
    /// Requests that wait, for whatever reason.
    pub(crate) holding: usize,
    /// The fence that was knocked at last.
    pub(super) knocked: Option<FenceTag>,
    /// A change of its activity is to be reported.
    pub(super) dirty: bool,
    /// How many uses, and how many silent carriers among them, were reported last.
    pub(super) told: (u32, u32),
    /// When anything was reported last, by this proxy's clock.
    pub(super) told_at: Option<Duration>,
    /// Its count may be another than the one that was reported, which is looked at soon.
    pub(super) recount: bool,
    /// It was taken out of the table: whoever still holds it has to look again.
    pub(super) detached: bool,
    /// When its route was last confirmed from record and directory.
    pub(crate) verified_at: Option<Duration>,
    /// When its record was last read for those who wait at the fence.
    pub(crate) checked_at: Option<Duration>,
    /// When it was last retracted.
    pub(crate) retracted_at: Option<Duration>,
    /// The last answer of a replica that did not lead to a route, with its number.
    pub(crate) outcome: Option<(u64, Outcome)>,
    /// What a replica was asked for last (to wake it, or for its route).
    pub(crate) asked: Option<Asked>,
    /// What its record said when it was last read for those who wait.
    pub(crate) recorded: Option<Box<Recorded>>,
    /// Seats that are taken, where its template bounds them.
    pub(crate) seats: u32,
}

/// A question to a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) question: FromProxy,
    pub(crate) at: Duration,
    /// Whose turn it was: the next one goes to the next replica, for this one may not be able to answer.
    pub(crate) turn: usize,
}

/// A replica's answer that did not lead to a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) generation: Option<Generation>,
    pub(crate) phase: Option<Phase>,
    pub(crate) reason: Option<Reason>,
}

impl Entry {
    pub(super) fn new(id: SessionId, round: u64) -> Arc<Self> {
        Arc::new(Self {
            id,
            state: Mutex::default(),
            changed: Notify::new(),
            first_byte: AtomicU64::new(0),
            round: AtomicU64::new(round),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Resolves with the next change after this call; so: subscribe first, then look.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Lets those who wait look again.
    pub(crate) fn announce(&self) {
        self.changed.notify_waiters();
    }
}

impl State {
    /// Whether this generation's end, or a later generation, is known here.
    pub(crate) fn is_over(&self, generation: Generation) -> bool {
        self.known.is_over(generation) || self.gate.is_past(generation)
    }

    /// Nothing that happened here has to be remembered.
    pub(super) fn is_traceless(&self) -> bool {
        self.is_unused() && !self.exists && self.known.over().is_none()
    }

    /// Nothing is open, held, fenced or routed.
    pub(super) fn is_unused(&self) -> bool {
        let State { gate, known, holding, .. } = self;
        gate.open() == 0
            && gate.fenced().is_none()
            && gate.waiting() == 0
            && *holding == 0
            && known.route().is_none()
    }

    /// The session's last known generation is over and nothing is open: its activity is of no interest any more.
    pub(super) fn is_past(&self) -> bool {
        self.gate.open() == 0
            && self.known.route().is_none()
            && self.known.over().is_some_and(|over| self.used.is_none_or(|used| used <= over.generation))
    }
}
