//! The member proxies: joined and removed in single transactions, so that a stop's commit, checked against the list it
//! was prepared with, can never overlook one.

use std::collections::BTreeSet;
use std::sync::Arc;

use bivouac_protocol::member::{Member, Members as Document, Removal, RemovalCause};
use bivouac_protocol::{BootId, Nonce};
use jiff::Timestamp;

use crate::document::{Versioned, decode, encode};
use crate::{Error, Index, Ledger, Op, Transaction};

/// The list's key, below the ledger's prefix.
pub const KEY: &str = "members";
/// Where each proxy's own document lives.
pub const PREFIX: &str = "proxies/";

/// The members of this ledger.
#[derive(Clone)]
pub struct Members {
    ledger: Arc<dyn Ledger>,
}

/// The key of one proxy's document.
#[must_use]
pub fn key(boot: &BootId) -> String {
    format!("{PREFIX}{boot}")
}

impl Members {
    /// The members of this ledger.
    #[must_use]
    pub fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger }
    }

    /// What the ledger makes of our credentials, where it asks for any.
    #[must_use]
    pub fn access(&self) -> Option<crate::Access> {
        self.ledger.access()
    }

    /// A consistent read. `None`: no proxy has ever joined, or the read is not to be believed; nothing may be
    /// concluded from it.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn read(&self) -> Result<Option<Versioned<Document>>, Error> {
        self.ledger.read(KEY).await?.map(|entry| decode(&entry)).transpose()
    }

    /// Waits for a change of the list since `index`.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn watch(
        &self,
        index: Index,
        wait: std::time::Duration,
    ) -> Result<Option<Versioned<Document>>, Error> {
        self.ledger.watch(KEY, index, wait).await?.map(|entry| decode(&entry)).transpose()
    }

    /// The members' own documents, for people. Lists only add.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn list(&self) -> Result<Vec<Member>, Error> {
        let entries = self.ledger.list(PREFIX).await?;
        Ok(entries
            .iter()
            .filter_map(|entry| decode::<Member>(entry).ok())
            .map(|member| member.value)
            .collect())
    }

    /// Joins, and removes earlier boots of the same host that are known to be dead, in one transaction.
    ///
    /// # Errors
    /// When the ledger does not answer. Joining again with the same boot is safe.
    pub async fn join(&self, member: &Member, dead: &[BootId], now: Timestamp) -> Result<(), Error> {
        loop {
            let list = self.read().await?;
            let own = self.ledger.read(&key(&member.boot)).await?;
            let mut next = successor(list.as_ref().map(|list| &list.value));
            next.boots.insert(member.boot.clone());
            let mut ops = Vec::new();
            for boot in dead {
                if next.boots.remove(boot) {
                    next.removed =
                        Some(Removal { boot: boot.clone(), cause: RemovalCause::LockTaken, at: now });
                }
                if let Some(entry) = self.ledger.read(&key(boot)).await? {
                    ops.push(Op::Delete { key: key(boot), index: entry.index });
                }
            }
            let own_key = key(&member.boot);
            let value = encode(&own_key, member)?;
            ops.push(Op::Put { key: own_key, value, index: own.map_or(0, |entry| entry.index) });
            ops.push(put(&next, list.map_or(0, |list| list.index))?);
            if let Transaction::Applied(_) = self.ledger.transact(ops).await? {
                return Ok(());
            }
        }
    }

    /// Notes that somebody hears a member whose Consul session is gone: silence to one replica is not silence to all.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn vouch(&self, boot: &BootId, now: Timestamp) -> Result<(), Error> {
        let key = key(boot);
        let Some(entry) = self.ledger.read(&key).await? else { return Ok(()) };
        let member = Member { vouched_at: Some(now), ..decode::<Member>(&entry)?.value };
        let put = Op::Put { value: encode(&key, &member)?, key, index: entry.index };
        // Refused: it was changed meanwhile, or is gone; either says as much as this would have.
        self.ledger.transact(vec![put]).await.map(drop)
    }

    /// Tells a member to drain, by its own document: it watches that, whichever replicas it hears. `None`: no such member.
    ///
    /// # Errors
    /// When the ledger does not answer. Telling it again is safe.
    pub async fn drain(&self, boot: &BootId, now: Timestamp) -> Result<Option<Member>, Error> {
        let key = key(boot);
        loop {
            let Some(entry) = self.ledger.read(&key).await? else { return Ok(None) };
            let member = decode::<Member>(&entry)?.value;
            if member.draining_since.is_some() {
                return Ok(Some(member));
            }
            let member = Member { draining_since: Some(now), ..member };
            let put = Op::Put { value: encode(&key, &member)?, key: key.clone(), index: entry.index };
            if let Transaction::Applied(_) = self.ledger.transact(vec![put]).await? {
                return Ok(Some(member));
            }
        }
    }

    /// Removes a member by one of the rules. `false` when it was none.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn remove(&self, boot: &BootId, cause: RemovalCause, now: Timestamp) -> Result<bool, Error> {
        loop {
            let Some(list) = self.read().await? else { return Ok(false) };
            let own = self.ledger.read(&key(boot)).await?;
            let mut next = successor(Some(&list.value));
            if !next.boots.remove(boot) && own.is_none() {
                return Ok(false);
            }
            next.removed = Some(Removal { boot: boot.clone(), cause, at: now });
            let mut ops = vec![put(&next, list.index)?];
            if let Some(entry) = own {
                ops.push(Op::Delete { key: key(boot), index: entry.index });
            }
            if let Transaction::Applied(_) = self.ledger.transact(ops).await? {
                return Ok(true);
            }
        }
    }
}

/// The next list: the same members, and a fresh nonce so that the index moves.
fn successor(list: Option<&Document>) -> Document {
    Document {
        nonce: Nonce::random(),
        boots: list.map_or_else(BTreeSet::new, |list| list.boots.clone()),
        removed: list.and_then(|list| list.removed.clone()),
    }
}

fn put(list: &Document, index: Index) -> Result<Op, Error> {
    Ok(Op::Put { key: KEY.to_owned(), value: encode(KEY, list)?, index })
}
