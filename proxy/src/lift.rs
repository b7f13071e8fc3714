//! A fence whose leader was lost, even once, is lifted by this proxy itself: it makes the attempt's commit impossible,
//! or finds that it has happened.

use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::Ledger;
use bivouac_ledger::records::{Records, Update, bumped};
use bivouac_protocol::{Generation, SessionId};

use crate::activity::gate::Fenced;
use crate::activity::table::Table;
use crate::admission::standing::Standing;
use crate::routes::Routes;
use crate::routes::merge::Over;

/// Longest wait for one answer of the ledger.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Pause before it is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Lifts fences.
pub(crate) struct Lifter {
    table: Arc<Table>,
    routes: Arc<Routes>,
    records: Records,
}

impl Lifter {
    pub(crate) fn new(table: Arc<Table>, routes: Arc<Routes>, ledger: Arc<dyn Ledger>) -> Self {
        Self { table, routes, records: Records::new(ledger) }
    }

    /// Sees to it that exactly this fence does not stay: until it is lifted, or its generation is over.
    pub(crate) async fn release(&self, session: &SessionId, fenced: Fenced) {
        while self.table.is_fenced_by(session, fenced.tag) {
            if self.try_release(session, fenced).await {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Raises the record's revision while it is running, so that the attempt's commit cannot be applied any more, and
    /// lifts the fence. `false`: the ledger does not answer, or the stop was committed.
    pub(crate) async fn try_release(&self, session: &SessionId, fenced: Fenced) -> bool {
        // A write that is lost may have been applied; another one raises the revision once more, which does no harm.
        let bump = self.records.update(session, None, |record| bumped(record, fenced.generation));
        match tokio::time::timeout(ANSWER_WITHIN, bump).await {
            Ok(Ok(Update::Written(_))) => {
                self.table.lift(session, fenced.tag);
                tracing::debug!(session.id = %session, "A fence was lifted: its leader is lost, or does not get on.");
                return true;
            }
            Ok(Ok(Update::Declined(record))) => {
                let standing = Standing::of(record.as_ref().map(|record| &record.value));
                if standing.generation().is_some_and(|generation| generation < fenced.generation) {
                    // The ledger was restored from an older snapshot, and the record that the commit names with it.
                    self.table.lift(session, fenced.tag);
                    return true;
                }
                conclude(&self.routes, session, fenced.generation, &standing);
            }
            Ok(Err(error)) => tracing::debug!(session.id = %session, %error, "A fence cannot be lifted yet."),
            Err(_) => tracing::debug!(session.id = %session, "A fence cannot be lifted yet: no answer."),
        }
        false
    }
}

/// Retracts the fenced generation if the record says that it is over. While it is running or stopping, nothing follows.
pub(crate) fn conclude(routes: &Routes, session: &SessionId, fenced: Generation, standing: &Standing) {
    match standing {
        Standing::Unknown => routes.retract(session, &Over::ended(fenced, None, false)),
        Standing::Ended { generation, reason, wake } if *generation >= fenced => {
            routes.retract(session, &Over::ended(*generation, reason.clone(), *wake));
        }
        Standing::Claimed(generation)
        | Standing::Running { generation, .. }
        | Standing::Stopping { generation, .. }
            if *generation > fenced =>
        {
            routes.retract_before(session, *generation);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
