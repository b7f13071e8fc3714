//! Whether, and where to, a request may go: guard first, then route, then the record, with a wait wherever waiting helps.
//!
//! [`visit`] is the way of one request, [`look`] each of its looks; [`standing`] is what a record means for it.

mod look;
pub(crate) mod standing;
mod visit;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bivouac_protocol::link::FromProxy;
use bivouac_protocol::{Reason, ReasonCode, Route, SessionId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::activity::entry::State;
use crate::activity::table::{Entered, Open, Table};
use crate::hold::Holds;
use crate::lift::Lifter;
use crate::membership::Membership;
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::routes::Routes;
use crate::routes::resolve::Resolver;
use visit::Visit;

/// A route is good as long as some replica was heard this recently; otherwise it is confirmed from record and directory.
const HEARD_WITHIN: Duration = Duration::from_secs(3);
/// Connections refused in a row before a backend counts as unreachable, if it was ready once.
const REFUSED_AT_MOST: u32 = 7;
/// Longest wait between two connections to a backend that refuses them.
const LONGEST_BACKOFF: Duration = Duration::from_millis(500);
/// What a backend sent before it exited may still be on its way to the client.
const FLUSH_AFTER_EXIT: Duration = Duration::from_secs(5);

/// Admits requests to sessions. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Admission(Arc<Inner>);

/// What an admission needs.
pub(crate) struct Parts {
    pub(crate) lifter: Arc<Lifter>,
    pub(crate) table: Arc<Table>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) holds: Holds,
    pub(crate) membership: watch::Receiver<Membership>,
    /// Longest wait of one request.
    pub(crate) hold_timeout: Duration,
}

struct Inner {
    parts: Parts,
    /// Nothing is admitted any more.
    closed: AtomicBool,
    /// Whatever is open has to end.
    cut: CancellationToken,
}

/// A request that was admitted to a session. Dropping it ends the use.
pub(crate) struct Admitted {
    /// Where the session listens.
    pub(crate) route: Arc<Route>,
    open: Option<Open>,
    inner: Arc<Inner>,
    refused: u32,
    give_up: Option<tokio::time::Instant>,
}

impl Admission {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner { parts, closed: AtomicBool::new(false), cut: CancellationToken::new() }))
    }

    /// Guard first, then route, then (first time per generation) the record read. Holds while the session starts, is
    /// fenced or is woken, within bounds. `gone` resolves when the client has left: the wait ends with `None`.
    pub(crate) async fn admit(
        &self,
        id: &SessionId,
        gone: impl Future<Output = ()>,
    ) -> Result<Option<Admitted>, Refusal> {
        let inner = &self.0;
        let entered = inner.parts.table.enter(id);
        if inner.closed.load(Ordering::SeqCst) {
            return Err(Refusal::Draining);
        }
        if let Entered::Open(open) = &entered
            && let Some(route) = inner.known_route(open)
        {
            inner.parts.table.metrics.hit();
            return Ok(self.admitted(entered, route));
        }
        tokio::select! {
            biased;
            outcome = Visit::new(inner, id, entered).run() => {
                outcome.map(|(open, route)| self.admitted(Entered::Open(open), route))
            }
            () = gone => Ok(None),
        }
    }

    fn admitted(&self, entered: Entered, route: Arc<Route>) -> Option<Admitted> {
        let Entered::Open(open) = entered else { return None };
        Some(Admitted { route, open: Some(open), inner: self.0.clone(), refused: 0, give_up: None })
    }

    /// From now on nothing is admitted. Whoever is counted in after this sees it, so that once nothing is open nothing
    /// will be.
    pub(crate) fn close(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.parts.table.announce_all();
    }

    /// Ends whatever is open.
    pub(crate) fn cut_all(&self) {
        self.0.cut.cancel();
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.parts.table.metrics
    }
}

impl Inner {
    /// The route, where nothing has to be asked.
    fn known_route(&self, open: &Open) -> Option<Arc<Route>> {
        let mut state = open.entry().lock();
        let route = state.ready_route().cloned()?;
        if !self.is_fresh(&state) {
            return None;
        }
        if !state.exists || state.used != Some(route.generation) {
            drop(state);
            self.parts.table.mark_existing(open.entry(), route.generation);
        } else {
            state.used = Some(route.generation);
        }
        Some(route)
    }

    /// Whether the route may be believed: a replica would have said otherwise, or it was confirmed just now.
    fn is_fresh(&self, state: &State) -> bool {
        let now = self.parts.table.clock.now();
        self.parts.table.outbox.heard_within(HEARD_WITHIN, now)
            || state.verified_at.is_some_and(|at| now.saturating_sub(at) <= HEARD_WITHIN)
    }
}

impl Admitted {
    /// Where its tunnel is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.inner.parts.table.metrics
    }

    /// Resolves as soon as it is known that the generation is over, with the reason.
    pub(crate) async fn over_at_last(&self) -> Option<Reason> {
        let open = self.open.as_ref()?;
        loop {
            let changed = open.entry().changed();
            if let Some(reason) = self.over() {
                return Some(reason);
            }
            changed.await;
        }
    }

    /// Resolves when the generation was stopped under this use, with the reason (for close codes), or with `None` when
    /// the proxy itself has to end.
    pub(crate) async fn cut(&self) -> Option<Reason> {
        let reason = tokio::select! {
            reason = self.over_at_last() => reason?,
            () = self.inner.cut.cancelled() => return None,
        };
        if matches!(reason.code, ReasonCode::Exited | ReasonCode::StartFailed) {
            tokio::select! {
                () = self.inner.cut.cancelled() => {}
                () = tokio::time::sleep(FLUSH_AFTER_EXIT) => {}
            }
        }
        Some(reason)
    }

    /// Why this generation is over, if it is.
    fn over(&self) -> Option<Reason> {
        let state = self.open.as_ref()?.entry().lock();
        let generation = self.route.generation;
        if !state.known.is_over(generation) {
            return None;
        }
        let told = state.known.over().filter(|over| over.generation == generation);
        Some(told.and_then(|over| over.reason.clone()).unwrap_or_else(|| ReasonCode::Lost.into()))
    }

    /// The backend refused the TCP connection: drop the route, resolve again, hold if starting. Keeps the guard.
    /// `false`: it was tried often enough, or the client has left.
    pub(crate) async fn reroute(&mut self, gone: impl Future<Output = ()>) -> Result<bool, Refusal> {
        let parts = &self.inner.parts;
        let now = tokio::time::Instant::now();
        let give_up = *self.give_up.get_or_insert(now + parts.hold_timeout);
        let Some(open) = self.open.take() else { return Ok(false) };
        if now >= give_up {
            return Ok(false);
        }
        self.refused += 1;
        let backoff =
            (Duration::from_millis(10) * 2u32.saturating_pow(self.refused.min(16))).min(LONGEST_BACKOFF);
        parts.routes.forget(&self.route);
        parts.resolver.forget_place(&self.route).await;
        let mut visit = Visit::new(&self.inner, &self.route.session, Entered::Open(open)).until(give_up);
        if self.refused > REFUSED_AT_MOST {
            visit = visit.only_if_never_ready();
        }
        let again = async {
            visit.pause(backoff).await?;
            visit.run().await
        };
        tokio::select! {
            biased;
            outcome = again => {
                let (open, route) = outcome?;
                (self.open, self.route) = (Some(open), route);
                Ok(true)
            }
            () = gone => Ok(false),
        }
    }

    /// First byte of a response reached the user (reported once per generation).
    pub(crate) fn first_byte(&self) {
        let Some(open) = &self.open else { return };
        let (reported, generation) = (&open.entry().first_byte, self.route.generation);
        if reported.load(Ordering::Relaxed) != generation.0
            && reported.swap(generation.0, Ordering::Relaxed) != generation.0
        {
            let session = self.route.session.clone();
            self.inner.parts.table.outbox.broadcast(&FromProxy::FirstByte { session, generation });
        }
    }
}

#[cfg(test)]
mod tests;
