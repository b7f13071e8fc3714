//! Where a running session listens, as far as the proxy finds out by itself: the directory says where, the record what its
//! template said.

use std::sync::Arc;
use std::time::Duration;

use bivouac_protocol::link::FromProxy;
use bivouac_protocol::{AllocationId, Endpoint, Generation, Policy, Route, RoutePhase};

use super::look::Look;
use super::visit::Visit;
use crate::activity::entry::Entry;
use crate::refusal::Refusal;
use crate::routes::resolve::Unreachable;

/// A replica that is asked for a route gets this long before the directory is tried.
const PATIENCE: Duration = Duration::from_millis(250);

impl Visit<'_> {
    /// No replica says whether this route is still good: the directory does.
    pub(super) async fn verify(
        &mut self,
        entry: &Arc<Entry>,
        route: &Arc<Route>,
        policy: &Policy,
    ) -> Result<Look, Refusal> {
        let parts = &self.inner.parts;
        match self.place(route.generation, policy).await {
            Ok(Some(place)) if place.allocation == route.allocation => {
                if place.address != route.address {
                    parts.routes.forget(route);
                }
                self.accept(entry, place)
            }
            Ok(_) => Ok(Look::Wait(self.longer())),
            Err(error) => self.without_record(entry, Some(route.clone()), &error),
        }
    }

    /// There is no route: ask a replica, or look it up.
    pub(super) async fn find(
        &mut self,
        entry: &Arc<Entry>,
        generation: Generation,
        allocation: Option<&AllocationId>,
        was_ready: bool,
        policy: &Policy,
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
        match self.place(generation, policy).await {
            Ok(Some(place)) if allocation.is_none_or(|id| *id == place.allocation) => {
                self.accept(entry, place)
            }
            Ok(_) => Ok(Look::Wait(self.longer())),
            Err(error) => self.without_record(entry, None, &error),
        }
    }

    /// Where the directory says that this generation listens, with what its record knows of it.
    async fn place(&self, generation: Generation, policy: &Policy) -> Result<Option<Route>, Unreachable> {
        let resolver = &self.inner.parts.resolver;
        let Some(place) = resolver.place(&self.id, generation).await? else { return Ok(None) };
        let completed = self.completed(&place, policy);
        if completed.as_ref().is_none_or(|route| self.phase_on(route).is_none()) {
            // What is not registered yet may be in a moment: that it was not must not be remembered.
            resolver.forget_place(&place).await;
        }
        Ok(completed)
    }

    /// Readiness is known to neither, and a refused connection is no harm; but a replica that can be asked knows it of
    /// further ports, of which the record never tells. `None`: the default port is not registered yet.
    fn completed(&self, place: &Route, policy: &Policy) -> Option<Route> {
        let further_phase = if self.is_linked() { RoutePhase::Starting } else { RoutePhase::Ready };
        let known = policy.further.iter().filter_map(|(label, port)| {
            let address = place.endpoint(Some(label))?.address;
            Some((label.clone(), Endpoint { address, protocol: port.protocol, phase: further_phase }))
        });
        Some(Route {
            session: place.session.clone(),
            generation: place.generation,
            allocation: place.allocation.clone(),
            port: policy.port.clone(),
            address: place.endpoint(Some(&policy.port))?.address,
            protocol: policy.protocol,
            phase: RoutePhase::Ready,
            further: known.collect(),
            quiet: policy.quiet_timeout.is_some(),
            rules: policy.rules.clone(),
        })
    }

    /// Takes a place that record and directory agree about.
    fn accept(&mut self, entry: &Arc<Entry>, place: Route) -> Result<Look, Refusal> {
        let (parts, generation) = (&self.inner.parts, place.generation);
        if !parts.routes.push(place) {
            return Err(Refusal::Unresolvable);
        }
        let mut state = entry.lock();
        state.verified_at = Some(parts.table.clock.now());
        let found = state.known.route().is_some_and(|route| self.phase_on(route).is_some());
        // Where it was retracted since the record was read, the record will say so in a moment; and a port that is not
        // registered yet will be.
        Ok(if state.known.is_over(generation) || !found { Look::Wait(self.longer()) } else { Look::Again })
    }
}
