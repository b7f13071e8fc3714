//! Where sessions listen: what replicas pushed and what the proxy looked up itself, merged.

pub(crate) mod backends;
pub(crate) mod merge;
pub(crate) mod resolve;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use bivouac_protocol::{Generation, Reason, Route, SessionId};
use parking_lot::Mutex;

use crate::activity::table::Table;
use backends::Backends;
use merge::Over;

/// The routes of all sessions. They live in the sessions' entries; this adds the rules that span sessions.
pub(crate) struct Routes {
    table: Arc<Table>,
    permitted: Backends,
    /// Who listens where: an address belongs to one session. Locked before any entry.
    addresses: Mutex<HashMap<SocketAddr, SessionId>>,
}

impl Routes {
    pub(crate) fn new(table: Arc<Table>, permitted: Backends) -> Self {
        Self { table, permitted, addresses: Mutex::default() }
    }

    /// Takes what is new in a route, unless its generation is over. `false`: no backend may live there.
    pub(crate) fn push(&self, route: Route) -> bool {
        if let Some(address) = addresses_of(&route).find(|address| !self.permitted.permit(*address)) {
            tracing::error!(
                session.id = %route.session,
                %address,
                "A route leads outside of the networks and ports where backends may live; it is not used. \
                 See --backend-network and --backend-ports."
            );
            return false;
        }
        let route = Arc::new(route);
        let mut addresses = self.addresses.lock();
        let replaced = self.table.with(&route.session, |entry, state| {
            let before = state.known.route().cloned();
            if !state.known.push(&route) {
                return None;
            }
            if let Some(earlier) = route.generation.0.checked_sub(1) {
                // Its predecessors' fences have done their work: a successor was placed.
                state.gate.retract(Generation(earlier));
            }
            entry.announce();
            Some((before, state.known.route().cloned()))
        });
        let Some((before, Some(now))) = replaced else { return true };
        if let Some(before) = before {
            release(&mut addresses, &before);
        }
        for address in addresses_of(&now) {
            let evicted = addresses.insert(address, now.session.clone());
            if let Some(other) = evicted.filter(|other| *other != now.session) {
                self.evict(&mut addresses, &other, address);
            }
        }
        true
    }

    /// The host has given the address to another session, so whoever had it is not there any more.
    fn evict(
        &self,
        addresses: &mut HashMap<SocketAddr, SessionId>,
        session: &SessionId,
        address: SocketAddr,
    ) {
        self.table.peek(session, |entry, state| {
            let has = |route: &&Arc<Route>| addresses_of(route).any(|known| known == address);
            if let Some(route) = state.known.route().filter(has).cloned() {
                tracing::debug!(session.id = %session, %address, "The address was given to another session.");
                state.known.forget(&route);
                release(addresses, &route);
                state.gate.forget_confirmation();
                state.verified_at = None;
                entry.announce();
            }
        });
    }

    /// Closes every generation up to this one, for ever.
    pub(crate) fn retract(&self, session: &SessionId, over: &Over) {
        let mut addresses = self.addresses.lock();
        let now = self.table.clock.now();
        self.table.with(session, |entry, state| {
            let (before, fenced) = (state.known.route().cloned(), state.gate.fenced());
            let news = state.known.retract(over);
            state.gate.retract(over.generation);
            if !news && state.gate.fenced() == fenced {
                return;
            }
            if let Some(before) = before.filter(|_| state.known.route().is_none()) {
                release(&mut addresses, &before);
            }
            state.retracted_at = Some(now);
            state.verified_at = None;
            entry.announce();
        });
    }

    /// Closes every generation before this one: it is the one that the record names.
    pub(crate) fn retract_before(&self, session: &SessionId, generation: Generation) {
        if let Some(earlier) = generation.0.checked_sub(1) {
            let over = Over { generation: Generation(earlier), ended: true, reason: None, wake: false };
            self.retract(session, &over);
        }
    }

    /// Forgets that a generation is over: a read of the record that was begun when that was known says that it lives. The
    /// ledger was restored from an older snapshot, and it decides.
    pub(crate) fn reopen(&self, session: &SessionId, generation: Generation) {
        let mut addresses = self.addresses.lock();
        self.table.peek(session, |entry, state| {
            let before = state.known.route().cloned();
            state.known.reopen(generation);
            state.gate.reopen(generation);
            if let Some(before) = before.filter(|_| state.known.route().is_none()) {
                release(&mut addresses, &before);
            }
            state.used = Some(generation);
            state.verified_at = None;
            tracing::warn!(session.id = %session, %generation, "A session's record has gone back: its ledger was restored.");
            entry.announce();
        });
    }

    /// Drops exactly this route: it turned out not to lead there.
    pub(crate) fn forget(&self, wrong: &Route) {
        let mut addresses = self.addresses.lock();
        self.table.peek(&wrong.session, |_, state| {
            let before = state.known.route().cloned();
            if let Some(before) = before.filter(|_| state.known.forget(wrong)) {
                release(&mut addresses, &before);
            }
            state.verified_at = None;
        });
    }

    /// A replica's full state did not name the session: its route may be an old one, and the record is read again
    /// before the next request.
    pub(crate) fn doubt_unnamed(&self, named: &HashSet<SessionId>) {
        let unnamed: Vec<_> = {
            let addresses = self.addresses.lock();
            addresses.values().filter(|session| !named.contains(*session)).cloned().collect()
        };
        for session in unnamed {
            self.table.peek(&session, |_, state| {
                state.gate.forget_confirmation();
                state.verified_at = None;
            });
        }
    }
}

/// Where all its ports listen.
fn addresses_of(route: &Route) -> impl Iterator<Item = SocketAddr> {
    let further = route.further.values().map(|endpoint| endpoint.address);
    std::iter::once(route.address).chain(further)
}

fn release(addresses: &mut HashMap<SocketAddr, SessionId>, route: &Route) {
    for address in addresses_of(route) {
        if addresses.get(&address) == Some(&route.session) {
            addresses.remove(&address);
        }
    }
}

impl Over {
    /// Everything before this is over, and nothing more is known about it.
    pub(crate) fn ended(generation: Generation, reason: Option<Reason>, wake: bool) -> Self {
        Self { generation, ended: true, reason, wake }
    }
}

#[cfg(test)]
mod tests;
