//! Whether, and where to, a request may go: guard first, then route, then the record, with a wait wherever waiting helps.
//!
//! [`visit`] is the way of one request, [`look`] each of its looks, [`place`] what it finds out by itself, [`at_fence`] its
//! wait for the outcome of a stop; [`standing`] is what a record means for it. Once it is [`admitted`], [`carrier`] is how
//! its bytes go, and [`cut`] what ends it before its time.

mod admitted;
mod at_fence;
mod carrier;
mod cut;
mod look;
mod place;
pub(crate) mod standing;
mod visit;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bivouac_protocol::{PortLabel, Route, RoutePhase, SessionId};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::access::{Access, Grant};
use crate::activity::entry::State;
use crate::activity::table::{Entered, Open, Table};
use crate::hold::{Holds, Seat};
use crate::host::Target;
use crate::lift::Lifter;
use crate::membership::Membership;
use crate::metrics::Metrics;
use crate::page::timeline::Progress;
use crate::refusal::{Refusal, START_PAGE_REFRESH};
use crate::routes::Routes;
use crate::routes::resolve::Resolver;
pub(crate) use admitted::Admitted;
pub(crate) use carrier::{Carrier, Held};
pub(crate) use cut::Cut;
use visit::Visit;

/// A route is good as long as some replica was heard this recently; otherwise it is confirmed from record and directory.
const HEARD_WITHIN: Duration = Duration::from_secs(3);

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
    /// Knows whose tickets were revoked.
    pub(crate) access: Arc<Access>,
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

impl Admission {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner { parts, closed: AtomicBool::new(false), cut: CancellationToken::new() }))
    }

    /// Guard first, then route, then (first time per generation) the record read. Holds while the session starts, is
    /// fenced or is woken, or the port it wants is not ready, within bounds. `gone` resolves when the client has left: the
    /// wait ends with `None`.
    pub(crate) async fn admit(
        &self,
        target: &Target,
        grant: Grant,
        gone: impl Future<Output = ()>,
    ) -> Result<Option<Admitted>, Refusal> {
        let inner = &self.0;
        let entered = inner.parts.table.enter(&target.session);
        if inner.closed.load(Ordering::SeqCst) {
            return Err(Refusal::Draining);
        }
        if let Entered::Open(open) = &entered
            && let Some(route) = inner.known_route(open, target.port.as_ref())
        {
            inner.parts.table.metrics.hit();
            let Entered::Open(open) = entered else { return Ok(None) };
            return self.admitted(open, route, target, grant).map(Some);
        }
        // Apart: few requests wait, and every connection would have the room for it.
        let visit = Box::pin(Visit::new(inner, target, entered).run());
        tokio::select! {
            biased;
            outcome = visit => {
                let (open, route) = outcome?;
                self.admitted(open, route, target, grant).map(Some)
            }
            () = gone => Ok(None),
        }
    }

    fn admitted(
        &self,
        open: Open,
        route: Arc<Route>,
        target: &Target,
        grant: Grant,
    ) -> Result<Admitted, Refusal> {
        self.0.parts.access.lets_in(&route, &grant)?;
        let endpoint = route.endpoint(target.port.as_ref()).ok_or(Refusal::UnknownPort)?;
        let _seat = Seat::take(open.entry(), route.rules.max_connections)?;
        let (port, inner) = (target.port.clone(), self.0.clone());
        Ok(Admitted {
            route,
            endpoint,
            port,
            grant,
            _seat,
            open: Some(open),
            inner,
            refused: 0,
            give_up: None,
        })
    }

    /// What a person is told who waits for a session in front of a blank page: how far its start has come.
    pub(crate) fn starting(&self, session: &SessionId) -> Refusal {
        let progress = self.0.parts.table.peek(session, |_, state| progress(state)).unwrap_or_default();
        Refusal::StillStarting { retry_after: START_PAGE_REFRESH, progress }
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

    /// Who may enter.
    pub(crate) fn access(&self) -> &Arc<Access> {
        &self.0.parts.access
    }
}

/// How far the start has come of which a waiting request has read.
fn progress(state: &State) -> Progress {
    let recorded = state.recorded.as_ref().filter(|recorded| !state.is_over(recorded.generation));
    let Some(recorded) = recorded else { return Progress::default() };
    let placed = state.known.route().is_some_and(|route| route.generation == recorded.generation);
    Progress::of(&recorded.timeline, placed, Timestamp::now())
}

impl Inner {
    /// The route, where nothing has to be asked.
    fn known_route(&self, open: &Open, port: Option<&PortLabel>) -> Option<Arc<Route>> {
        let state = open.entry().lock();
        let route = state.known.route().filter(|route| {
            route.endpoint(port).is_some_and(|endpoint| endpoint.phase == RoutePhase::Ready)
                && state.gate.is_confirmed(route.generation)
        });
        let route = route.cloned()?;
        if !self.is_fresh(&state) {
            return None;
        }
        if !state.exists || state.used != Some(route.generation) {
            drop(state);
            self.parts.table.mark_existing(open.entry(), route.generation);
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

#[cfg(test)]
mod tests;
