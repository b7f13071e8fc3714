//! One look of a waiting request: what is known, what the record says, and where that leads.

use std::sync::Arc;
use std::time::Duration;

use bivouac_protocol::link::FromProxy;
use bivouac_protocol::{Generation, Phase, Reason, Record, Route, RoutePhase};

use super::HEARD_WITHIN;
use super::standing::{Recorded, Standing, refusal_of_end};
use super::visit::{ONCE_IN, RECHECK, Visit};
use crate::activity::entry::{Asked, Entry, Outcome};
use crate::refusal::Refusal;
use crate::routes::merge::Over;
use crate::routes::resolve::Unreachable;

/// Generations that one request wakes, one after the other, if each ends before it is served.
const WAKES_AT_MOST: u32 = 3;

/// Where a look leads.
pub(super) enum Look {
    Go(Arc<Route>),
    /// Something was learned: look again at once.
    Again,
    Wait(Duration),
}

/// What a request asked to be woken.
pub(super) struct Woken {
    generation: Generation,
    /// The number of the last outcome before that.
    before: Option<u64>,
}

impl Visit<'_> {
    pub(super) async fn look(&mut self, entry: &Arc<Entry>) -> Result<Look, Refusal> {
        let (route, confirmed) = {
            let state = entry.lock();
            let route = state.known.route().cloned();
            let confirmed = route.as_ref().is_some_and(|route| state.gate.is_confirmed(route.generation));
            (route, confirmed && self.inner.is_fresh(&state))
        };
        if let Some(route) = route.as_ref().filter(|_| confirmed) {
            match self.phase_on(route) {
                Some(RoutePhase::Ready) => return Ok(Look::Go(route.clone())),
                Some(RoutePhase::Starting) => return Ok(Look::Wait(RECHECK)),
                // Where there is such a port, the directory had not heard of it when it was asked.
                None => self.check_port(entry)?,
            }
        }
        self.take_hold(entry)?;
        match self.standing(entry).await {
            Ok((standing, epoch)) => {
                self.unreachable = false;
                self.check_port(entry)?;
                self.follow(entry, standing, epoch).await
            }
            Err(error) => self.without_record(entry, route, &error),
        }
    }

    /// How far the port has come that this request wants, if the route has it.
    pub(super) fn phase_on(&self, route: &Route) -> Option<RoutePhase> {
        route.endpoint(self.port.as_ref()).map(|endpoint| endpoint.phase)
    }

    /// Refuses a request whose port the session's template does not have, as its record says.
    fn check_port(&self, entry: &Entry) -> Result<(), Refusal> {
        let Some(label) = &self.port else { return Ok(()) };
        let missing = entry.lock().recorded.as_ref().is_some_and(|recorded| !recorded.has(label));
        if missing { Err(Refusal::UnknownPort) } else { Ok(()) }
    }

    /// The record, read after this proxy has joined, and under which membership.
    async fn standing(&self, entry: &Entry) -> Result<(Standing, u64), Unreachable> {
        let mut membership = self.inner.parts.membership.clone();
        let decided = membership.wait_for(|membership| !membership.is_joining());
        let epoch = match tokio::time::timeout(RECHECK, decided).await {
            Ok(Ok(membership)) => membership.epoch().ok_or(Unreachable::NoMember)?,
            _ => return Err(Unreachable::NoMember),
        };
        let parts = &self.inner.parts;
        let record = parts.resolver.record(entry).await?;
        let standing = note(entry, record.as_ref().as_ref());
        let Some(generation) = standing.live().filter(|generation| entry.lock().is_over(*generation)) else {
            return Ok((standing, epoch));
        };
        // Mostly that read was begun before the end. One that begins now, and says so too, has the last word.
        let standing = note(entry, parts.resolver.record_apart(&self.id).await?.as_ref());
        if standing.live() == Some(generation) {
            parts.routes.reopen(&self.id, generation);
        }
        Ok((standing, epoch))
    }

    async fn follow(&mut self, entry: &Arc<Entry>, standing: Standing, epoch: u64) -> Result<Look, Refusal> {
        let parts = &self.inner.parts;
        match standing {
            Standing::Unknown => Err(Refusal::UnknownSession),
            Standing::Claimed(generation) => {
                let routed = self.exists(entry, generation).is_some();
                if !routed {
                    // Whoever claimed it may be gone, and no replica know of it: this makes one look.
                    self.ask(entry, FromProxy::Resolve { session: self.id.clone() });
                }
                // A replica pushes the route of an allocation that it is about to pin.
                Ok(Look::Wait(if routed { self.longer() } else { RECHECK }))
            }
            Standing::Running { generation, allocation, was_ready, policy } => {
                let route = self.exists(entry, generation);
                parts.table.confirm(entry, generation, epoch);
                let right = |route: &Arc<Route>| allocation.as_ref().is_none_or(|id| *id == route.allocation);
                if let Some(wrong) = route.as_ref().filter(|route| !right(route)) {
                    parts.routes.forget(wrong);
                }
                match route.filter(right) {
                    Some(route) if self.phase_on(&route).is_none() => {
                        self.find(entry, generation, Some(&route.allocation), was_ready, &policy).await
                    }
                    Some(_) if self.is_linked() => Ok(Look::Again),
                    Some(route) => self.verify(entry, &route, &policy).await,
                    None => self.find(entry, generation, allocation.as_ref(), was_ready, &policy).await,
                }
            }
            Standing::Stopping { generation, reason } => {
                self.exists(entry, generation);
                parts.routes.retract(&self.id, &Over { generation, ended: false, reason, wake: false });
                Ok(Look::Wait(RECHECK))
            }
            Standing::Ended { generation, reason, wake } => {
                parts.routes.retract(&self.id, &Over::ended(generation, reason.clone(), wake));
                self.ended(entry, generation, reason, wake)
            }
        }
    }

    /// Notes that the session exists at this generation; returns its route, if there is one.
    fn exists(&self, entry: &Arc<Entry>, generation: Generation) -> Option<Arc<Route>> {
        let parts = &self.inner.parts;
        parts.table.mark_existing(entry, generation);
        let route = entry.lock().known.route().cloned()?;
        if route.generation < generation {
            parts.routes.retract_before(&self.id, generation);
        }
        (route.generation == generation).then_some(route)
    }

    pub(super) fn is_linked(&self) -> bool {
        let table = &self.inner.parts.table;
        table.outbox.heard_within(HEARD_WITHIN, table.clock.now())
    }

    /// Record or directory cannot be read: what is known has to do.
    pub(super) fn without_record(
        &mut self,
        entry: &Arc<Entry>,
        route: Option<Arc<Route>>,
        error: &Unreachable,
    ) -> Result<Look, Refusal> {
        tracing::debug!(session.id = %self.id, %error, "A request is decided without the record.");
        self.unreachable = true;
        let (over, exists) = {
            let state = entry.lock();
            (state.known.over().filter(|over| over.ended).cloned(), state.exists)
        };
        match (route, over) {
            (Some(route), _) => match self.phase_on(&route) {
                Some(RoutePhase::Ready) => {
                    self.inner.parts.table.metrics.served_unconfirmed();
                    Ok(Look::Go(route))
                }
                Some(RoutePhase::Starting) => Ok(Look::Wait(RECHECK)),
                None => self.check_port(entry).map(|()| Look::Wait(RECHECK)),
            },
            (None, Some(over)) => self.ended(entry, over.generation, over.reason, over.wake),
            (None, None) if exists => Ok(Look::Wait(RECHECK)),
            (None, None) => Err(Refusal::Unresolvable),
        }
    }

    /// The session has ended: it is woken, if it may be, and if this request did not try already.
    fn ended(
        &mut self,
        entry: &Arc<Entry>,
        generation: Generation,
        reason: Option<Reason>,
        wake: bool,
    ) -> Result<Look, Refusal> {
        let last = entry.lock().outcome.clone();
        match &self.woken {
            _ if !wake => return Err(refusal_of_end(reason)),
            Some(woken) if woken.generation == generation => {
                if let Some(refusal) =
                    last.filter(|(number, _)| Some(*number) != woken.before).and_then(refused)
                {
                    return Err(refusal);
                }
            }
            Some(_) if self.wakes >= WAKES_AT_MOST => return Err(refusal_of_end(reason)),
            Some(_) if reason.as_ref().is_some_and(|reason| reason.code.is_failed_start()) => {
                return Err(refusal_of_end(reason));
            }
            _ => {
                self.woken = Some(Woken { generation, before: last.map(|(number, _)| number) });
                self.wakes += 1;
            }
        }
        self.inner.parts.table.mark_existing(entry, generation);
        self.unreachable = !self.ask(entry, FromProxy::Wake { session: self.id.clone(), generation });
        Ok(Look::Wait(RECHECK))
    }

    /// Asks a replica, another one each time, once a second for all who wait. `false`: there is none.
    pub(super) fn ask(&self, entry: &Arc<Entry>, question: FromProxy) -> bool {
        let parts = &self.inner.parts;
        let now = parts.table.clock.now();
        let mut state = entry.lock();
        if let Some(Asked { question: last, at, .. }) = &state.asked
            && *last == question
            && now.saturating_sub(*at) < ONCE_IN
        {
            return true;
        }
        let last = state.asked.as_ref().map(|asked| asked.turn);
        let turn =
            last.map_or(usize::try_from(now.as_secs()).unwrap_or_default(), |turn| turn.wrapping_add(1));
        let sent = parts.table.outbox.ask(turn, &question);
        state.asked = sent.then_some(Asked { question, at: now, turn });
        sent
    }
}

/// What the record means; what stays known of it is kept for all who wait.
fn note(entry: &Entry, record: Option<&Record>) -> Standing {
    if let Some(record) = record {
        entry.lock().recorded = Some(Box::new(Recorded::of(record)));
    }
    Standing::of(record)
}

/// What a replica's answer to a wake means, if it does not mean waiting.
fn refused((_, outcome): (u64, Outcome)) -> Option<Refusal> {
    match (outcome.generation, outcome.phase) {
        (None, _) => Some(Refusal::UnknownSession),
        (_, Some(Phase::Ended) | None) => Some(refusal_of_end(outcome.reason)),
        _ => None,
    }
}
