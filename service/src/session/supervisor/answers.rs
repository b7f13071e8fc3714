//! What effects found out.

use bivouac_ledger::records::Versioned;
use bivouac_protocol::{Generation, Phase, PortLabel, Record, SessionId};
use jiff::Timestamp;
use tokio::time::Instant;

use super::effects::Answer;
use super::{Session, Supervisor};
use crate::backend::{Observation, Presence, Run, StartError, Unavailable};
use crate::session::abandoning::{AbandonError, Abandonment};
use crate::session::decide::Kind;
use crate::session::facts::Job;
use crate::session::probe::Answered;

impl Supervisor {
    pub(super) fn on_answer(&mut self, id: &SessionId, generation: Generation, answer: Answer) {
        let current = self.sessions.get(id).is_some_and(|session| session.facts.generation() == generation);
        if current {
            self.on_current_answer(id, answer);
        } else if let Answer::Recorded(_, Ok(Some(record))) = answer {
            self.take_in(id, record, false);
        } else if let Answer::TakenOver(Some(claimed)) = answer
            && let (Some(record), owned) = claimed.into_record()
        {
            // The new generation may have been seen in a list before this answer.
            self.take_in(id, record, owned);
        }
        self.settle(id);
    }

    fn on_current_answer(&mut self, id: &SessionId, answer: Answer) {
        match answer {
            Answer::Recorded(kind, result) => self.on_recorded(id, kind, result, false),
            Answer::TakenOver(Some(claimed)) => {
                let (record, owned) = claimed.into_record();
                self.on_recorded(id, Kind::TakeOver, Ok(record), owned);
            }
            Answer::TakenOver(None) => self.done(id, Kind::TakeOver, true),
            Answer::Registered(generation, result) => self.on_registered(id, generation, result),
            Answer::Inspected(generation, begun, result) => self.on_inspected(id, generation, begun, result),
            Answer::Probed { label, answered, last } => self.on_probed(id, label, answered, last),
            Answer::Deleted(generation, result) => self.on_deleted(id, generation, &result),
            Answer::Abandoned(generation, result) => self.on_abandoned(id, generation, result),
            Answer::Prepared(result) => {
                self.done(id, Kind::Prepare, !matches!(result, Ok((Some(_), Some(_)))));
                match result {
                    Ok((members, Some(record))) => self.on_prepared(id, members, record),
                    Ok((_, None)) => self.on_gone(id),
                    Err(error) => {
                        tracing::debug!(session.id = %id, %error, "An idle stop is prepared again.")
                    }
                }
            }
            Answer::JobRemoved(ended, result) => {
                self.done(id, Kind::RemoveJob, result.is_err());
                if let Some(session) = self.sessions.get_mut(id).filter(|_| result.is_ok())
                    && !session.facts.remains.remove(&ended)
                    && session.facts.generation() == ended
                {
                    session.facts.job = Job::Absent;
                }
            }
            Answer::Purged(Ok(true)) => self.forget(id),
            Answer::Purged(result) => {
                // Refused: the record is not the one that is known here.
                self.done(id, Kind::Purge, true);
                if result.is_ok() {
                    self.read_record(id);
                }
            }
        }
    }

    /// A consistent read by id found no record. A session that ended was purged; one that lives lost its record, and
    /// is found again by its run.
    pub(super) fn on_gone(&mut self, id: &SessionId) {
        let Some(facts) = self.sessions.get(id).map(|session| &session.facts) else { return };
        let run = Run { session: id.clone(), generation: facts.generation() };
        let registered = facts.job == Job::Registered;
        let lives = facts.record.value.is_live() && registered;
        let stopping = facts.phase() == Phase::Stopping && registered;
        tracing::info!(session.id = %id, "A session's record is gone.");
        if stopping {
            // Its stop was decided, and nothing but this replica remembers that: the run would be taken for a lost one.
            self.stop_run(run.clone(), facts.grace);
        }
        if lives {
            // Proxies do not say again what has not changed, and their evidence is of the run, not of its record.
            self.outside.registry.remove(id);
            self.let_go(id);
            self.read_run(Observation::Job { run, nonce: None, stopped: false });
        } else {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: &SessionId) {
        self.outside.registry.remove(id);
        self.evidence.forget(id);
        self.let_go(id);
    }

    /// Takes a session out of the supervisor's hands, with all that runs for it.
    pub(super) fn let_go(&mut self, id: &SessionId) -> Option<Session> {
        let mut session = self.sessions.remove(id)?;
        if let Some(timer) = session.timer.take() {
            self.timers.remove(&timer);
        }
        if let Some(probe) = session.probe.take() {
            probe.abort();
        }
        Some(session)
    }

    /// A port answers. The others are probed on, all in one effect, which is over with the last of them.
    fn on_probed(&mut self, id: &SessionId, label: PortLabel, answered: Answered, last: bool) {
        let Some(Session { facts, probe, .. }) = self.sessions.get_mut(id) else { return };
        if label == facts.record.value.policy.port {
            facts.seen.port_open = Some(answered.port_open);
            facts.seen.ready = Some(answered.ready);
        }
        facts.open.insert(label);
        if last {
            *probe = None;
            self.done(id, Kind::Probe, false);
        }
    }

    pub(super) fn done(&mut self, id: &SessionId, kind: Kind, failed: bool) {
        if failed {
            self.outside.metrics.step_failed(kind);
        }
        if let Some(session) = self.sessions.get_mut(id) {
            session.facts.on_answer(kind, failed, Instant::now());
        }
    }

    fn on_recorded(
        &mut self,
        id: &SessionId,
        kind: Kind,
        result: Result<Option<Versioned<Record>>, bivouac_ledger::Error>,
        owned: bool,
    ) {
        if let Err(error) = &result {
            tracing::warn!(session.id = %id, effect = ?kind, %error, "A change of a session's record is tried again.");
        }
        self.done(id, kind, result.is_err());
        match result {
            Ok(Some(record)) => {
                self.take_in(id, record, owned);
            }
            Ok(None) => self.on_gone(id),
            Err(_) => {}
        }
    }

    fn on_registered(
        &mut self,
        id: &SessionId,
        generation: Generation,
        result: Result<Option<Versioned<Record>>, StartError>,
    ) {
        self.done(id, Kind::Register, matches!(result, Err(StartError::Unavailable(_))));
        let Some(session) = self.sessions.get_mut(id).filter(|s| s.facts.generation() == generation) else {
            return;
        };
        match result {
            Ok(record) => {
                if session.facts.job != Job::Stopped {
                    session.facts.job = Job::Registered;
                }
                session.facts.seen.registered = Some(Timestamp::now());
                session.facts.obstacle = None;
                if let Some(record) = record {
                    self.take_in(id, record, false);
                }
            }
            Err(StartError::Unavailable(why)) => {
                tracing::warn!(session.id = %id, %why, "The registration of a session's job is tried again.");
                session.facts.obstacle = Some(why);
            }
            Err(error) => {
                tracing::warn!(session.id = %id, %error, "The cluster refuses a session's job.");
                session.facts.refused = Some(error.to_string());
            }
        }
    }

    fn on_inspected(
        &mut self,
        id: &SessionId,
        generation: Generation,
        begun: Phase,
        result: Result<Presence, Unavailable>,
    ) {
        self.done(id, Kind::Inspect, result.is_err());
        let Ok(presence) = result else { return };
        let (now, wall) = (Instant::now(), Timestamp::now());
        let Some(session) = self.sessions.get_mut(id).filter(|s| s.facts.generation() == generation) else {
            return;
        };
        let facts = &mut session.facts;
        match presence {
            Presence::Absent => _ = facts.on_absent(begun),
            Presence::Present { nonce, stopped, allocations, forgotten } => {
                let foreign = nonce.is_some_and(|nonce| nonce != facts.record.value.nonce);
                facts.on_job(generation, foreign, stopped);
                facts.forgotten = forgotten && !foreign;
                if foreign {
                    facts.refused =
                        Some("a job with this session's id exists and is not this session's".to_owned());
                }
                for allocated in allocations {
                    facts.on_allocation(allocated, now, wall);
                }
            }
        }
        facts.inspected_at = Some(now);
    }

    /// A run that is heard of after all is not given up: the look that said so is news like any other.
    fn on_abandoned(
        &mut self,
        id: &SessionId,
        generation: Generation,
        result: Result<Abandonment, AbandonError>,
    ) {
        match result {
            Ok(Abandonment::Recorded(record)) => {
                self.on_recorded(id, Kind::Abandon, Ok(record.map(|record| *record)), false)
            }
            Ok(Abandonment::Reachable(presence)) => {
                self.done(id, Kind::Abandon, false);
                // What is reachable is not absent: the phase in which it was looked at does not matter.
                let Some(phase) = self.sessions.get(id).map(|session| session.facts.phase()) else { return };
                self.on_inspected(id, generation, phase, Ok(presence));
            }
            Err(why) => {
                tracing::warn!(session.id = %id, %why, "An unreachable session is not given up yet.");
                self.done(id, Kind::Abandon, true);
            }
        }
    }

    fn on_deleted(&mut self, id: &SessionId, generation: Generation, result: &Result<(), Unavailable>) {
        self.done(id, Kind::Delete, result.is_err());
        let Some(session) = self.sessions.get_mut(id) else { return };
        if let Err(why) = result {
            tracing::warn!(session.id = %id, %why, "The deletion of a session's job is tried again.");
            return;
        }
        session.facts.stale.remove(&generation);
        if generation == session.facts.generation() {
            session.facts.deleted_at = Some(Instant::now());
        }
    }
}
