//! The orders of a stop: fence, unfence, lift. What this proxy answers leaves under the entry's lock, so that a knock
//! can never overtake the answer that it belongs to.

use std::time::Duration;

use bivouac_protocol::link::{Fence, FenceEcho, FromProxy};
use bivouac_protocol::{FenceMode, FenceTag, SessionId};

use super::gate::{FenceAnswer, Fenced};
use super::table::Table;
use crate::link::outbox::LinkId;

impl Table {
    /// Installs the fence, if nothing speaks against it, and answers on the link that the order came from.
    pub(crate) fn fence(&self, order: &Fence, from: LinkId) -> FenceAnswer {
        let fenced = Fenced { tag: order.tag, generation: order.generation };
        let min_idle = Duration::from_millis(order.min_idle_ms);
        let now = self.clock.now();
        self.with(&order.session, |entry, state| {
            let before = state.gate.fenced();
            let answer = state.gate.fence(fenced, order.mode, min_idle, now);
            if before.is_some() && before != state.gate.fenced() {
                entry.announce();
            }
            let echo =
                FenceEcho { session: order.session.clone(), generation: order.generation, tag: order.tag };
            match answer {
                FenceAnswer::Fenced => self.outbox.send(from, &FromProxy::Fenced(echo)),
                FenceAnswer::Busy => {
                    if order.mode == FenceMode::Quiet {
                        // Not every byte is reported: this is when it matters what was last.
                        self.report(entry, state);
                    }
                    self.outbox.send(from, &FromProxy::Busy(echo));
                }
                FenceAnswer::Stale => {}
            }
            self.metrics.fenced(answer);
            answer
        })
    }

    /// The attempt was given up: whoever waits may go in.
    pub(crate) fn unfence(&self, session: &SessionId, order: Fenced) {
        self.with(session, |entry, state| {
            if state.gate.unfence(order) {
                entry.announce();
            }
        });
    }

    /// The attempt can no longer commit. `false`: its fence is not there any more.
    pub(crate) fn lift(&self, session: &SessionId, tag: FenceTag) -> bool {
        let lift = self.peek(session, |entry, state| {
            let lifted = state.gate.lift(tag);
            if lifted {
                entry.announce();
            }
            lifted
        });
        lift.unwrap_or(false)
    }

    /// Whether exactly this attempt's fence is installed.
    pub(crate) fn is_fenced_by(&self, session: &SessionId, tag: FenceTag) -> bool {
        self.peek(session, |_, state| state.gate.fenced().is_some_and(|fenced| fenced.tag == tag))
            .unwrap_or(false)
    }
}
