//! All sessions that this proxy knows, and the guards that count their use.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use bivouac_protocol::link::{FenceEcho, FromProxy};
use bivouac_protocol::{Generation, SessionId};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::clock::Clock;
use super::entry::{Entry, State};
use super::gate::{self, Fenced};
use super::moves::Moves;
use crate::link::outbox::Outbox;
use crate::metrics::Metrics;

/// A retraction is remembered this long, so that a late message of an old route finds it.
const REMEMBER_RETRACTED: Duration = Duration::from_secs(600);

/// The sessions. Lock order: map, then entry, then the list of reports and the outbox.
pub(crate) struct Table {
    pub(crate) clock: Clock,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) metrics: Metrics,
    entries: RwLock<HashMap<SessionId, Arc<Entry>>>,
    /// Which membership of this proxy confirmations belong to. It changes when one begins, and when it ends.
    epoch: AtomicU64,
    pub(super) seq: AtomicU64,
    rounds: AtomicU64,
    pub(super) unreported: Unreported,
}

/// Sessions whose activity has changed since it was reported.
#[derive(Default)]
pub(super) struct Unreported {
    pub(super) edges: Mutex<Vec<Arc<Entry>>>,
    pub(super) edge: Notify,
    pub(super) counts: Mutex<Vec<Arc<Entry>>>,
    pub(super) count: Notify,
}

/// The answer to a request that wants in.
pub(crate) enum Entered {
    /// It is counted.
    Open(Open),
    /// It waits for the outcome of a stop.
    Held(AtFence),
}

/// Counts one use of a session, from before its route is looked up until the response has ended.
pub(crate) struct Open {
    pub(super) table: Arc<Table>,
    pub(super) entry: Arc<Entry>,
    /// What moves on it. Changed under the entry's lock.
    pub(super) moves: AtomicU8,
}

/// One request, or some bytes of a carrier, that wait at a fence.
pub(crate) struct AtFence {
    pub(super) table: Arc<Table>,
    pub(crate) entry: Arc<Entry>,
    pub(crate) fenced: Fenced,
}

impl Table {
    pub(crate) fn new(clock: Clock, outbox: Arc<Outbox>, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            clock,
            outbox,
            metrics,
            entries: RwLock::default(),
            epoch: AtomicU64::new(0),
            seq: AtomicU64::new(0),
            rounds: AtomicU64::new(0),
            unreported: Unreported::default(),
        })
    }

    /// Counts a request in, or lets it wait at the fence and knock: once per fence, on every link.
    pub(crate) fn enter(self: &Arc<Self>, id: &SessionId) -> Entered {
        self.with(id, |entry, state| match state.gate.enter() {
            gate::Entry::Entered => {
                match state.gate.open() {
                    1 => self.edge(entry, state),
                    _ => self.count(entry, state),
                }
                self.metrics.opened();
                let moves = AtomicU8::new(Moves::default().to_bits());
                Entered::Open(Open { table: self.clone(), entry: entry.clone(), moves })
            }
            gate::Entry::Held(fenced) => {
                self.knock(entry, state, fenced);
                Entered::Held(AtFence { table: self.clone(), entry: entry.clone(), fenced })
            }
        })
    }

    /// Knocks at a fence: once for all who wait there, on every link.
    pub(super) fn knock(&self, entry: &Entry, state: &mut State, fenced: Fenced) {
        let Fenced { tag, generation } = fenced;
        if state.knocked.replace(tag) != Some(tag) {
            let session = entry.id.clone();
            self.outbox.broadcast(&FromProxy::Knock(FenceEcho { session, generation, tag }));
            self.metrics.knocked();
        }
    }

    /// Does something with the session's state; the entry is made if it is not there.
    pub(crate) fn with<R>(&self, id: &SessionId, act: impl FnOnce(&Arc<Entry>, &mut State) -> R) -> R {
        loop {
            let entry = self.find(id).unwrap_or_else(|| self.create(id));
            let mut state = entry.lock();
            if !state.detached {
                return act(&entry, &mut state);
            }
        }
    }

    /// Does something with the session's state, if there is any.
    pub(crate) fn peek<R>(
        &self,
        id: &SessionId,
        act: impl FnOnce(&Arc<Entry>, &mut State) -> R,
    ) -> Option<R> {
        let entry = self.find(id)?;
        let mut state = entry.lock();
        if state.detached { None } else { Some(act(&entry, &mut state)) }
    }

    fn find(&self, id: &SessionId) -> Option<Arc<Entry>> {
        self.entries.read().get(id).cloned()
    }

    fn create(&self, id: &SessionId) -> Arc<Entry> {
        let fresh = || Entry::new(id.clone(), self.next_round());
        self.entries.write().entry(id.clone()).or_insert_with(fresh).clone()
    }

    /// Takes the entry out if, now that both locks are held, it still leaves no trace.
    fn remove_if(&self, entry: &Arc<Entry>, condition: impl Fn(&State) -> bool) {
        let mut entries = self.entries.write();
        let mut state = entry.lock();
        if !state.detached && condition(&state) {
            state.detached = true;
            entries.remove(&entry.id);
        }
    }

    pub(crate) fn next_round(&self) -> u64 {
        self.rounds.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn all(&self) -> Vec<Arc<Entry>> {
        self.entries.read().values().cloned().collect()
    }

    /// The proxy has joined: from now on confirmations belong to this membership, whose number it returns.
    pub(crate) fn begin_epoch(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The proxy is no member any more: whatever it has confirmed is worth nothing.
    pub(crate) fn end_epoch(&self) {
        // First the number, then the entries: a confirmation that comes between finds the number changed.
        self.epoch.fetch_add(1, Ordering::SeqCst);
        for entry in self.all() {
            let mut state = entry.lock();
            state.gate.forget_confirmation();
            state.verified_at = None;
        }
    }

    /// Notes that the record was read as running at this generation, under this membership.
    pub(crate) fn confirm(&self, entry: &Entry, generation: Generation, epoch: u64) {
        let mut state = entry.lock();
        if self.epoch.load(Ordering::SeqCst) == epoch {
            state.gate.confirm(generation);
        }
    }

    /// The session is known to exist: from now on its use leaves a trace.
    pub(crate) fn mark_existing(&self, entry: &Arc<Entry>, generation: Generation) {
        let mut state = entry.lock();
        state.used = state.used.max(Some(generation));
        if !std::mem::replace(&mut state.exists, true) {
            self.edge(entry, &mut state);
        }
    }

    /// Lets everybody who waits look again.
    pub(crate) fn announce_all(&self) {
        self.all().iter().for_each(|entry| entry.announce());
    }

    /// Requests and connections that are open, of all sessions.
    pub(crate) fn open(&self) -> u64 {
        self.all().iter().map(|entry| u64::from(entry.lock().gate.open())).sum()
    }

    /// Forgets retractions that are old. Returns sessions whose fate is not known here: used once, and without a route.
    pub(crate) fn sweep(&self) -> Vec<SessionId> {
        let now = self.clock.now();
        let old = |at: Duration| now.saturating_sub(at) >= REMEMBER_RETRACTED;
        let mut unrouted = Vec::new();
        for entry in self.all() {
            let state = entry.lock();
            if !state.is_unused() {
                continue;
            }
            let (past, traceless) = (state.is_past(), state.is_traceless());
            drop(state);
            if traceless {
                self.remove_if(&entry, State::is_traceless);
            } else if past {
                self.remove_if(&entry, |state| {
                    state.is_unused() && state.is_past() && state.retracted_at.is_none_or(old)
                });
            } else {
                unrouted.push(entry.id.clone());
            }
        }
        unrouted
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.read().len()
    }
}

impl Open {
    pub(crate) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.entry.lock();
        match Moves::from_bits(self.moves.load(Ordering::Relaxed)) {
            _ if !state.exists => state.gate.withdraw(),
            moves if moves.is_silent() => state.gate.leave_carrier(self.table.clock.now()),
            _ => state.gate.leave(self.table.clock.now()),
        }
        match state.gate.open() {
            0 => self.table.edge(&self.entry, &mut state),
            _ => self.table.count(&self.entry, &mut state),
        }
        let traceless = state.is_traceless();
        drop(state);
        if traceless {
            self.table.remove_if(&self.entry, State::is_traceless);
        }
        self.table.metrics.closed();
    }
}

impl Drop for AtFence {
    fn drop(&mut self) {
        let mut state = self.entry.lock();
        state.gate.stop_waiting();
        let traceless = state.is_traceless();
        drop(state);
        if traceless {
            self.table.remove_if(&self.entry, State::is_traceless);
        }
    }
}

#[cfg(test)]
mod tests;
