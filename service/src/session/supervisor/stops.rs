//! Stops of idle and of quiet sessions: the verdict, the attempt, and what it asks for.

use bivouac_ledger::Transaction;
use bivouac_ledger::records::{Records, Versioned};
use bivouac_protocol::link::{Fence, FenceEcho, FromService};
use bivouac_protocol::member::Members;
use bivouac_protocol::{FenceMode, FenceTag, Phase, Reason, ReasonCode, Record, SessionId, Span};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{ATTEMPT_PAUSE, Supervisor};
use crate::metrics::StopAttempt;
use crate::session::attempt::{Attempt, Input, Step};
use crate::session::decide::{FENCE_TIMEOUT, Kind};
use crate::session::facts::Facts;
use crate::session::idle::{Verdict, lease_ends, verdict};

impl Supervisor {
    /// What all members say of a session that is ready. `None` while nobody is known to be a member: a list that was
    /// never read is no list.
    pub(super) fn verdict(&self, facts: &Facts) -> Option<Verdict> {
        let members = self.members.as_ref()?;
        if facts.phase() != Phase::Running {
            return None;
        }
        // The age of this revision, on this replica's own clock, is the only age of the last join that is safe to
        // believe: the time that stands in the record is another machine's.
        let floor = self.removal_seen.map_or(facts.read_at, |seen| seen.max(facts.read_at));
        let words = members.value.boots.iter().map(|boot| (boot, self.evidence.word(boot, &facts.id)));
        let now = Instant::now();
        let leased = facts.leased_until.max(lease_ends(&facts.record.value.leases, now, Timestamp::now()));
        Some(verdict(words, floor, leased, now))
    }

    /// In which mode the session can be stopped, if it has been unused, or its connections silent, for long enough: and how
    /// long that is.
    fn stoppable(&self, facts: &Facts) -> Option<(FenceMode, Span)> {
        let policy = &facts.record.value.policy;
        let (mode, since, timeout) = match self.verdict(facts)? {
            Verdict::Idle { since } => (FenceMode::Idle, since, policy.idle_timeout),
            Verdict::Busy { silent_since } => (FenceMode::Quiet, silent_since?, policy.quiet_timeout?),
            Verdict::Leased { .. } | Verdict::Unknown { .. } => return None,
        };
        (since + timeout.get() <= Instant::now()).then_some((mode, timeout))
    }

    /// Members and record were read for a stop: if they still say so, the attempt begins.
    pub(super) fn on_prepared(
        &mut self,
        id: &SessionId,
        members: Option<Versioned<Members>>,
        record: Versioned<Record>,
    ) {
        let Some(members) = members else { return };
        self.on_members(members.clone());
        if self.members.as_ref().is_none_or(|known| known.index != members.index) {
            // One of the two lists is older than the other, and it is being read which: no list to commit with.
            if let Some(session) = self.sessions.get_mut(id) {
                session.facts.attempt_after = Instant::now() + ATTEMPT_PAUSE;
            }
            self.take_in(id, record, false);
            return self.settle(id);
        }
        if self.take_in(id, record, false) {
            return self.settle(id); // somebody joined, or ended it: its idle time is counted anew
        }
        let Some(leadership) = self.leadership.clone() else { return };
        let Some(session) = self.sessions.get(id) else { return };
        let stoppable = self.stoppable(&session.facts).filter(|_| session.facts.attempt.is_none());
        let Some((mode, timeout)) = stoppable else { return self.settle(id) };
        let reason = match mode {
            FenceMode::Idle => Reason::new(ReasonCode::Idle, format!("nobody used it for {timeout}")),
            FenceMode::Quiet => Reason::new(
                ReasonCode::Quiet,
                format!("nothing was said on its open connections for {timeout}"),
            ),
        };
        let ops = Records::commit(
            id,
            &session.facts.record,
            members.index,
            &leadership.session,
            &reason,
            Timestamp::now(),
        );
        let Ok(Some(ops)) = ops else { return };
        self.attempts += 1;
        let tag = FenceTag { term: leadership.term, attempt: self.attempts };
        let generation = session.facts.generation();
        let (attempt, step) = Attempt::begin(tag, generation, members.value.boots.clone());
        if let Some(session) = self.sessions.get_mut(id) {
            session.commit = Some(ops);
            session.facts.attempt = Some(attempt);
            session.facts.fenced_at = Some(Instant::now());
        }
        let min_idle_ms = u64::try_from(timeout.get().as_millis()).unwrap_or(u64::MAX);
        let fence = FromService::Fence(Fence { session: id.clone(), generation, tag, min_idle_ms, mode });
        for boot in &members.value.boots {
            self.tell_boot(boot, &fence);
        }
        self.take_step(id, step);
        self.settle(id);
    }

    /// The fence's deadline has come, or something else may follow from the time.
    pub(super) fn on_timer(&mut self, id: &SessionId) {
        let now = Instant::now();
        let late = |facts: &Facts| facts.fenced_at.is_some_and(|at| at + FENCE_TIMEOUT <= now);
        if let Some(session) = self.sessions.get_mut(id).filter(|session| late(&session.facts)) {
            session.facts.fenced_at = None;
            self.on_attempt(id, Input::Late);
        }
        self.settle(id);
    }

    /// Every attempt that still waits for fences is lost: a member's evidence, or the leadership, is gone.
    pub(super) fn lose_attempts(&mut self) {
        let attempting = self.sessions.values().filter(|session| session.facts.attempt.is_some());
        let ids: Vec<_> = attempting.map(|session| session.facts.id.clone()).collect();
        for id in ids {
            self.on_attempt(&id, Input::Lost);
        }
    }

    pub(super) fn on_attempt(&mut self, id: &SessionId, input: Input<'_>) {
        let attempt = self.sessions.get_mut(id).and_then(|session| session.facts.attempt.as_mut());
        if let Some(step) = attempt.map(|attempt| attempt.on(input)) {
            if let Some(outcome) = outcome(input, step) {
                self.outside.metrics.attempted(outcome);
            }
            self.take_step(id, step);
        }
    }

    fn take_step(&mut self, id: &SessionId, step: Step) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        match step {
            Step::Wait => {}
            Step::Commit => {
                session.facts.fenced_at = None;
                let wait = session.facts.retry_at(Kind::Commit);
                if let Some(ops) = session.commit.clone() {
                    self.commit(id, ops, wait);
                }
            }
            Step::Read => self.read_back(id),
            Step::GiveUp => {
                let given_up = session.facts.attempt.take();
                session.facts.fenced_at = None;
                session.commit = None;
                session.facts.attempt_after = Instant::now() + ATTEMPT_PAUSE;
                if let Some(attempt) = given_up {
                    let (generation, tag) = (attempt.generation(), attempt.tag());
                    self.tell_all(&FromService::Unfence(FenceEcho { session: id.clone(), generation, tag }));
                }
                self.settle(id);
            }
            Step::Done => {
                session.facts.attempt = None;
                session.facts.fenced_at = None;
                session.commit = None;
                // Until the record is read, the facts still say `running`.
                session.facts.attempt_after = Instant::now() + ATTEMPT_PAUSE;
                self.read_record(id);
            }
        }
    }

    /// The commit was answered, or not.
    pub(super) fn on_committed(
        &mut self,
        id: &SessionId,
        answer: Result<Transaction, bivouac_ledger::Error>,
    ) {
        let now = Instant::now();
        if let Some(session) = self.sessions.get_mut(id) {
            session.facts.on_answer(Kind::Commit, answer.is_err(), now);
        }
        let input = match answer {
            Ok(Transaction::Applied(_)) => Input::Applied,
            Ok(Transaction::Refused(_)) => Input::Refused,
            Err(error) => {
                tracing::warn!(session.id = %id, %error, "A stop's commit was not answered; it is sent again.");
                Input::Unanswered
            }
        };
        self.on_attempt(id, input);
    }

    /// The record, read after a refusal.
    pub(super) fn on_read_back(
        &mut self,
        id: &SessionId,
        answer: Result<Option<Versioned<Record>>, bivouac_ledger::Error>,
    ) {
        match answer {
            Ok(record) => {
                let read = record.as_ref().map(|record| (record.value.generation, record.value.phase));
                if let Some(record) = record {
                    self.take_in(id, record, false);
                }
                self.on_attempt(id, Input::Record(read));
            }
            Err(_) => self.on_attempt(id, Input::Unanswered),
        }
        self.settle(id);
    }
}

/// How the attempt ended, if this step ends it.
fn outcome(input: Input<'_>, step: Step) -> Option<StopAttempt> {
    match (step, input) {
        (Step::Wait | Step::Commit | Step::Read, _) => None,
        (_, Input::Busy(_)) => Some(StopAttempt::Busy),
        (_, Input::Knock(_)) => Some(StopAttempt::Knock),
        (_, Input::Late) => Some(StopAttempt::Late),
        (_, Input::Lost) => Some(StopAttempt::Lost),
        // Also where the commit was refused and the record is stopping: an earlier copy of it had won.
        (Step::Done, _) => Some(StopAttempt::Committed),
        (Step::GiveUp, _) => Some(StopAttempt::Refused),
    }
}
