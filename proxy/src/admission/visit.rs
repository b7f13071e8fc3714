//! The way of one request that cannot be answered from memory: look, wait, look again.
//!
//! Each round subscribes to changes first and looks then, so that no change falls between; and looks again every
//! second, so that nothing depends on a message.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bivouac_protocol::link::FromProxy;
use bivouac_protocol::{AllocationId, Generation, Phase, Reason, Route, RoutePhase, SessionId};
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::standing::{Standing, refusal_of_end};
use super::{HEARD_WITHIN, Inner};
use crate::activity::entry::{Entry, Outcome};
use crate::activity::table::{AtFence, Entered, Open};
use crate::hold::Hold;
use crate::lift::conclude;
use crate::refusal::Refusal;
use crate::routes::merge::Over;
use crate::routes::resolve::Unreachable;

/// Whoever waits looks again this often.
const RECHECK: Duration = Duration::from_secs(1);
/// Whoever waits at a fence, or asks a replica, does so together with all others of its session.
const ONCE_IN: Duration = Duration::from_millis(900);
/// A replica that is asked for a route gets this long before the directory is tried.
const PATIENCE: Duration = Duration::from_millis(250);
/// First wait for a record that lags behind its route.
const SHORT: Duration = Duration::from_millis(10);
/// Generations that one request wakes, one after the other, if each ends before it is served.
const WAKES_AT_MOST: u32 = 3;
/// What a client is told that has waited long enough.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// One request. The order of the fields is the order in which they are dropped: the guard goes last, so that it can
/// take an entry with it that nobody needs.
pub(super) struct Visit<'a> {
    inner: &'a Arc<Inner>,
    id: SessionId,
    hold: Option<Hold>,
    at_fence: Option<AtFence>,
    open: Option<Open>,
    deadline: Instant,
    backoff: Duration,
    woken: Option<Woken>,
    wakes: u32,
    asked: bool,
    only_if_never_ready: bool,
    /// The last look failed because nobody could be asked.
    unreachable: bool,
}

/// What this request asked to be woken.
struct Woken {
    generation: Generation,
    /// The number of the last outcome before that.
    before: Option<u64>,
}

/// Where a look leads.
enum Look {
    Go(Arc<Route>),
    Again,
    Wait(Duration),
}

impl<'a> Visit<'a> {
    pub(super) fn new(inner: &'a Arc<Inner>, id: &SessionId, entered: Entered) -> Self {
        let (open, at_fence) = match entered {
            Entered::Open(open) => (Some(open), None),
            Entered::Held(at_fence) => (None, Some(at_fence)),
        };
        Self {
            inner,
            id: id.clone(),
            hold: None,
            at_fence,
            open,
            deadline: Instant::now() + inner.parts.hold_timeout,
            backoff: SHORT,
            woken: None,
            wakes: 0,
            asked: false,
            only_if_never_ready: false,
            unreachable: false,
        }
    }

    pub(super) fn until(self, deadline: Instant) -> Self {
        Self { deadline, ..self }
    }

    /// A backend that was ready once and refuses connections is not starting: waiting does not help.
    pub(super) fn only_if_never_ready(self) -> Self {
        Self { only_if_never_ready: true, ..self }
    }

    pub(super) async fn run(mut self) -> Result<(Open, Arc<Route>), Refusal> {
        loop {
            let Some(entry) = self.enter() else {
                self.wait_at_fence().await?;
                continue;
            };
            let changed = entry.changed();
            match self.look(&entry).await? {
                Look::Go(route) => {
                    if let Some(open) = self.open.take() {
                        self.inner.parts.table.mark_existing(&entry, route.generation);
                        return Ok((open, route));
                    }
                }
                Look::Again => {}
                Look::Wait(pause) => self.wait(&entry, changed, pause).await?,
            }
        }
    }

    /// The entry at which this request is counted in, unless it has to wait at a fence.
    fn enter(&mut self) -> Option<Arc<Entry>> {
        if self.open.is_none() && self.at_fence.is_none() {
            match self.inner.parts.table.enter(&self.id) {
                Entered::Open(open) => self.open = Some(open),
                Entered::Held(at_fence) => self.at_fence = Some(at_fence),
            }
        }
        self.open.as_ref().map(|open| open.entry().clone())
    }

    /// Waits, within the bounds, until something changes or the pause is over.
    async fn wait(&mut self, entry: &Arc<Entry>, changed: Notified<'_>, pause: Duration) -> Result<(), Refusal> {
        self.take_hold(entry)?;
        let until = (Instant::now() + pause).min(self.deadline);
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep_until(until) => {}
        }
        if self.inner.closed.load(Ordering::SeqCst) {
            return Err(Refusal::Draining);
        }
        if Instant::now() < self.deadline {
            return Ok(());
        }
        Err(if self.unreachable { Refusal::Unresolvable } else { Refusal::StillStarting { retry_after: RETRY_AFTER } })
    }

    /// Waits like [`Visit::wait`] before the first look.
    pub(super) async fn pause(&mut self, pause: Duration) -> Result<(), Refusal> {
        let Some(entry) = self.enter() else { return Ok(()) };
        self.wait(&entry, entry.changed(), pause).await
    }

    fn take_hold(&mut self, entry: &Arc<Entry>) -> Result<(), Refusal> {
        if self.hold.is_none() {
            self.hold = Some(self.inner.parts.holds.take(entry)?);
        }
        Ok(())
    }

    /// Waits for the outcome of a stop. Its answer may get lost, so the record is read every second.
    async fn wait_at_fence(&mut self) -> Result<(), Refusal> {
        let Some(at_fence) = self.at_fence.take() else { return Ok(()) };
        let entry = at_fence.entry.clone();
        loop {
            let changed = entry.changed();
            if entry.lock().gate.fenced() != Some(at_fence.fenced) {
                return Ok(());
            }
            self.wait(&entry, changed, RECHECK).await?;
            self.check_stop(&entry, at_fence.fenced.generation).await;
        }
    }

    /// Reads what became of the generation that is fenced, once a second for all who wait.
    async fn check_stop(&self, entry: &Arc<Entry>, fenced: Generation) {
        let parts = &self.inner.parts;
        let now = parts.table.clock.now();
        {
            let mut state = entry.lock();
            if state.checked_at.is_some_and(|at| now.saturating_sub(at) < ONCE_IN) {
                return;
            }
            state.checked_at = Some(now);
        }
        let Ok(record) = parts.resolver.record_apart(&entry.id).await else { return };
        conclude(&parts.routes, &entry.id, fenced, &Standing::of(record.as_ref()));
    }

    async fn look(&mut self, entry: &Arc<Entry>) -> Result<Look, Refusal> {
        let (route, confirmed) = {
            let state = entry.lock();
            let route = state.known.route().cloned();
            let confirmed = route.as_ref().is_some_and(|route| state.gate.is_confirmed(route.generation));
            (route, confirmed && self.inner.is_fresh(&state))
        };
        if let Some(route) = route.as_ref().filter(|_| confirmed) {
            return Ok(match route.phase {
                RoutePhase::Ready => Look::Go(route.clone()),
                RoutePhase::Starting => Look::Wait(RECHECK),
            });
        }
        self.take_hold(entry)?;
        match self.standing(entry).await {
            Ok((standing, epoch)) => {
                self.unreachable = false;
                self.follow(entry, standing, epoch).await
            }
            Err(error) => self.without_record(entry, route, &error),
        }
    }

    /// The record, read after this proxy has joined, and under which membership.
    async fn standing(&self, entry: &Entry) -> Result<(Standing, u64), Unreachable> {
        let mut membership = self.inner.parts.membership.clone();
        let decided = membership.wait_for(|membership| !membership.is_joining());
        let epoch = match tokio::time::timeout(RECHECK, decided).await {
            Ok(Ok(membership)) => membership.epoch().ok_or(Unreachable::NoMember)?,
            _ => return Err(Unreachable::NoMember),
        };
        let record = self.inner.parts.resolver.record(entry).await?;
        Ok((Standing::of(record.as_ref().as_ref()), epoch))
    }

    async fn follow(&mut self, entry: &Arc<Entry>, standing: Standing, epoch: u64) -> Result<Look, Refusal> {
        let parts = &self.inner.parts;
        match standing {
            Standing::Unknown => Err(Refusal::UnknownSession),
            Standing::Claimed(generation) => {
                let routed = self.exists(entry, generation).is_some();
                // A replica pushes the route of an allocation that it is about to pin.
                Ok(Look::Wait(if routed { self.longer() } else { RECHECK }))
            }
            Standing::Running { generation, allocation, was_ready } => {
                let route = self.exists(entry, generation);
                parts.table.confirm(entry, generation, epoch);
                let right = |route: &Arc<Route>| allocation.as_ref().is_none_or(|id| *id == route.allocation);
                if let Some(wrong) = route.as_ref().filter(|route| !right(route)) {
                    parts.routes.forget(wrong);
                }
                match route.filter(right) {
                    Some(_) if self.is_linked() => Ok(Look::Again),
                    Some(route) => self.verify(entry, &route).await,
                    None => self.find(entry, generation, allocation.as_ref(), was_ready).await,
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

    fn is_linked(&self) -> bool {
        let table = &self.inner.parts.table;
        table.outbox.heard_within(HEARD_WITHIN, table.clock.now())
    }

    /// No replica says whether this route is still good: the directory does.
    async fn verify(&mut self, entry: &Arc<Entry>, route: &Arc<Route>) -> Result<Look, Refusal> {
        let parts = &self.inner.parts;
        match parts.resolver.place(&self.id, route.generation).await {
            Ok(Some(place)) if place.allocation == route.allocation => {
                if place.address != route.address {
                    parts.routes.forget(route);
                }
                self.accept(entry, &place)
            }
            Ok(_) => Ok(Look::Wait(self.longer())),
            Err(error) => self.without_record(entry, Some(route.clone()), &error),
        }
    }

    /// There is no route: ask a replica, or look it up.
    async fn find(
        &mut self,
        entry: &Arc<Entry>,
        generation: Generation,
        allocation: Option<&AllocationId>,
        was_ready: bool,
    ) -> Result<Look, Refusal> {
        if self.only_if_never_ready && was_ready {
            return Err(Refusal::BackendUnreachable);
        }
        let asked = !self.asked && self.ask(entry, FromProxy::Resolve { session: self.id.clone() });
        self.asked = true;
        if asked && !was_ready {
            // The replica knows when it is ready; the directory does not.
            return Ok(Look::Wait(PATIENCE));
        }
        match self.inner.parts.resolver.place(&self.id, generation).await {
            Ok(Some(place)) if allocation.is_none_or(|id| *id == place.allocation) => self.accept(entry, &place),
            Ok(_) => Ok(Look::Wait(self.longer())),
            Err(error) => self.without_record(entry, None, &error),
        }
    }

    /// Takes a place that record and directory agree about.
    fn accept(&self, entry: &Arc<Entry>, place: &Arc<Route>) -> Result<Look, Refusal> {
        let parts = &self.inner.parts;
        if !parts.routes.push(Route { phase: RoutePhase::Ready, ..Route::clone(place) }) {
            return Err(Refusal::Unresolvable);
        }
        let mut state = entry.lock();
        state.verified_at = Some(parts.table.clock.now());
        // Where it was retracted since the record was read, the record will say so in a moment.
        Ok(if state.known.is_over(place.generation) { Look::Wait(SHORT) } else { Look::Again })
    }

    /// Record or directory cannot be read: what is known has to do.
    fn without_record(
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
            (Some(route), _) if route.phase == RoutePhase::Ready => {
                self.inner.parts.table.metrics.served_unconfirmed();
                Ok(Look::Go(route))
            }
            (Some(_), _) => Ok(Look::Wait(RECHECK)),
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
                if let Some(refusal) = last.filter(|(number, _)| Some(*number) != woken.before).and_then(refused) {
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
    fn ask(&self, entry: &Arc<Entry>, question: FromProxy) -> bool {
        let parts = &self.inner.parts;
        let now = parts.table.clock.now();
        let mut state = entry.lock();
        let asked = state.asked.as_ref();
        if asked.is_some_and(|(last, at)| *last == question && now.saturating_sub(*at) < ONCE_IN) {
            return true;
        }
        let turn = usize::try_from(now.as_secs()).unwrap_or_default();
        let sent = parts.table.outbox.ask(turn, &question);
        state.asked = sent.then_some((question, now));
        sent
    }

    /// The next, longer pause.
    fn longer(&mut self) -> Duration {
        let pause = self.backoff;
        self.backoff = (2 * pause).min(RECHECK);
        pause
    }
}

/// What a replica's answer to a wake means, if it does not mean waiting.
fn refused((_, outcome): (u64, Outcome)) -> Option<Refusal> {
    match (outcome.generation, outcome.phase) {
        (None, _) => Some(Refusal::UnknownSession),
        (_, Some(Phase::Ended) | None) => Some(refusal_of_end(outcome.reason)),
        _ => None,
    }
}
