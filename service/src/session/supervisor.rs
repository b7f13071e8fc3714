//! The one task that owns the state of all sessions. It takes in news (commands, reports, links, answers), decides with
//! [`super::decide`], and hands what has to be done outside to [`effects`]. It never waits for anything but news.

mod announce;
mod answers;
mod effects;
mod links;
mod news;
mod restored;
mod revoked;
mod stops;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::leader::Leadership;
use bivouac_ledger::records::Versioned;
use bivouac_ledger::revoked::Revocation;
use bivouac_ledger::{Index, Transaction};
use bivouac_protocol::link::FromService;
use bivouac_protocol::member::Members;
use bivouac_protocol::{BootId, Generation, Record, SessionId};
use futures::StreamExt;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::time::{DelayQueue, delay_queue};

use super::Outside;
use super::decide::{Surroundings, decide};
use super::evidence::{Evidence, LinkId};
use super::facts::Facts;
use super::probe::Place;
use super::view::View;
use crate::backend::{Grace, Observation};
use crate::link::{LinkEvent, Peer};
use effects::Answer;

/// A view to be answered with; `None`: not known here.
pub(crate) type Reply = oneshot::Sender<Option<Arc<View>>>;

/// News.
#[derive(Debug)]
pub(crate) enum News {
    /// A record was read or written elsewhere in this process.
    Learned(Learned),
    /// A caller wants a fresh view, evidence included.
    Look(SessionId, Reply),
    /// The backend reports.
    Observed(Observation),
    /// A proxy's link came, went or spoke.
    Link(LinkEvent),
    /// The list of members, newly read.
    Members(Versioned<Members>),
    /// This replica leads, or does not any more.
    Leadership(Option<Leadership>),
    /// An effect that was started in this generation was answered.
    Answer(SessionId, Generation, Answer),
    /// An idle stop's commit was answered, or not.
    Committed(SessionId, Result<Transaction, bivouac_ledger::Error>),
    /// The record, read after a refused commit.
    ReadBack(SessionId, Result<Option<Versioned<Record>>, bivouac_ledger::Error>),
    /// A consistent read; `None`: there is no such record (or it cannot be read).
    Read(SessionId, Option<Versioned<Record>>),
    /// A consistent read, begun when a revision with this index was known here.
    ReadAgain(SessionId, Index, Option<Versioned<Record>>),
    /// The same for the list of members.
    MembersReadAgain(Index, Option<Versioned<Members>>),
    /// The record of a run that was not known, and the news of that run.
    LearnedOfRun(Versioned<Record>, Observation),
    /// A list of all records was read. What is missing in it proves nothing.
    Listed(Vec<(SessionId, Versioned<Record>)>),
    /// Tickets were revoked, or those that were are listed.
    Revoked(Vec<Revocation>),
    /// Something to say to one proxy.
    Tell(LinkId, FromService),
    /// A session to tell one proxy of, as it is.
    TellOf(LinkId, SessionId),
    /// Where the pinned allocation's backend is probed.
    Place(SessionId, oneshot::Sender<Option<Place>>),
    /// Whether a proxy is heard on a link.
    IsHeard(BootId, oneshot::Sender<bool>),
}

/// A record to be taken in.
#[derive(Debug)]
pub(crate) struct Learned {
    pub(crate) id: SessionId,
    pub(crate) record: Versioned<Record>,
    /// This process won the claim, and registers the job.
    pub(crate) owned: bool,
    /// How the job is to be deleted, once its stop is decided.
    pub(crate) grace: Option<Grace>,
    pub(crate) reply: Option<Reply>,
}

/// One session in the supervisor's hands.
struct Session {
    facts: Facts,
    announced: announce::Announced,
    timer: Option<delay_queue::Key>,
    /// The running probe; dropped with the run.
    probe: Option<tokio::task::AbortHandle>,
    /// The idle stop's transaction, sent again, unchanged, until it is answered.
    commit: Option<Vec<bivouac_ledger::Op>>,
}

/// The supervisor.
pub(crate) struct Supervisor {
    outside: Arc<Outside>,
    sessions: HashMap<SessionId, Session>,
    timers: DelayQueue<SessionId>,
    evidence: Evidence,
    links: HashMap<LinkId, Peer>,
    members: Option<Versioned<Members>>,
    /// When this replica, in its present role, first saw the last removal: it counts as a use of every session.
    removal_seen: Option<Instant>,
    leadership: Option<Leadership>,
    /// Number of the last attempt of this term.
    attempts: u64,
    /// Records that are being read by id.
    reading: HashSet<SessionId>,
    /// What was revoked, for proxies that link.
    revoked: revoked::Revoked,
    /// What is being read again because somebody has read something older than what is known.
    doubted: restored::Doubted,
}

impl Supervisor {
    pub(crate) fn new(outside: Arc<Outside>) -> Self {
        Self {
            outside,
            sessions: HashMap::new(),
            timers: DelayQueue::new(),
            evidence: Evidence::default(),
            links: HashMap::new(),
            members: None,
            removal_seen: None,
            leadership: None,
            attempts: 0,
            reading: HashSet::new(),
            revoked: revoked::Revoked::default(),
            doubted: restored::Doubted::default(),
        }
    }

    /// Runs until `shutdown`. Sessions go on: their records decide, and the next supervisor reads them.
    pub(crate) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<News>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(news) = inbox.recv() => self.on(news),
                Some(expired) = self.timers.next(), if !self.timers.is_empty() => {
                    let id = expired.into_inner();
                    if let Some(session) = self.sessions.get_mut(&id) {
                        session.timer = None;
                    }
                    self.on_timer(&id);
                }
            }
        }
    }

    fn on(&mut self, news: News) {
        match news {
            News::Learned(learned) => self.on_learned(learned),
            News::Look(id, reply) => {
                let _ = reply.send(self.view(&id).map(Arc::new));
            }
            News::Observed(observation) => self.on_observation(observation),
            News::Link(event) => self.on_link(event),
            News::Members(members) => self.on_members(members),
            News::Leadership(leadership) => self.on_leadership(leadership),
            News::Answer(id, generation, answer) => self.on_answer(&id, generation, answer),
            News::Committed(id, answer) => self.on_committed(&id, answer),
            News::ReadBack(id, answer) => self.on_read_back(&id, answer),
            News::Read(id, record) => self.on_read(&id, record),
            News::ReadAgain(id, held, record) => self.on_read_again(&id, held, record),
            News::MembersReadAgain(held, members) => self.on_members_read_again(held, members),
            News::LearnedOfRun(record, news) => self.on_learned_of_run(record, news),
            News::Listed(records) => self.on_list(records),
            News::Revoked(revocations) => self.on_revoked(revocations),
            News::Tell(link, message) => self.tell(link, message),
            News::TellOf(link, id) => self.tell_of(link, &id),
            News::Place(id, reply) => {
                let place = self.sessions.get(&id).and_then(|session| session.facts.default_place());
                let _ = reply.send(place);
            }
            News::IsHeard(boot, reply) => {
                let _ = reply.send(self.evidence.is_heard(&boot));
            }
        }
    }

    /// Decides what follows from a session's facts, starts it, and shows the session as it is now.
    fn settle(&mut self, id: &SessionId) {
        let Some(session) = self.sessions.get(id) else { return };
        let around = self.surroundings(&session.facts);
        let decision = decide(&session.facts, &around);
        for effect in decision.effects {
            self.start(id, effect);
        }
        self.set_timer(id, decision.again_at);
        self.announce(id);
        if let Some(view) = self.view(id) {
            self.outside.registry.publish(Arc::new(view));
        }
    }

    fn settle_all(&mut self) {
        let ids: Vec<_> = self.sessions.keys().cloned().collect();
        for id in &ids {
            self.settle(id);
        }
    }

    fn surroundings(&self, facts: &Facts) -> Surroundings {
        let settings = &self.outside.settings;
        Surroundings {
            now: Instant::now(),
            wall: Timestamp::now(),
            leads: self.leadership.is_some(),
            verdict: self.verdict(facts),
            claim_timeout: settings.claim_timeout,
            stop_retry: self.outside.backend.stop_retry(),
            retention: settings.retention,
        }
    }

    /// One timer a session: the next time at which something may follow from nothing but time. The fence's deadline is
    /// the attempt's, not the decision's.
    fn set_timer(&mut self, id: &SessionId, again_at: Option<Instant>) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let fence_ends = session.facts.fenced_at.map(|at| at + super::decide::FENCE_TIMEOUT);
        // The queue takes no deadline that is years away (and panics); to look too early does no harm.
        let at = [again_at, fence_ends]
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.min(Instant::now() + LONGEST_TIMER));
        match (at, session.timer.take()) {
            (Some(at), Some(timer)) => {
                self.timers.reset_at(&timer, at);
                session.timer = Some(timer);
            }
            (Some(at), None) => session.timer = Some(self.timers.insert_at(id.clone(), at)),
            (None, Some(timer)) => {
                self.timers.remove(&timer);
            }
            (None, None) => {}
        }
    }
}

/// Longest time to the next look at a session.
const LONGEST_TIMER: Duration = Duration::from_secs(24 * 3600);
/// Time before a stop that was given up is tried again.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
