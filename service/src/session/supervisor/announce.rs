//! What proxies are told of each session, and what people are shown.

use bivouac_protocol::link::{FromService, Retract};
use bivouac_protocol::{Generation, Phase, Reason, Record, RoutePhase, SessionId};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::Supervisor;
use crate::session::evidence::LinkId;
use crate::session::facts::Facts;
use crate::session::idle::{Verdict, Word};
use crate::session::view::{Alive, ProxyUse, State, Unreachable, VerdictName, View};

/// What the proxies were told last of a session: they are told again only when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Announced {
    #[default]
    Nothing,
    Routed {
        generation: Generation,
        /// Ports that have an address. Like the next it only rises within a generation.
        placed: usize,
        ready: usize,
    },
    Retracted {
        generation: Generation,
        ended: bool,
    },
}

impl Supervisor {
    /// Tells all proxies of a session, if what they know has changed.
    pub(super) fn announce(&mut self, id: &SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some((announced, message)) = announcement(&session.facts) else { return };
        if session.announced == announced {
            return;
        }
        session.announced = announced;
        self.tell_all(&message);
    }

    /// Tells one proxy of everything that has an address, and of what was revoked.
    pub(super) fn tell_everything(&mut self, link: LinkId) {
        let live = self.sessions.values().filter(|session| session.facts.record.value.is_live());
        let messages: Vec<_> =
            live.filter_map(|session| announcement(&session.facts)).map(|(_, message)| message).collect();
        for message in messages {
            self.tell(link, message);
        }
        self.tell_revoked(link);
        self.tell(link, FromService::RoutesEnd);
    }

    /// Tells one proxy of one session, as it is.
    pub(super) fn tell_of(&mut self, link: LinkId, id: &SessionId) {
        let Some(session) = self.sessions.get(id) else { return };
        let record = &session.facts.record.value;
        let message = announcement(&session.facts).map_or_else(
            || FromService::Outcome {
                session: id.clone(),
                generation: Some(record.generation),
                phase: Some(record.phase),
                reason: record.reason.as_ref().map(Reason::for_users),
            },
            |(_, message)| message,
        );
        self.tell(link, message);
    }

    /// The session as people see it.
    pub(super) fn view(&self, id: &SessionId) -> Option<View> {
        let facts = &self.sessions.get(id)?.facts;
        let view = view_of_record(id, &facts.record.value, &self.outside.session_url(id));
        let live = facts.record.value.is_live();
        let timeline = &facts.seen;
        let mut view = View { state: facts.state(), ..view };
        view.timeline.placed = view.timeline.placed.or(timeline.placed);
        view.timeline.registered = view.timeline.registered.or(timeline.registered);
        view.timeline.started = view.timeline.started.or(timeline.started);
        view.timeline.port_open = view.timeline.port_open.or(timeline.port_open);
        view.timeline.ready = view.timeline.ready.or(timeline.ready);
        view.timeline.first_byte = view.timeline.first_byte.or(timeline.first_byte);
        view.waiting_for = facts.waiting_for.clone().or_else(|| facts.obstacle.clone()).filter(|_| live);
        view.node = facts.allocated.as_ref().and_then(|allocated| allocated.node.clone());
        let over = facts.phase() == Phase::Ended;
        view.unreachable = facts.unreachable.filter(|_| !over).map(|(_, since)| unreachable(facts, since));
        view.alive = live.then(|| self.alive(facts));
        Some(view)
    }

    fn alive(&self, facts: &Facts) -> Alive {
        let (now, wall) = (Instant::now(), Timestamp::now());
        let clock = |at: Instant| {
            let apart = |span| SignedDuration::try_from(span).unwrap_or(SignedDuration::ZERO);
            let offset = if at >= now { apart(at - now) } else { -apart(now - at) };
            wall.checked_add(offset).unwrap_or(wall)
        };
        let record = &facts.record.value;
        let idle_end =
            |since| facts.is_ready().then(|| clock(since + facts.record.value.policy.idle_timeout.get()));
        let verdict = self.verdict(facts).unwrap_or(Verdict::Unknown { silent: Vec::new() });
        let quiet_timeout = record.policy.quiet_timeout.filter(|_| facts.is_ready());
        let mut quiet_since = None;
        let (name, silent, ends_at) = match verdict {
            Verdict::Busy { silent_since } => {
                let silence = silent_since.zip(quiet_timeout);
                quiet_since = silence.filter(|(since, _)| *since <= now).map(|(since, _)| clock(since));
                (VerdictName::Busy, Vec::new(), silence.map(|(since, span)| clock(since + span.get())))
            }
            Verdict::Unknown { silent } => (VerdictName::Unknown, silent, None),
            // (In words of the vocabulary: a lease is a use.)
            Verdict::Leased { until } => (VerdictName::Busy, Vec::new(), idle_end(until)),
            Verdict::Idle { since } => (VerdictName::Idle, Vec::new(), idle_end(since)),
        };
        let ends_at = ends_at.into_iter().chain(record.lifetime_ends()).min();
        let boots = self.members.iter().flat_map(|members| members.value.boots.iter());
        let proxies = boots.filter_map(|boot| match self.evidence.word(boot, &facts.id) {
            Word::Silent => None,
            Word::Unused => Some(ProxyUse { boot: boot.clone(), open: 0, last_use: None }),
            Word::Used { open, last_use, .. } => {
                Some(ProxyUse { boot: boot.clone(), open, last_use: Some(clock(last_use)) })
            }
        });
        Alive {
            verdict: name,
            ends_at,
            quiet_since,
            silent,
            proxies: proxies.collect(),
            touched_at: record.touched_at,
            leases: record.live_leases(wall).map(|(name, until)| (name.clone(), until)).collect(),
        }
    }
}

/// A view of a session of which only the record is known.
fn view_of_record(id: &SessionId, record: &Record, url: &str) -> View {
    View {
        id: id.clone(),
        key: record.key.clone(),
        namespace: record.namespace.clone(),
        generation: record.generation,
        template: record.template.clone(),
        state: match record.phase {
            Phase::Claimed => State::Queued,
            Phase::Running if record.timeline.ready.is_some() => State::Ready,
            Phase::Running => State::Placed,
            Phase::Stopping => State::Stopping,
            Phase::Ended => State::Ended,
        },
        reason: record.reason.clone(),
        waiting_for: None,
        url: url.to_owned(),
        labels: record.request.labels.clone(),
        user: record.request.user.clone(),
        spawned_by: record.request.spawned_by.clone(),
        allocation: record.allocation.clone(),
        node: None,
        unreachable: None,
        policy: record.policy.clone(),
        timeline: record.timeline.clone(),
        alive: None,
    }
}

fn unreachable(facts: &Facts, since: Timestamp) -> Unreachable {
    let after = facts.record.value.policy.overlap_after;
    let after = after.and_then(|after| SignedDuration::try_from(after.get()).ok());
    Unreachable { since, given_up_at: after.and_then(|after| since.checked_add(after).ok()) }
}

/// What a proxy has to know of a session; `None` while there is nothing to tell.
fn announcement(facts: &Facts) -> Option<(Announced, FromService)> {
    let record = &facts.record.value;
    let generation = record.generation;
    if record.is_live() {
        let route = facts.route()?;
        let phases = || route.further.values().map(|endpoint| endpoint.phase).chain([route.phase]);
        let ready = phases().filter(|phase| *phase == RoutePhase::Ready).count();
        let announced = Announced::Routed { generation, placed: phases().count(), ready };
        return Some((announced, FromService::Route(route)));
    }
    let ended = record.phase == Phase::Ended;
    let retract = Retract {
        session: facts.id.clone(),
        generation,
        ended,
        reason: record.reason.as_ref().map(Reason::for_users),
        wake: record.may_be_woken(),
    };
    Some((Announced::Retracted { generation, ended }, FromService::Retract(retract)))
}
