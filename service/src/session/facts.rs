//! What this replica knows of one session: its record, and what was observed of its run. Pure: every method takes in
//! one piece of news; what follows from all of it is [`super::decide`]'s.

mod observing;
mod ports;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use bivouac_ledger::records::Versioned;
use bivouac_protocol::{Generation, Phase, PortLabel, ReasonCode, Record, SessionId, Timeline};
use jiff::Timestamp;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::decide::Kind;
use super::view::State;
use crate::backend::{Allocated, Grace, Status};

/// Longest wait between two tries of the same effect.
const SLOWEST_RETRY: Duration = Duration::from_secs(5);

/// Whether the run's job exists, as far as it was seen or asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// Nobody has said.
    Unseen,
    /// It exists.
    Registered,
    /// It exists, and somebody asked it to stop.
    Stopped,
    /// A consistent read by id says that it does not exist.
    Absent,
}

/// The facts.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) id: SessionId,
    pub(crate) record: Versioned<Record>,
    /// When this replica first read this revision: the safe age of whatever the record says about its last use.
    pub(crate) read_at: Instant,
    /// When this revision's longest lease ends, by what the wall clock said when it was read: should that clock be set
    /// forward, the promise is kept nevertheless.
    pub(crate) leased_until: Option<Instant>,
    /// When it first saw this generation.
    pub(crate) since: Instant,
    /// This process won the claim of this generation, and registers its job.
    pub(crate) owned: bool,
    pub(crate) job: Job,
    /// The first allocation that was seen; the pinned one, once there is a pin.
    pub(crate) allocated: Option<Allocated>,
    pub(crate) allocated_at: Option<Instant>,
    /// An allocation other than the pinned one exists, or the pinned one was started a second time.
    pub(crate) supplanted: bool,
    /// When the first other allocation was seen.
    pub(crate) supplanted_at: Option<Instant>,
    /// Nobody remembers the pinned allocation, and it was over.
    pub(crate) forgotten: bool,
    /// Since when the pinned allocation's node is not heard from: by this replica's clock, and for people.
    pub(crate) unreachable: Option<(Instant, Timestamp)>,
    /// The ports of the pinned allocation on which a probe got through.
    pub(crate) open: BTreeSet<PortLabel>,
    pub(crate) waiting_for: Option<String>,
    pub(crate) seen: Timeline,
    /// Why the job could not be registered when that was last tried, and is tried again.
    pub(crate) obstacle: Option<String>,
    /// The cluster refused the job, for good.
    pub(crate) refused: Option<String>,
    pub(crate) grace: Grace,
    /// When the job's deletion was last accepted.
    pub(crate) deleted_at: Option<Instant>,
    pub(crate) inspected_at: Option<Instant>,
    pub(crate) attempt: Option<Attempt>,
    /// When the attempt's fences were sent.
    pub(crate) fenced_at: Option<Instant>,
    /// A stop that failed is not tried again before this.
    pub(crate) attempt_after: Instant,
    /// Jobs of earlier generations that were seen and must be stopped.
    pub(crate) stale: BTreeSet<Generation>,
    /// Earlier generations that were given up while their node was away.
    given_up: BTreeSet<Generation>,
    /// Those of them that are over by now: their jobs can be removed.
    pub(crate) remains: BTreeSet<Generation>,
    pub(crate) in_flight: HashSet<Kind>,
    retries: HashMap<Kind, Retry>,
}

/// How often an effect has failed in a row, and when it may be tried again.
#[derive(Debug, Clone, Copy)]
struct Retry {
    failures: u32,
    not_before: Instant,
}

impl Facts {
    /// A session of which only the record is known.
    pub(crate) fn new(id: SessionId, record: Versioned<Record>, now: Instant) -> Self {
        Self {
            id,
            record,
            read_at: now,
            leased_until: None,
            since: now,
            owned: false,
            job: Job::Unseen,
            allocated: None,
            allocated_at: None,
            supplanted: false,
            supplanted_at: None,
            forgotten: false,
            unreachable: None,
            open: BTreeSet::new(),
            waiting_for: None,
            seen: Timeline::default(),
            obstacle: None,
            refused: None,
            grace: Grace::Template,
            deleted_at: None,
            inspected_at: None,
            attempt: None,
            fenced_at: None,
            attempt_after: now,
            stale: BTreeSet::new(),
            given_up: BTreeSet::new(),
            remains: BTreeSet::new(),
            in_flight: HashSet::new(),
            retries: HashMap::new(),
        }
    }

    pub(crate) fn generation(&self) -> Generation {
        self.record.value.generation
    }

    pub(crate) fn phase(&self) -> Phase {
        self.record.value.phase
    }

    /// Whether a revision, older or newer, tells of the run that is known.
    pub(crate) fn is_run_of(&self, record: &Record) -> bool {
        (record.generation, &record.nonce) == (self.generation(), &self.record.value.nonce)
    }

    /// Whether a later write stands on less than what is known: then the ledger went back between the two. It was
    /// restored from a snapshot and written to since, or the record was lost and written again from its job. Nothing
    /// else lowers a generation, nor, within one, a phase or a revision.
    pub(crate) fn is_undone_by(&self, record: &Versioned<Record>) -> bool {
        let (known, now) = (&self.record.value, &record.value);
        record.index > self.record.index
            && (now.generation < known.generation
                || (now.generation == known.generation
                    && (now.phase < known.phase || now.revision < known.revision)))
    }

    /// Takes in a revision of the record, unless a newer one is known. Whether it was news. (One by which what is known
    /// [is undone](Self::is_undone_by) needs facts of its own.)
    pub(crate) fn on_record(&mut self, record: Versioned<Record>, now: Instant) -> bool {
        if record.index <= self.record.index {
            return false;
        }
        if record.value.generation > self.generation() {
            let stale = std::mem::take(&mut self.stale);
            let mut given_up = std::mem::take(&mut self.given_up);
            let reason = self.record.value.reason.as_ref();
            given_up.extend(
                reason.filter(|reason| reason.code == ReasonCode::Abandoned).map(|_| self.generation()),
            );
            let remains = std::mem::take(&mut self.remains);
            // An ended run whose job may still be registered is one that was given up while its node was away.
            let undeleted = self.job == Job::Registered && self.deleted_at.is_none();
            let overtaken = (self.phase() != Phase::Ended || undeleted).then(|| self.generation());
            *self = Self { stale, given_up, remains, ..Self::new(self.id.clone(), record, now) };
            self.stale.extend(overtaken);
        } else {
            if self.phase() == Phase::Claimed
                && record.value.phase == Phase::Running
                && self.job == Job::Absent
            {
                // The pin proves that the job was registered after the look that did not find it.
                self.job = Job::Unseen;
            }
            self.record = record;
            self.read_at = now;
        }
        true
    }

    /// Takes over what was observed under a revision that the ledger has forgotten: runs are not forgotten with it.
    pub(crate) fn observed_before(&mut self, known: Self) {
        let earlier =
            |known: BTreeSet<Generation>| known.into_iter().filter(|it| *it < self.generation()).collect();
        (self.stale, self.given_up, self.remains) =
            (earlier(known.stale), earlier(known.given_up), earlier(known.remains));
        if !self.is_run_of(&known.record.value) {
            return;
        }
        self.owned |= known.owned;
        self.job = known.job;
        self.allocated = known.allocated;
        self.allocated_at = known.allocated_at;
        self.supplanted = known.supplanted;
        self.forgotten = known.forgotten;
        self.unreachable = known.unreachable;
        self.waiting_for = known.waiting_for;
        self.seen = known.seen;
        self.attempt = known.attempt;
        self.fenced_at = known.fenced_at;
    }

    /// Whether an effect of this kind may be started now.
    pub(crate) fn may(&self, kind: Kind, now: Instant) -> bool {
        !self.in_flight.contains(&kind) && self.retries.get(&kind).is_none_or(|retry| retry.not_before <= now)
    }

    /// When an effect of this kind that failed may be tried again.
    pub(crate) fn retry_at(&self, kind: Kind) -> Option<Instant> {
        self.retries.get(&kind).map(|retry| retry.not_before)
    }

    /// An effect was answered, well or badly. Failures back off exponentially.
    pub(crate) fn on_answer(&mut self, kind: Kind, failed: bool, now: Instant) {
        self.in_flight.remove(&kind);
        if failed {
            let failures = self.retries.get(&kind).map_or(1, |retry| retry.failures.saturating_add(1));
            let wait = Duration::from_millis(50).saturating_mul(1 << failures.min(8)).min(SLOWEST_RETRY);
            self.retries.insert(kind, Retry { failures, not_before: now + wait });
        } else {
            self.retries.remove(&kind);
        }
    }

    /// The state as people see it.
    pub(crate) fn state(&self) -> State {
        let started = matches!(&self.allocated, Some(Allocated { status: Status::Running, .. }));
        match self.phase() {
            Phase::Claimed if self.allocated.is_some() => State::Placed,
            Phase::Claimed => State::Queued,
            Phase::Running if self.attempt.is_some() => State::Fencing,
            Phase::Running if self.is_ready() => State::Ready,
            Phase::Running if started => State::Starting,
            Phase::Running => State::Placed,
            Phase::Stopping => State::Stopping,
            Phase::Ended => State::Ended,
        }
    }
}
