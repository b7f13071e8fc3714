//! What a replica says, and what follows from it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bivouac_ledger::revoked::Revocation;
use bivouac_protocol::link::{FenceEcho, FromService, Retract};
use bivouac_protocol::{Phase, SessionId};

use super::Parts;
use super::outbox::LinkId;
use super::session::LinkError;
use crate::activity::entry::Outcome;
use crate::activity::gate::{FenceAnswer, Fenced};
use crate::routes::merge::Over;

/// What was heard on one link.
pub(super) struct Hearing {
    parts: Arc<Parts>,
    link: LinkId,
    /// Sessions that the full state has named so far; `None` once it has ended.
    named: Option<HashSet<SessionId>>,
    /// Fences that were installed over this link, and not lifted over it.
    fences: HashMap<SessionId, Fenced>,
}

impl Hearing {
    pub(super) fn new(parts: Arc<Parts>, link: LinkId) -> Self {
        Self { parts, link, named: Some(HashSet::new()), fences: HashMap::new() }
    }

    pub(super) fn hear(&mut self, message: FromService) -> Result<(), LinkError> {
        let Parts { table, routes, .. } = self.parts.as_ref();
        if self.named.is_none() {
            table.outbox.hear(table.clock.now());
        }
        match message {
            FromService::Ping => {}
            FromService::Route(route) => {
                if let Some(named) = &mut self.named {
                    named.insert(route.session.clone());
                }
                routes.push(route);
            }
            FromService::RoutesEnd => self.synced(),
            FromService::Retract(retract) => self.retract(retract),
            FromService::Fence(order) => {
                if table.fence(&order, self.link) == FenceAnswer::Fenced {
                    let fenced = Fenced { tag: order.tag, generation: order.generation };
                    self.fences.insert(order.session, fenced);
                }
            }
            FromService::Unfence(FenceEcho { session, generation, tag }) => {
                table.unfence(&session, Fenced { tag, generation });
                if self.fences.get(&session).is_some_and(|fenced| fenced.tag <= tag) {
                    self.fences.remove(&session);
                }
            }
            FromService::Outcome { session, generation, phase, reason } => {
                self.answer(&session, Outcome { generation, phase, reason });
            }
            FromService::Revoke { session, user, until_ms } => {
                self.parts.access.revoke(&Revocation { session, user, until_ms });
            }
            FromService::Farewell => self.parts.farewell.notify_one(),
            FromService::Refused { detail } => return Err(LinkError::Refused(detail)),
            FromService::Welcome { .. } => return Err(LinkError::Unexpected("a second welcome")),
        }
        Ok(())
    }

    /// The replica's full state has arrived.
    fn synced(&mut self) {
        let Parts { table, routes, .. } = self.parts.as_ref();
        if let Some(named) = self.named.take() {
            routes.doubt_unnamed(&named);
            table.outbox.synced(self.link);
            table.outbox.hear(table.clock.now());
            table.metrics.links_up(table.outbox.up());
        }
    }

    fn retract(&mut self, retract: Retract) {
        let Retract { session, generation, ended, reason, wake } = retract;
        if self.fences.get(&session).is_some_and(|fenced| fenced.generation <= generation) {
            self.fences.remove(&session);
        }
        self.parts.routes.retract(&session, &Over { generation, ended, reason: reason.clone(), wake });
        if ended && reason.as_ref().is_some_and(|reason| reason.code.is_failed_start()) {
            // Also the answer to a wake that has to wait: starts fail at the moment.
            let outcome = Outcome { generation: Some(generation), phase: Some(Phase::Ended), reason };
            self.answer(&session, outcome);
        }
    }

    /// Tells those who wait what a replica has answered.
    fn answer(&self, session: &SessionId, outcome: Outcome) {
        let table = &self.parts.table;
        table.peek(session, |entry, state| {
            state.outcome = Some((table.next_round(), outcome));
            entry.announce();
        });
    }

    /// The link was lost, and with it whoever might lift its fences. Whether it was up.
    pub(super) fn end(self) -> bool {
        for (session, fenced) in self.fences {
            let lifter = self.parts.lifter.clone();
            tokio::spawn(async move { lifter.release(&session, fenced).await });
        }
        self.named.is_none()
    }
}
