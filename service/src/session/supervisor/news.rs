//! News from inside this process and from the backend.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic;

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
use crate::session::idle::lease_ends;

impl Supervisor {
    pub(super) fn on_learned(&mut self, learned: Learned) {
        let Learned { id, record, owned, grace, reply } = learned;
        let generation = record.value.generation;
        self.take_in(&id, record, owned);
        // The grace is for the run that was stopped, not for one that was spawned since.
        let session = self.sessions.get_mut(&id).filter(|session| session.facts.generation() == generation);
        if let (Some(grace), Some(session)) = (grace, session) {
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
        let before = self.sessions.get(id).map(|session| session.facts.generation());
        if let Some(session) = self.sessions.get_mut(id)
            && session.facts.record.index > record.index
        {
            // Somebody may have joined what was claimed here, and that have been read before the claim was answered.
            session.facts.owned |= owned && session.facts.is_run_of(&record.value);
            self.doubt(id);
            return false;
        }
        if self.sessions.get(id).is_some_and(|session| session.facts.is_undone_by(&record)) {
            self.go_back(id, record, owned);
            return true;
        }
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
            if news {
                let leases = &session.facts.record.value.leases;
                session.facts.leased_until = lease_ends(leases, now, Timestamp::now());
            }
            session.facts.owned |= owned;
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
                if let Some(session) = self.sessions.get_mut(&run.session) {
                    session.facts.on_stale_allocation(run.generation, &allocated);
                }
                if let Some(session) = self.current(&run) {
                    session.facts.on_allocation(allocated, Instant::now(), Timestamp::now());
                }
                self.settle(&run.session);
            }
            Observation::Synced => {
                self.outside.reports_interrupted.store(false, atomic::Ordering::Relaxed);
                self.outside.metrics.stream_up.set(1);
                tracing::info!("All jobs and allocations of the cluster are known.");
            }
            Observation::Missed => {
                self.outside.metrics.stream_gaps.inc();
                tracing::warn!("Reports of the backend may have been missed; everything is listed again.");
            }
            Observation::Interrupted(why) => {
                self.outside.reports_interrupted.store(true, atomic::Ordering::Relaxed);
                self.outside.metrics.stream_up.set(0);
                self.outside.metrics.stream_interruptions.inc();
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
        match self.members.as_ref().map(|known| known.index.cmp(&members.index)) {
            Some(Ordering::Greater) => return self.doubt_members(),
            Some(Ordering::Equal) => return,
            Some(Ordering::Less) | None => {}
        }
        let known = self.members.as_ref().and_then(|known| known.value.removed.as_ref());
        if members.value.removed.as_ref() != known {
            self.removal_seen = Some(Instant::now());
        }
        self.members = Some(members);
        self.measure_links();
        self.settle_all();
    }

    pub(super) fn on_leadership(&mut self, leadership: Option<Leadership>) {
        match &leadership {
            Some(leadership) => tracing::info!(term = leadership.term.0, "This replica leads."),
            None => tracing::info!("This replica does not lead."),
        }
        self.outside.metrics.leads.set(i64::from(leadership.is_some()));
        self.attempts = 0;
        // The lock also changes hands when the ledger is restored from a snapshot.
        self.outside.relist.notify_one();
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
