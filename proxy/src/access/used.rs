//! Links are good once. The ledger knows which were used; while it does not answer, a proxy knows those that were used
//! here.

use std::time::Duration;

use bivouac_ledger::tickets::Tickets;
use bivouac_protocol::ticket::{Claims, LINK_WITHIN};
use jiff::Timestamp;
use moka::sync::Cache;
use tokio::time::timeout;

use crate::metrics::Metrics;

/// Longest wait for the ledger. A person waits for it.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Twice as long as a link is good.
const REMEMBER: Duration = Duration::from_secs(120);
const CAPACITY: u64 = 100_000;

/// The links that were used.
pub(super) struct Used {
    tickets: Tickets,
    here: Cache<String, ()>,
    metrics: Metrics,
}

impl Used {
    pub(super) fn new(tickets: Tickets, metrics: Metrics) -> Self {
        Self {
            tickets,
            here: Cache::builder().max_capacity(CAPACITY).time_to_live(REMEMBER).build(),
            metrics,
        }
    }

    /// Uses a link up. `false`: somebody has.
    pub(super) async fn once(&self, link: &Claims) -> bool {
        if !self.here.entry_by_ref(&link.jti).or_insert(()).is_fresh() {
            return false;
        }
        let issued = i64::try_from(link.iat_ms).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
        let end = issued.and_then(|at| at.checked_add(LINK_WITHIN).ok()).unwrap_or(link.expires_at());
        match timeout(ANSWER_WITHIN, self.tickets.use_once(&link.jti, end)).await {
            Ok(Ok(first)) => first,
            unanswered => {
                if let Ok(Err(error)) = unanswered {
                    tracing::debug!(%error, "Whether a link was used elsewhere cannot be asked.");
                }
                self.metrics.ticket_unconfirmed();
                true
            }
        }
    }
}
