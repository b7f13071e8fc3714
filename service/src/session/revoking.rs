//! Revoking tickets: written first, then told to every proxy. What another replica wrote, or a replica that did not live
//! to tell it, is found in the ledger.

use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::revoked::Revocation;
use bivouac_protocol::SessionId;
use bivouac_protocol::ticket::millis;
use jiff::Timestamp;
use tokio::time::sleep;

use super::supervisor::News;
use super::{CommandError, Outside, Sessions};

/// Time between two lists of all revocations.
const LIST_EVERY: Duration = Duration::from_secs(30);
const A_MILLISECOND: Duration = Duration::from_millis(1);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// With every so many lists, those that are over are swept up.
const SWEEP_EVERY: u32 = 20;

impl Sessions {
    /// Refuses all tickets of the session that were issued until now, or this user's, and cuts what they opened. Once this
    /// returns it is decided; the proxies that are linked hear of it at once, the others before they serve again.
    ///
    /// # Errors
    /// When the ledger does not answer: it may be written all the same, and may be asked for again.
    pub async fn revoke(&self, id: &SessionId, user: Option<&str>) -> Result<(), CommandError> {
        let until_ms = millis(Timestamp::now());
        let wanted = Revocation { session: id.clone(), user: user.map(str::to_owned), until_ms };
        let written = self.outside.revocations.put(&wanted).await?;
        self.outside.tell(News::Revoked(vec![written]));
        // Tickets name milliseconds: one that is issued after this was answered must not be of the same.
        sleep(A_MILLISECOND).await;
        Ok(())
    }
}

/// Reads all revocations again and again, for as long as the process lives.
pub(super) async fn follow(outside: Arc<Outside>) {
    let mut rounds = 0u32;
    loop {
        match outside.revocations.list().await {
            Ok(revocations) => outside.tell(News::Revoked(revocations)),
            Err(error) => {
                tracing::debug!(%error, "The revoked tickets cannot be read.");
                sleep(PAUSE).await;
                continue;
            }
        }
        if rounds.is_multiple_of(SWEEP_EVERY)
            && let Err(error) = outside.revocations.sweep(Timestamp::now()).await
        {
            tracing::debug!(%error, "Old revocations are not swept up yet.");
        }
        rounds = rounds.wrapping_add(1);
        // Not in step with the other replicas.
        sleep(LIST_EVERY.mul_f64(rand::random_range(0.75..1.25))).await;
    }
}
