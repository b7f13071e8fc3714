//! Carries out what was decided, in tasks of its own, and answers the supervisor. Nothing else starts, stops or purges a
//! run.

mod recording;
mod registering;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::records::Versioned;
use bivouac_ledger::{Error, Op, Transaction};
use bivouac_protocol::member::Members;
use bivouac_protocol::{Generation, Phase, PortLabel, Record, SessionId, Timeline};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, sleep_until};

use super::{News, Supervisor};
use crate::backend::{Grace, Observation, Presence, Run, StartError, Unavailable};
use crate::session::Outside;
use crate::session::abandoning::{AbandonError, Abandoner, Abandonment};
use crate::session::claiming::{Claimed, claim_again};
use crate::session::decide::{Effect, Kind};
use crate::session::probe::{Answered, Place};

/// A record as a write or a read left it.
type Written = Result<Option<Versioned<Record>>, Error>;

/// Members and record, as they were read for an idle stop.
type Prepared = (Option<Versioned<Members>>, Option<Versioned<Record>>);

/// What came of an effect.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The record after an attempted change, or as it stands.
    Recorded(Kind, Written),
    /// Who has taken over; `None`: the record can never be read.
    TakenOver(Option<Claimed>),
    /// The job was registered, and the record read afterwards.
    Registered(Generation, Result<Option<Versioned<Record>>, StartError>),
    /// The run, looked at by id, and the phase in which the look was begun.
    Inspected(Generation, Phase, Result<Presence, Unavailable>),
    /// The backend answers on a port.
    Probed {
        label: PortLabel,
        answered: Answered,
        /// No other port is being probed any more.
        last: bool,
    },
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
        let is_probe = effect == Effect::Probe;
        let Some(session) = self.sessions.get_mut(id) else { return };
        let facts = &mut session.facts;
        facts.in_flight.insert(effect.kind());
        let places = if is_probe { facts.silent_ports() } else { BTreeMap::new() };
        let doing = Doing {
            outside: Arc::clone(&self.outside),
            id: id.clone(),
            record: facts.record.clone(),
            seen: facts.seen.clone(),
        };
        tracing::debug!(session.id = %id, ?effect, "An effect is started.");
        let task = self.outside.tracker.spawn(async move {
            let (outside, id) = (Arc::clone(&doing.outside), doing.id.clone());
            let generation = doing.record.value.generation;
            if let Some(answer) = doing.carry_out(effect, places).await {
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
            let record = outside.insist_on_reading(&id).await;
            outside.tell(News::Read(id, record));
        });
    }

    /// Stops a run of which no record will tell.
    pub(super) fn stop_run(&self, run: Run, grace: Grace) {
        let outside = Arc::clone(&self.outside);
        self.outside.tracker.spawn(async move {
            outside.insist_on_run(&run.session, |backend| backend.stop(&run, grace)).await;
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

impl Doing {
    fn run(&self, generation: Generation) -> Run {
        Run { session: self.id.clone(), generation }
    }

    async fn carry_out(self, effect: Effect, places: BTreeMap<PortLabel, Place>) -> Option<Answer> {
        let kind = effect.kind();
        let generation = self.record.value.generation;
        Some(match effect {
            Effect::Register => Answer::Registered(generation, self.register().await),
            Effect::Inspect => {
                let looked = self.outside.backend.inspect(&self.run(generation)).await;
                Answer::Inspected(generation, self.record.value.phase, looked)
            }
            Effect::TakeOver => Answer::TakenOver(self.take_over().await),
            Effect::Pin(allocation) => Answer::Recorded(kind, self.pin(&allocation).await),
            Effect::Probe => self.probe(places).await?,
            Effect::MarkReady => Answer::Recorded(kind, self.mark_ready().await),
            Effect::BeginStop(reason) => Answer::Recorded(kind, self.begin_stop(&reason).await),
            Effect::Delete(stale, grace) => {
                let deleted = self.outside.backend.stop(&self.run(stale), grace).await;
                self.outside.failpoints.pass("deleted").await;
                Answer::Deleted(stale, deleted)
            }
            Effect::End(reason) => Answer::Recorded(kind, self.end(reason).await),
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
            Effect::Purge => Answer::Purged(self.purge().await),
        })
    }

    /// Probes all these ports at once. Each answer is told when it comes; the last one is what comes of the effect.
    async fn probe(&self, places: BTreeMap<PortLabel, Place>) -> Option<Answer> {
        let mut left = places.len();
        let mut probes: FuturesUnordered<_> = places
            .into_iter()
            .map(async |(label, place)| (label, self.outside.prober.until_ready(&place).await))
            .collect();
        while let Some((label, answered)) = probes.next().await {
            left -= 1;
            let answer = Answer::Probed { label, answered, last: left == 0 };
            if left == 0 {
                return Some(answer);
            }
            self.outside.tell(News::Answer(self.id.clone(), self.record.value.generation, answer));
        }
        None
    }

    async fn take_over(&self) -> Option<Claimed> {
        tracing::info!(session.id = %self.id, "A claim that nobody carried out is taken over.");
        let claim = claim_again(&self.outside, &self.record.value);
        self.outside.claim_for_certain(&self.id, &self.record, &claim).await
    }

    async fn prepare(&self) -> Result<Prepared, Error> {
        let members = self.outside.members.read().await?;
        let record = self.outside.records.read(&self.id).await?;
        Ok((members, record))
    }

    /// The job first, so that nothing can recreate the record from it.
    async fn purge(&self) -> Result<bool, String> {
        let run = self.run(self.record.value.generation);
        self.outside.backend.purge(&run).await.map_err(|why| why.to_string())?;
        self.outside.records.purge(&self.id, &self.record).await.map_err(|why| why.to_string())
    }
}
