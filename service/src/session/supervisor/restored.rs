//! A ledger that is older than what is known: it was restored from a snapshot (`consul snapshot restore`).
//!
//! Indices only rise, so that of two revisions the one with the higher index is the later one, whichever was read first.
//! A restored snapshot breaks this rule once: it brings back documents with the lower indices that they had. So whoever
//! sees an older index does not decide by it: the document is read again, consistently. A read that was begun when a
//! later revision was known already, and that is answered with an older one, has no other explanation. Neither has a later
//! write that stands on an earlier run, phase or revision: somebody wrote after the restore before it was noticed here.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::Index;
use bivouac_ledger::records::Versioned;
use bivouac_protocol::member::Members;
use bivouac_protocol::{Record, SessionId};
use tokio::time::{Instant, sleep};

use super::{News, Supervisor};
use crate::backend::{Grace, Observation, Presence, Run};
use crate::session::Outside;
use crate::session::decide::Effect;

/// Pause before the ledger is asked again that did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// What is being read again.
#[derive(Debug, Default)]
pub(super) struct Doubted {
    records: HashSet<SessionId>,
    members: bool,
}

impl Supervisor {
    /// Somebody has read an older revision than is known here: mostly because that read was begun earlier.
    pub(super) fn doubt(&mut self, id: &SessionId) {
        let Some(held) = self.sessions.get(id).map(|session| session.facts.record.index) else { return };
        if !self.doubted.records.insert(id.clone()) {
            return;
        }
        let (outside, id) = (Arc::clone(&self.outside), id.clone());
        self.outside.tracker.spawn(async move {
            let record = outside.insist_on_reading(&id).await;
            outside.tell(News::ReadAgain(id, held, record));
        });
    }

    pub(super) fn on_read_again(&mut self, id: &SessionId, held: Index, record: Option<Versioned<Record>>) {
        self.doubted.records.remove(id);
        let known = self.sessions.get(id).map(|session| session.facts.record.index);
        match record {
            None => self.on_gone(id),
            Some(record) if known == Some(held) && record.index < held => self.go_back(id, record, false),
            Some(record) => {
                self.take_in(id, record, false);
                self.settle(id);
            }
        }
    }

    /// The ledger has forgotten what is known here, and its word holds. What was observed of the run stays true. A later
    /// run that it has forgotten may live: then it is the session, and is written down again.
    pub(super) fn go_back(&mut self, id: &SessionId, record: Versioned<Record>, owned: bool) {
        let Some(known) = self.let_go(id) else { return };
        tracing::warn!(
            session.id = %id,
            index = record.index,
            known = known.facts.record.index,
            "A session's record is older than it was: the ledger was restored from a snapshot."
        );
        self.take_in(id, record, owned);
        let lost = known.facts.generation();
        let end = known.facts.record.value.reason.clone().filter(|_| !known.facts.record.value.is_live());
        let Some(session) = self.sessions.get_mut(id) else { return };
        let now = session.facts.generation();
        let same_run = known.facts.record.value.nonce == session.facts.record.value.nonce;
        let revived = same_run && session.facts.record.value.is_live();
        session.announced = known.announced;
        session.commit = known.commit.filter(|_| same_run);
        session.facts.observed_before(known.facts);
        if lost > now {
            let run = Run { session: id.clone(), generation: lost };
            self.read_run(Observation::Job { run, nonce: None, stopped: false });
        }
        // Nothing but a list shows what else has gone back.
        self.outside.relist.notify_one();
        match end.filter(|_| revived) {
            // It was stopped for this reason; its job, which is stopped, would tell of an operator's hand.
            Some(reason) => self.start(id, Effect::BeginStop(reason)),
            None => self.settle(id),
        }
    }

    pub(super) fn doubt_members(&mut self) {
        let Some(held) = self.members.as_ref().map(|members| members.index) else { return };
        if std::mem::replace(&mut self.doubted.members, true) {
            return;
        }
        let outside = Arc::clone(&self.outside);
        self.outside.tracker.spawn(async move {
            loop {
                match outside.members.read().await {
                    Ok(members) => return outside.tell(News::MembersReadAgain(held, members)),
                    Err(error) => tracing::debug!(%error, "The members are asked for again."),
                }
                sleep(PAUSE).await;
            }
        });
    }

    pub(super) fn on_members_read_again(&mut self, held: Index, members: Option<Versioned<Members>>) {
        self.doubted.members = false;
        let index = members.as_ref().map_or(0, |members| members.index);
        if index < held && self.members.as_ref().is_some_and(|known| known.index == held) {
            tracing::warn!(
                index,
                known = held,
                "The list of members is older than it was: the ledger was restored from a snapshot."
            );
            self.members = None;
            // Whoever was removed meanwhile is forgotten: what they knew is gone, and nobody can tell for how long.
            self.removal_seen = Some(Instant::now());
            self.outside.relist.notify_one();
        }
        match members {
            Some(members) => self.on_members(members),
            None => self.settle_all(),
        }
    }
}

impl Outside {
    /// The record of a run. One that is not there, or that tells of an earlier run, was lost, together with what came
    /// after it: a claim is written before its job exists. A run that lives is the session's, and is written down
    /// again; one that does not leaves its generation, which nobody may claim a second time, and is stopped.
    pub(super) async fn record_of_run(&self, run: &Run) -> Option<Versioned<Record>> {
        let id = &run.session;
        let read = self.insist_on_reading(id).await;
        if read.as_ref().is_some_and(|record| record.value.generation >= run.generation) {
            return read;
        }
        if let Some(Some(recalled)) = self.insist_on_run(id, |backend| backend.recall(run)).await {
            tracing::warn!(session.id = %id, generation = %run.generation, "A session's record was lost and is written again from its job.");
            let recreate = || self.records.recreate(id, read.as_ref(), recalled.clone());
            let now = self.insist(id, recreate).await.flatten();
            if now.as_ref().is_some_and(|record| record.value.generation >= run.generation) {
                return now;
            }
        } else if read.is_some() {
            self.insist(id, || self.records.raise_floor(run.generation)).await;
        }
        self.stop_if_spent(run).await
    }

    /// Stops a run that can never be its session again: its record tells of an earlier one, or is gone, and the floor
    /// forbids to write this one down. Placed or still waiting for room, nobody else would ever stop it. Returns the
    /// record, read after the floor: from then on it cannot become this run's.
    async fn stop_if_spent(&self, run: &Run) -> Option<Versioned<Record>> {
        let id = &run.session;
        let spent = self.insist(id, || self.records.is_spent(run.generation)).await?;
        // (A record that cannot be read says nothing of the run.)
        let record = self.insist(id, || self.records.read(id)).await?;
        let is_its = record.as_ref().is_some_and(|record| record.value.generation >= run.generation);
        if is_its || !spent {
            return record;
        }
        let presence = self.insist_on_run(id, |backend| backend.inspect(run)).await?;
        if matches!(presence, Presence::Present { stopped: false, .. }) {
            tracing::warn!(session.id = %id, generation = %run.generation, "A run that no record can tell of any more is stopped.");
            self.insist_on_run(id, |backend| backend.stop(run, Grace::Template)).await;
        }
        record
    }
}
