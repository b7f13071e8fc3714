//! Revoked tickets: of a session, up to a time, a user's or everybody's. State, not events: whoever was away reads it.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bivouac_protocol::SessionId;
use bivouac_protocol::ticket::{LONGEST, millis};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::{decode, encode};
use crate::{Access, Error, Ledger, Op, Transaction};

/// Where revocations live: `revoked/<session>/<user>`.
pub const PREFIX: &str = "revoked/";
/// In place of a user: everybody. No user's name is written so.
const EVERYBODY: &str = "*";
/// Clocks that differ, in milliseconds: so much longer than the longest ticket is a revocation kept.
const SLACK_MS: u64 = 60_000;

/// Tickets of this session, and of this user, that were issued up to a time open nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Revocation {
    /// Which session.
    pub session: SessionId,
    /// Whose; `None`: everybody's.
    pub user: Option<String>,
    /// Milliseconds of Unix time, by the issuers' clocks.
    pub until_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Document {
    revision: u64,
    until_ms: u64,
}

impl Revocation {
    /// Whether every ticket that it could concern has expired.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        let longest = u64::try_from(LONGEST.get().as_millis()).unwrap_or(u64::MAX);
        self.until_ms.saturating_add(longest).saturating_add(SLACK_MS) < millis(now)
    }

    fn key(session: &SessionId, user: Option<&str>) -> String {
        let user = user.map_or_else(|| EVERYBODY.to_owned(), |user| URL_SAFE_NO_PAD.encode(user));
        format!("{PREFIX}{session}/{user}")
    }

    fn of_key(key: &str, until_ms: u64) -> Option<Self> {
        let (session, user) = key.strip_prefix(PREFIX)?.split_once('/')?;
        let user = match user {
            EVERYBODY => None,
            user => Some(String::from_utf8(URL_SAFE_NO_PAD.decode(user).ok()?).ok()?),
        };
        Some(Self { session: session.parse().ok()?, user, until_ms })
    }
}

/// The revocations of a ledger.
#[derive(Clone)]
pub struct Revocations {
    ledger: Arc<dyn Ledger>,
}

impl Revocations {
    /// Those of this ledger.
    #[must_use]
    pub fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger }
    }

    /// What the ledger makes of our credentials, where it asks for any.
    #[must_use]
    pub fn access(&self) -> Option<Access> {
        self.ledger.access()
    }

    /// Writes a revocation; times only rise. What stands there afterwards.
    ///
    /// # Errors
    /// When the ledger does not answer; it may have been written or not, and writing it again is safe.
    pub async fn put(&self, wanted: &Revocation) -> Result<Revocation, Error> {
        let key = Revocation::key(&wanted.session, wanted.user.as_deref());
        loop {
            let held = self.ledger.read(&key).await?;
            let (known, index) = match &held {
                Some(entry) => (Some(decode::<Document>(entry)?.value), entry.index),
                None => (None, 0),
            };
            if let Some(known) = known.as_ref().filter(|known| known.until_ms >= wanted.until_ms) {
                return Ok(Revocation { until_ms: known.until_ms, ..wanted.clone() });
            }
            let revision = known.map_or(1, |known| known.revision + 1);
            let value = encode(&key, &Document { revision, until_ms: wanted.until_ms })?;
            let put = Op::Put { key: key.clone(), value, index };
            if let Transaction::Applied(_) = self.ledger.transact(vec![put]).await? {
                return Ok(wanted.clone());
            }
        }
    }

    /// All revocations. Lists only add: an empty one may come from a token that is refused.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn list(&self) -> Result<Vec<Revocation>, Error> {
        let mut revocations = Vec::new();
        for entry in self.ledger.list(PREFIX).await? {
            match decode::<Document>(&entry) {
                Ok(found) => revocations.extend(Revocation::of_key(&entry.key, found.value.until_ms)),
                Err(error) => tracing::error!(%error, "A revocation cannot be read."),
            }
        }
        Ok(revocations)
    }

    /// Forgets those that concern no ticket any more.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn sweep(&self, now: Timestamp) -> Result<(), Error> {
        for entry in self.ledger.list(PREFIX).await? {
            let Ok(found) = decode::<Document>(&entry) else { continue };
            let found = Revocation::of_key(&entry.key, found.value.until_ms);
            if found.is_some_and(|revocation| revocation.is_over(now)) {
                let delete = Op::Delete { key: entry.key, index: entry.index };
                self.ledger.transact(vec![delete]).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryLedger;

    fn revocation(user: Option<&str>, until_ms: u64) -> Revocation {
        let session = "abcdefghijklmnopqrst".parse().unwrap();
        Revocation { session, user: user.map(str::to_owned), until_ms }
    }

    #[tokio::test]
    async fn times_only_rise_and_each_user_has_its_own() {
        let revocations = Revocations::new(Arc::new(MemoryLedger::new()));
        let users = [None, Some("alice"), Some("*"), Some("a/b é\u{1f3d5}")];
        for user in users {
            revocations.put(&revocation(user, 1000)).await.unwrap();
        }
        assert_eq!(revocations.put(&revocation(Some("alice"), 500)).await.unwrap().until_ms, 1000);
        assert_eq!(revocations.put(&revocation(Some("alice"), 2000)).await.unwrap().until_ms, 2000);
        let mut listed = revocations.list().await.unwrap();
        listed.sort_by_key(|revocation| revocation.until_ms);
        assert_eq!(listed.len(), users.len());
        assert_eq!(listed.last(), Some(&revocation(Some("alice"), 2000)));
        assert!(users.iter().all(|user| listed.iter().any(|found| found.user.as_deref() == *user)));
    }

    #[tokio::test]
    async fn one_is_kept_for_as_long_as_a_ticket_may_live() {
        let revocations = Revocations::new(Arc::new(MemoryLedger::new()));
        revocations.put(&revocation(None, 1000)).await.unwrap();
        let end = Timestamp::from_millisecond(1000 + 24 * 3_600_000 + 60_000).unwrap();
        revocations.sweep(end).await.unwrap();
        assert_eq!(revocations.list().await.unwrap().len(), 1);
        revocations.sweep(end + jiff::SignedDuration::from_millis(1)).await.unwrap();
        assert!(revocations.list().await.unwrap().is_empty());
    }
}
