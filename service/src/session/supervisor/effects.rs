//! Carries out what was decided, in tasks of its own, and answers the supervisor. Nothing else starts, stops or purges a
//! run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::records::{self, Records, Versioned};
use bivouac_ledger::{Error, Op, Transaction};
use bivouac_protocol::member::Members;
use bivouac_protocol::{Generation, Nonce, Record, SessionId, Timeline};
use jiff::Timestamp;
use tokio::time::{Instant, sleep, sleep_until};

use super::{News, Supervisor};
use crate::backend::{Observation, Presence, Run, Start, StartError, Unavailable};
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
    /// The run, looked at by id.
    Inspected(Generation, Result<Presence, Unavailable>),
    /// The backend answers.
    Probed(Answered),
    /// The job's deletion was accepted.
    Deleted(Generation, Result<(), Unavailable>),
    /// Members and record, read for an idle stop.
    Prepared(Result<Prepared, Error>),
    /// Whether the job is removed.
    JobRemoved(Result<(), Unavailable>),
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

    /// Reads the record of a run that this replica does not know: another replica claimed it, or its record was lost
    /// and is written again from what the run tells. The news of the run is told again afterwards.
    pub(super) fn read_run(&self, news: Observation) {
        let Some(run) = news.run().cloned() else { return };
        let outside = Arc::clone(&self.outside);
        self.outside.tracker.spawn(async move {
            let id = &run.session;
            let mut record = insist(id, || outside.records.read(id), Error::is_final).await.flatten();
            if record.is_none()
                && let Some(Some(recalled)) = insist(id, || outside.backend.recall(&run), |_| false).await
            {
                tracing::warn!(session.id = %id, "A session's record was lost and is written again from its job.");
                let recreate = || outside.records.recreate(id, recalled.clone());
                record = insist(id, recreate, Error::is_final).await.flatten();
            }
            if let Some(record) = record {
                outside.tell(News::LearnedOfRun(record, news));
            }
        });
    }
}

/// Asks until there is an answer; `None` when there will never be one.
async fn insist<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
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
                Answer::Inspected(generation, self.outside.backend.inspect(&self.run(generation)).await)
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
            Effect::MarkReady => Answer::Recorded(
                kind,
                self.update(|record| records::ready(record, generation, &self.seen)).await,
            ),
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
                let end = |record: &Record| records::ended(record, generation, &reason, &self.seen, now);
                Answer::Recorded(kind, self.update(end).await)
            }
            Effect::Prepare => Answer::Prepared(self.prepare().await),
            Effect::RemoveJob => Answer::JobRemoved(self.outside.backend.purge(&self.run(generation)).await),
            Effect::Purge => Answer::Purged(self.purge(records).await),
        })
    }

    async fn update(&self, change: impl Fn(&Record) -> records::Transition + Send) -> Written {
        let known = Some(self.record.clone());
        self.outside.records.update(&self.id, known, change).await.map(records::Update::current)
    }

    /// Registers the job, then reads the record again: a replica that was paused between its claim and here may have
    /// been superseded, and must take its own job back.
    async fn register(&self) -> Result<Option<Versioned<Record>>, StartError> {
        let record = &self.record.value;
        self.outside.failpoints.pass("claimed").await;
        let template = self.outside.templates.get(&record.template).cloned();
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
        self.outside.backend.start(start).await?;
        self.outside.failpoints.pass("registered").await;
        let read = self.outside.records.read(&self.id).await;
        let now = read.map_err(|error| StartError::Unavailable(error.to_string()))?;
        let ours = |now: &Versioned<Record>| {
            now.value.is_live()
                && (now.value.generation, &now.value.nonce) == (record.generation, &record.nonce)
        };
        if !now.as_ref().is_some_and(ours) {
            tracing::info!(session.id = %self.id, generation = %record.generation, "A superseded job is taken back.");
            let stopped = self
                .outside
                .backend
                .stop(&self.run(record.generation), crate::backend::Grace::Template)
                .await;
            stopped.map_err(|why| StartError::Unavailable(why.to_string()))?;
        }
        Ok(now)
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
