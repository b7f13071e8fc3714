//! A request that was let in: where it goes, until when it may, and what follows if nobody answers there.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bivouac_protocol::link::FromProxy;
use bivouac_protocol::{Endpoint, PortLabel, Reason, ReasonCode, Route};

use super::visit::Visit;
use super::{Cut, Inner};
use crate::access::Grant;
use crate::activity::table::{Entered, Open};
use crate::hold::Seat;
use crate::host::Target;
use crate::metrics::Metrics;
use crate::refusal::{Refusal, flushes};

/// Connections refused in a row before a backend counts as unreachable, if it was ready once.
const REFUSED_AT_MOST: u32 = 7;
/// Longest wait between two connections to a backend that refuses them.
const LONGEST_BACKOFF: Duration = Duration::from_millis(500);
/// What a backend sent before it exited may still be on its way to the client.
pub(super) const FLUSH_AFTER_EXIT: Duration = Duration::from_secs(5);

/// A request that was admitted to a session. Dropping it ends the use. (The order of the fields is that in which they
/// are dropped: the guard goes last.)
pub(crate) struct Admitted {
    /// Where the session listens.
    pub(super) route: Arc<Route>,
    pub(super) endpoint: Endpoint,
    pub(super) port: Option<PortLabel>,
    pub(super) grant: Grant,
    pub(super) _seat: Seat,
    pub(super) open: Option<Open>,
    pub(super) inner: Arc<Inner>,
    pub(super) refused: u32,
    pub(super) give_up: Option<tokio::time::Instant>,
}

impl Admitted {
    /// Where the session listens, on all its ports.
    pub(crate) fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// The port that it goes to.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// As whom it was let in.
    pub(crate) fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Where its tunnel is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.inner.parts.table.metrics
    }

    /// Resolves as soon as it is known that the generation is over, with the reason.
    pub(crate) async fn over_at_last(&self) -> Option<Reason> {
        self.once(|| self.over()).await
    }

    /// Resolves when this use has to end before its time.
    pub(crate) async fn cut(&self) -> Cut {
        let why = || match self.over() {
            Some(reason) => Some(Cut::Over(reason)),
            None => self.is_revoked().then_some(Cut::Revoked),
        };
        let draining = self.inner.cut.cancelled();
        let cut = tokio::select! {
            cut = self.once(why) => cut.unwrap_or(Cut::Draining),
            () = draining => return Cut::Draining,
        };
        // What a backend sent before it exited may still be on its way to the client.
        if matches!(&cut, Cut::Over(reason) if flushes(reason)) {
            tokio::select! {
                () = self.inner.cut.cancelled() => {}
                () = tokio::time::sleep(FLUSH_AFTER_EXIT) => {}
            }
        }
        cut
    }

    /// Waits for something to become true of the session; `None`: this is no use of it any more.
    async fn once<T>(&self, look: impl Fn() -> Option<T>) -> Option<T> {
        let open = self.open.as_ref()?;
        loop {
            let changed = open.entry().changed();
            if let Some(found) = look() {
                return Some(found);
            }
            changed.await;
        }
    }

    /// Whether the ticket by which it was let in was revoked since.
    fn is_revoked(&self) -> bool {
        self.grant.ticketed && self.inner.parts.access.is_revoked(&self.route.session, &self.grant)
    }

    /// Why this generation is over, if it is.
    pub(super) fn over(&self) -> Option<Reason> {
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
        let target = Target { session: self.route.session.clone(), port: self.port.clone() };
        let mut visit = Visit::new(&self.inner, &target, Entered::Open(open)).until(give_up);
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
                parts.access.lets_in(&route, &self.grant)?;
                self.endpoint = route.endpoint(self.port.as_ref()).ok_or(Refusal::UnknownPort)?;
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
