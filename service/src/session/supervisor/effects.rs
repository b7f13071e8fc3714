//! Carries out what was decided, in tasks of its own, and answers the supervisor. Nothing else starts, stops or purges a
//! run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::records::{self, Records, Versioned};
use bivouac_ledger::{Error, Op, Transaction};
use bivouac_protocol::member::Members;
use bivouac_protocol::{Generation, Nonce, Phase, Reason, ReasonCode, Record, SessionId, Timeline};
use jiff::Timestamp;
use tokio::time::{Instant, sleep, sleep_until};

use super::{News, Supervisor};
use crate::backend::logs;
use crate::backend::{Grace, Observation, Presence, Run, Start, StartError, Unavailable};
use crate::session::abandoning::{AbandonError, Abandoner, Abandonment};
use crate::session::decide::{Effect, Kind};
use crate::session::probe::{self, Answered};
use crate::session::{Outside, waking};

/// A record as a write or a read left it.
type Written = Result<Option<Versioned<Record>>, Error>;

/// Members and record, as they were read for an idle stop.
type Prepared = (Option<Versioned<Members>>, Option<Versioned<Record>>);

/// What came of an effect.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The record after an attempted change, or as it stands.
    Recorded(Kind, Written),
    /// The record after a takeover: if it was written, this process owns the claim.
    TakenOver(Written),
    /// The job was registered, and the record read afterwards.
    Registered(Generation, Result<Option<Versioned<Record>>, StartError>),
    /// The run, looked at by id, and the phase in which the look was begun.
    Inspected(Generation, Phase, Result<Presence, Unavailable>),
    /// The backend answers.
    Probed(Answered),
    /// The job's deletion was accepted.
    Deleted(Generation, Result<(), Unavailable>),
    /// Whether the run was given up, or is heard of after all.
    Abandoned(Generation, Result<Abandonment, AbandonError>),
    /// Members and record, read for an idle stop.
    Prepared(Result<Prepared, Error>),
    /// Whether the job is removed.
    JobRemoved(Generation, Result<(), Unavailable>),
    /// Whether the record is removed.
    Purged(Result<bool, String>),
}

/// A session as it was when the effect was started.
struct Doing {
    outside: Arc<Outside>,
    id: SessionId,
    record: Versioned<Record>,
    seen: Timeline,
}

impl Supervisor {
    /// Starts an effect.
    pub(super) fn start(&mut self, id: &SessionId, effect: Effect) {
        let target = self.probe_target(id);
        let Some(session) = self.sessions.get_mut(id) else { return };
        let facts = &mut session.facts;
        facts.in_flight.insert(effect.kind());
        let doing = Doing {
            outside: Arc::clone(&self.outside),
            id: id.clone(),
            record: facts.record.clone(),
            seen: facts.seen.clone(),
        };
        tracing::debug!(session.id = %id, ?effect, "An effect is started.");
        let is_probe = effect == Effect::Probe;
        let task = self.outside.tracker.spawn(async move {
            let (outside, id) = (Arc::clone(&doing.outside), doing.id.clone());
            let generation = doing.record.value.generation;
            if let Some(answer) = doing.carry_out(effect, target).await {
                outside.tell(News::Answer(id, generation, answer));
            }
        });
        if is_probe {
            session.probe = Some(task.abort_handle());
        }
    }

    /// Sends an idle stop's transaction, not before `wait`.
    pub(super) fn commit(&self, id: &SessionId, ops: Vec<Op>, wait: Option<Instant>) {
        let (outside, id) = (Arc::clone(&self.outside), id.clone());
        self.outside.tracker.spawn(async move {
            outside.failpoints.pass("fenced").await;
            if let Some(wait) = wait {
                sleep_until(wait).await;
            }
            let answer = outside.records.send(ops).await;
            if matches!(answer, Ok(Transaction::Applied(_))) {
                outside.failpoints.pass("committed").await;
            }
            outside.tell(News::Committed(id, answer));
        });
    }

    /// Reads the record after a refused commit.
    pub(super) fn read_back(&self, id: &SessionId) {
        let (outside, id) = (Arc::clone(&self.outside), id.clone());
        self.outside.tracker.spawn(async move {
            let read = outside.records.read(&id).await;
            if read.is_err() {
                sleep(Duration::from_millis(200)).await;
            }
            outside.tell(News::ReadBack(id, read));
        });
    }

    /// Reads a record until the ledger answers.
    pub(super) fn read_record(&mut self, id: &SessionId) {
        if !self.reading.insert(id.clone()) {
            return; // the read that is under way will do: what it is wanted for can only be newer than what is known
        }
        let (outside, id) = (Arc::clone(&self.outside), id.clone());
        self.outside.tracker.spawn(async move {
            let record = insist(&id, || outside.records.read(&id), Error::is_final).await.flatten();
            outside.tell(News::Read(id, record));
        });
    }

    /// Stops a run of which no record will tell.
    pub(super) fn stop_run(&self, run: Run, grace: Grace) {
        let outside = Arc::clone(&self.outside);
        self.outside.tracker.spawn(async move {
            insist(&run.session, || outside.backend.stop(&run, grace), |_| false).await;
        });
    }

    /// Reads the record of a run that this replica does not know: another replica claimed it, or its record was lost
    /// and is written again from what the run tells. The news of the run is told again afterwards.
    pub(super) fn read_run(&self, news: Observation) {
        let Some(run) = news.run().cloned() else { return };
        let outside = Arc::clone(&self.outside);
        self.outside.tracker.spawn(async move {
            if let Some(record) = outside.record_of_run(&run).await {
                outside.tell(News::LearnedOfRun(record, news));
            }
        });
    }
}

/// Asks until there is an answer; `None` when there will never be one.
pub(super) async fn insist<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
    id: &SessionId,
    ask: impl Fn() -> F,
    is_final: impl Fn(&E) -> bool,
) -> Option<T> {
    loop {
        match ask().await {
            Ok(answer) => return Some(answer),
            Err(error) if is_final(&error) => {
                tracing::error!(session.id = %id, %error, "A session cannot be read.");
                return None;
            }
            Err(error) => tracing::debug!(session.id = %id, %error, "A session is asked about again."),
        }
        sleep(Duration::from_secs(1)).await;
    }
}

impl Doing {
    fn run(&self, generation: Generation) -> Run {
        Run { session: self.id.clone(), generation }
    }

    async fn carry_out(self, effect: Effect, target: Option<(SocketAddr, Option<String>)>) -> Option<Answer> {
        let kind = effect.kind();
        let generation = self.record.value.generation;
        let now = Timestamp::now();
        let records = &self.outside.records;
        Some(match effect {
            Effect::Register => Answer::Registered(generation, self.register().await),
            Effect::Inspect => {
                let looked = self.outside.backend.inspect(&self.run(generation)).await;
                Answer::Inspected(generation, self.record.value.phase, looked)
            }
            Effect::TakeOver => Answer::TakenOver(self.take_over().await),
            Effect::Pin(allocation) => {
                let nonce: Nonce = self.record.value.nonce.clone();
                let pin =
                    |record: &Record| records::pinned(record, (generation, &nonce), &allocation, &self.seen);
                let written = self.update(pin).await;
                self.outside.failpoints.pass("pinned").await;
                Answer::Recorded(kind, written)
            }
            Effect::Probe => {
                let (address, path) = target?;
                Answer::Probed(probe::until_ready(&self.outside.http, address, path.as_deref()).await)
            }
            Effect::MarkReady => {
                let ready = |record: &Record| records::ready(record, generation, &self.seen);
                Answer::Recorded(kind, self.update_and(ready, Self::note_ready).await)
            }
            Effect::BeginStop(reason) => {
                // The reason has to hold for the record that is written, which may be newer than the one it was
                // found on: meanwhile another replica may have seen the session become ready.
                let decided_in = self.record.value.phase;
                let outdated = |record: &Record| {
                    let start = reason.code.is_failed_start();
                    start && (record.phase != decided_in || record.timeline.ready.is_some())
                };
                let stop = |record: &Record| match record.generation == generation && !outdated(record) {
                    true => records::stopping(record, &reason, now),
                    false => records::Transition::Declined,
                };
                Answer::Recorded(kind, self.update(stop).await)
            }
            Effect::Delete(stale, grace) => {
                let deleted = self.outside.backend.stop(&self.run(stale), grace).await;
                self.outside.failpoints.pass("deleted").await;
                Answer::Deleted(stale, deleted)
            }
            Effect::End(reason) => {
                let reason = self.with_last_words(reason).await;
                let end = |record: &Record| records::ended(record, generation, &reason, &self.seen, now);
                Answer::Recorded(kind, self.update_and(end, Self::note_end).await)
            }
            Effect::Abandon => {
                let after = self.record.value.policy.overlap_after?;
                let who = Abandoner::Template(after);
                let given_up = self.outside.abandon(&self.id, &self.record, &self.seen, who).await;
                Answer::Abandoned(generation, given_up)
            }
            Effect::Prepare => Answer::Prepared(self.prepare().await),
            Effect::RemoveJob(ended) => {
                Answer::JobRemoved(ended, self.outside.backend.purge(&self.run(ended)).await)
            }
            Effect::Purge => Answer::Purged(self.purge(records).await),
        })
    }

    /// The reason with what the run printed last, where it did not end well and may say why.
    async fn with_last_words(&self, reason: Reason) -> Reason {
        let record = &self.record.value;
        let code = record.reason.as_ref().map_or(reason.code, |decided| decided.code);
        if !matches!(code, ReasonCode::StartFailed | ReasonCode::StartupTimeout | ReasonCode::Exited) {
            return reason;
        }
        let run = self.run(record.generation);
        let allocation = record.allocation.as_ref();
        let log_tail = logs::last_words(self.outside.backend.as_ref(), &run, allocation).await;
        Reason { log_tail, ..reason }
    }

    async fn update(&self, change: impl Fn(&Record) -> records::Transition + Send) -> Written {
        self.update_and(change, |_, _| {}).await
    }

    /// The same, noted if it was this call that wrote it.
    async fn update_and(
        &self,
        change: impl Fn(&Record) -> records::Transition + Send,
        note: fn(&Self, &Record),
    ) -> Written {
        let known = Some(self.record.clone());
        let update = self.outside.records.update(&self.id, known, change).await?;
        if let records::Update::Written(record) = &update {
            note(self, &record.value);
        }
        Ok(update.current())
    }

    fn note_ready(&self, record: &Record) {
        self.outside.metrics.started(record);
        let Timeline { claimed, ready, .. } = record.timeline;
        let took = claimed.zip(ready).map(|(claimed, ready)| ready.duration_since(claimed).as_millis());
        let generation = record.generation;
        tracing::info!(session.id = %self.id, %generation, template = %record.template, took_ms = took, "A session is ready.");
    }

    fn note_end(&self, record: &Record) {
        self.outside.metrics.ended(record);
        let reason = record.reason.as_ref().map(|reason| reason.code.as_str());
        let generation = record.generation;
        tracing::info!(session.id = %self.id, %generation, template = %record.template, reason, "A session has ended.");
    }

    /// Registers the job, then reads the record again: a replica that was paused between its claim and here may have
    /// been superseded, and must take its own job back.
    async fn register(&self) -> Result<Option<Versioned<Record>>, StartError> {
        let record = &self.record.value;
        self.outside.failpoints.pass("claimed").await;
        let template = self.outside.templates.as_of(&record.template, &record.hash);
        let template = template.ok_or_else(|| {
            StartError::Refused(format!("there is no template {} any more", record.template))
        })?;
        // A wake starts a stored request, and today's template may permit less than the one it was checked against.
        crate::spec::limits::check(&record.request, &template)
            .map_err(|why| StartError::Refused(why.to_string()))?;
        let start = Start {
            session: self.id.clone(),
            record: Arc::new(record.clone()),
            template,
            url: self.outside.session_url(&self.id),
        };
        match self.outside.backend.start(start).await {
            Err(StartError::Foreign) => return self.give_way().await,
            started => started?,
        }
        self.outside.failpoints.pass("registered").await;
        let read = self.outside.records.read(&self.id).await;
        let now = read.map_err(|error| StartError::Unavailable(error.to_string()))?;
        let ours = |now: &Versioned<Record>| {
            now.value.is_live()
                && (now.value.generation, &now.value.nonce) == (record.generation, &record.nonce)
        };
        if !now.as_ref().is_some_and(ours) {
            tracing::info!(session.id = %self.id, generation = %record.generation, "A superseded job is taken back.");
            let stopped = self.outside.backend.stop(&self.run(record.generation), Grace::Template).await;
            stopped.map_err(|why| StartError::Unavailable(why.to_string()))?;
        }
        Ok(now)
    }

    /// A run of ours with this number is there already: a ledger that was restored from an older snapshot has forgotten
    /// it, and let its number be claimed again. If it lives it is the session, and this claim gives way.
    async fn give_way(&self) -> Result<Option<Versioned<Record>>, StartError> {
        let unavailable = |why: String| StartError::Unavailable(why);
        let run = self.run(self.record.value.generation);
        let recalled = self.outside.backend.recall(&run).await.map_err(|why| unavailable(why.0))?;
        let recalled = recalled.ok_or(StartError::Foreign)?;
        let nonce = recalled.nonce.clone();
        let recreated = self.outside.records.recreate(&self.id, Some(&self.record), recalled).await;
        let record = recreated.map_err(|error| unavailable(error.to_string()))?;
        if record.as_ref().is_some_and(|record| record.value.nonce != nonce) {
            return Err(unavailable("the record was changed meanwhile".to_owned()));
        }
        tracing::warn!(session.id = %self.id, generation = %run.generation, "A claim gives way to a live run of the same number.");
        Ok(record)
    }

    async fn take_over(&self) -> Written {
        tracing::info!(session.id = %self.id, "A claim that nobody carried out is taken over.");
        let claim = waking::claim_again(&self.outside, &self.record.value);
        match self.outside.records.claim(&self.id, Some(&self.record), &claim).await? {
            Some(record) => Ok(Some(record)),
            None => self.outside.records.read(&self.id).await,
        }
    }

    async fn prepare(&self) -> Result<Prepared, Error> {
        let members = self.outside.members.read().await?;
        let record = self.outside.records.read(&self.id).await?;
        Ok((members, record))
    }

    /// The job first, so that nothing can recreate the record from it.
    async fn purge(&self, records: &Records) -> Result<bool, String> {
        let run = self.run(self.record.value.generation);
        self.outside.backend.purge(&run).await.map_err(|why| why.to_string())?;
        records.purge(&self.id, &self.record).await.map_err(|why| why.to_string())
    }
}
