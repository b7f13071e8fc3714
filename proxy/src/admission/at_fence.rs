//! Waiting for the outcome of a stop, at its fence: requests that came after it, and bytes of carriers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Inner;
use super::standing::Standing;
use super::visit::{ONCE_IN, RECHECK};
use crate::activity::entry::Entry;
use crate::activity::gate::Fenced;
use crate::activity::table::AtFence;
use crate::lift::conclude;

/// A commit that nothing is known of after this long is not on its way.
pub(super) const STUCK: Duration = Duration::from_secs(3);

impl Inner {
    /// Waits until a fence is gone. Its answer may get lost, so the record is read every second.
    pub(super) async fn outcome_of_stop(&self, at_fence: &AtFence) {
        let (entry, since) = (&at_fence.entry, Instant::now());
        loop {
            let changed = entry.changed();
            if entry.lock().gate.fenced() != Some(at_fence.fenced) {
                return;
            }
            if tokio::time::timeout(RECHECK, changed).await.is_err() {
                self.check_stop(entry, at_fence.fenced, since.elapsed() >= STUCK).await;
            }
        }
    }

    /// Finds out what became of the generation that is fenced, once a second for all who wait. A stop that is `stuck`
    /// while the session runs has a leader that is cut off from the ledger, though not from us: it is made impossible.
    pub(super) async fn check_stop(&self, entry: &Arc<Entry>, fenced: Fenced, stuck: bool) {
        let parts = &self.parts;
        let now = parts.table.clock.now();
        {
            let mut state = entry.lock();
            if state.checked_at.is_some_and(|at| now.saturating_sub(at) < ONCE_IN) {
                return;
            }
            state.checked_at = Some(now);
        }
        if stuck {
            parts.lifter.try_release(&entry.id, fenced).await;
            return;
        }
        let Ok(record) = parts.resolver.record_apart(&entry.id).await else { return };
        conclude(&parts.routes, &entry.id, fenced.generation, &Standing::of(record.as_ref()));
    }
}
