//! The leader's lock: one replica starts idle and lifetime stops and purges; its term orders its attempts.

use std::sync::Arc;
use std::time::Duration;

use bivouac_protocol::{Nonce, Term};
use serde::{Deserialize, Serialize};

use crate::document::encode;
use crate::{Error, Ledger, LockSession, Op, Transaction};

/// The lock's key, below the ledger's prefix.
pub const KEY: &str = "leader";
/// Life of a leadership that is not renewed. Consul's shortest; a session may live up to twice as long.
pub const TTL: Duration = Duration::from_secs(10);

/// One leadership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leadership {
    /// Orders it among all leaderships.
    pub term: Term,
    /// Holds the lock; fresh for each leadership, so that a check of the holder is a check of the term.
    pub session: LockSession,
}

/// What stands in the lock's key, for people.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    replica: String,
    nonce: Nonce,
}

/// Tries once to become the leader, with a session of its own. `None` when somebody else is.
///
/// # Errors
/// When the ledger does not answer; a session that could not be closed expires by itself.
pub async fn acquire(ledger: &Arc<dyn Ledger>, replica: &str) -> Result<Option<Leadership>, Error> {
    if ledger.read(KEY).await?.is_some_and(|entry| entry.holder.is_some()) {
        return Ok(None);
    }
    let session = ledger.open_session(&format!("bivouac leader {replica}"), TTL).await?;
    let value = encode(KEY, &Holder { replica: replica.to_owned(), nonce: Nonce::random() })?;
    let lock = Op::Lock { key: KEY.to_owned(), value, session: session.clone() };
    let outcome = ledger.transact(vec![lock]).await;
    if let Ok(Transaction::Applied(index)) = outcome {
        return Ok(Some(Leadership { term: Term(index), session }));
    }
    // Without an answer the session may hold the lock: as long as it lives nobody would lead.
    let closed = ledger.close_session(&session).await;
    outcome.and(closed).map(|()| None)
}
