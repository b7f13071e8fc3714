//! News from inside this process and from the backend.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bivouac_ledger::leader::Leadership;
use bivouac_ledger::records::Versioned;
use bivouac_protocol::member::Members;
use bivouac_protocol::{Record, SessionId};
use jiff::Timestamp;
use tokio::time::Instant;

use super::announce::Announced;
use super::{Learned, Session, Supervisor};
use crate::backend::{Observation, Run};
use crate::session::facts::Facts;

impl Supervisor {
    pub(super) fn on_learned(&mut self, learned: Learned) {
        let Learned { id, record, owned, grace, reply } = learned;
        self.take_in(&id, record, owned);
        if let (Some(grace), Some(session)) = (grace, self.sessions.get_mut(&id)) {
            session.facts.grace = grace;
        }
        self.settle(&id);
        if let Some(reply) = reply {
            let _ = reply.send(self.view(&id).map(Arc::new));
        }
    }

    /// Takes in a revision of a record. Whether it was news.
    pub(super) fn take_in(&mut self, id: &SessionId, record: Versioned<Record>, owned: bool) -> bool {
        let now = Instant::now();
        let (generation, index) = (record.value.generation, record.index);
        let before = self.sessions.get(id).map(|session| session.facts.generation());
        let news = match self.sessions.get_mut(id) {
            Some(session) => session.facts.on_record(record, now),
            None => {
                let facts = Facts::new(id.clone(), record, now);
                let announced = Announced::default();
                self.sessions
                    .insert(id.clone(), Session { facts, announced, timer: None, probe: None, commit: None });
                true
            }
        };
        if let Some(session) = self.sessions.get_mut(id) {
            if owned && session.facts.generation() == generation && session.facts.record.index == index {
                session.facts.owned = true;
            }
            let over = session.facts.phase() > bivouac_protocol::Phase::Running;
            let successor = before.is_some_and(|before| before < session.facts.generation());
            if successor {
                session.commit = None;
            }
            if (over || successor)
                && let Some(probe) = session.probe.take()
            {
                probe.abort();
            }
        }
        news
    }

    pub(super) fn on_observation(&mut self, observation: Observation) {
        match observation {
            Observation::Job { ref run, ref nonce, stopped } => match self.sessions.get_mut(&run.session) {
                Some(session) if session.facts.generation() >= run.generation => {
                    let foreign =
                        nonce.as_ref().is_some_and(|nonce| *nonce != session.facts.record.value.nonce);
                    session.facts.on_job(run.generation, foreign, stopped);
                    self.settle(&run.session);
                }
                // A session, or a generation of one, that another replica claimed, or whose record is gone.
                _ => self.read_run(observation),
            },
            Observation::Blocked { run, detail } => {
                if let Some(session) = self.current(&run) {
                    session.facts.waiting_for = Some(detail);
                    self.settle(&run.session);
                }
            }
            Observation::Allocation { ref run, .. }
                if self
                    .sessions
                    .get(&run.session)
                    .is_none_or(|known| known.facts.generation() < run.generation) =>
            {
                self.read_run(observation);
            }
            Observation::Allocation { run, allocated } => {
                if let Some(session) = self.current(&run) {
                    session.facts.on_allocation(allocated, Instant::now(), Timestamp::now());
                    self.settle(&run.session);
                }
            }
            Observation::Synced => {
                self.outside.reports_interrupted.store(false, Ordering::Relaxed);
                tracing::info!("All jobs and allocations of the cluster are known.");
            }
            Observation::Interrupted(why) => {
                self.outside.reports_interrupted.store(true, Ordering::Relaxed);
                tracing::warn!(%why, "The backend's reports are interrupted; sessions go on, news is late.");
            }
        }
    }

    /// The record of a run that was not known; its news can be taken in now.
    pub(super) fn on_learned_of_run(&mut self, record: Versioned<Record>, news: Observation) {
        let Some(run) = news.run().cloned() else { return };
        self.take_in(&run.session, record, false);
        // Only if it is known by now: a record that is behind its run would be read for ever.
        if self.sessions.get(&run.session).is_some_and(|session| session.facts.generation() >= run.generation)
        {
            self.on_observation(news);
        }
        self.settle(&run.session);
    }

    /// A record was read by id.
    pub(super) fn on_read(&mut self, id: &SessionId, record: Option<Versioned<Record>>) {
        self.reading.remove(id);
        match record {
            Some(record) => {
                self.take_in(id, record, false);
                self.settle(id);
            }
            None => self.on_gone(id),
        }
    }

    /// All records were listed: what is new is taken in, and what is missing is asked for by id, for a list proves
    /// nothing.
    pub(super) fn on_list(&mut self, records: Vec<(SessionId, Versioned<Record>)>) {
        let listed: HashSet<_> = records.iter().map(|(id, _)| id.clone()).collect();
        for (id, record) in records {
            if self.take_in(&id, record, false) {
                self.settle(&id);
            }
        }
        let missing: Vec<_> = self.sessions.keys().filter(|id| !listed.contains(*id)).cloned().collect();
        for id in missing {
            self.read_record(&id);
        }
    }

    /// The session, if the news is of its current run.
    pub(super) fn current(&mut self, run: &Run) -> Option<&mut Session> {
        self.sessions.get_mut(&run.session).filter(|session| session.facts.generation() == run.generation)
    }

    pub(super) fn on_members(&mut self, members: Versioned<Members>) {
        if self.members.as_ref().is_some_and(|known| known.index >= members.index) {
            return;
        }
        let known = self.members.as_ref().and_then(|known| known.value.removed.as_ref());
        if members.value.removed.as_ref() != known {
            self.removal_seen = Some(Instant::now());
        }
        self.outside.metrics.members.set(i64::try_from(members.value.boots.len()).unwrap_or(i64::MAX));
        self.members = Some(members);
        self.settle_all();
    }

    pub(super) fn on_leadership(&mut self, leadership: Option<Leadership>) {
        match &leadership {
            Some(leadership) => tracing::info!(term = leadership.term.0, "This replica leads."),
            None => tracing::info!("This replica does not lead."),
        }
        self.outside.metrics.leads.set(i64::from(leadership.is_some()));
        self.attempts = 0;
        if leadership.is_some()
            && self.members.as_ref().is_some_and(|members| members.value.removed.is_some())
        {
            // What the removed proxy knew is gone, and this replica cannot tell for how long.
            self.removal_seen = Some(Instant::now());
        }
        self.leadership = leadership;
        if self.leadership.is_none() {
            self.lose_attempts();
        }
        self.settle_all();
    }
}
