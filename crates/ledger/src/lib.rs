//! Who wins: the records, the members and the leader's lock, in one ledger with check-and-set.
//!
//! [`Ledger`] is the little that Consul's KV store offers and this product needs: consistent reads, transactions of
//! checks and writes, sessions for locks, and watches. [`memory`] offers the same in one process (embedded mode);
//! [`consul`] is the real one. What the documents mean is written once, over the trait: [`records`], [`members`],
//! [`leader`], [`tokens`], [`tickets`], [`revoked`], [`installation`]. Where an allocation listens is not decided here, only looked up:
//! [`directory`].

pub mod conformance;
pub mod consul;
pub mod directory;
mod document;
pub mod installation;
pub mod leader;
pub mod measured;
pub mod members;
pub mod memory;
pub mod records;
pub mod revoked;
pub mod tickets;
pub mod tokens;

use std::time::Duration;

pub use bivouac_access::Access;

/// A position in the ledger's history: rises with every write that changes something.
pub type Index = u64;

/// A key's value and the index of its last change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The full key, below the ledger's prefix ("sessions/…").
    pub key: String,
    /// The document.
    pub value: Vec<u8>,
    /// Index of its last change.
    pub index: Index,
    /// The session that holds it as a lock.
    pub holder: Option<LockSession>,
}

/// A lock session: lives as long as its holder renews it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct LockSession(pub String);

/// One operation of a transaction. Keys are below the ledger's prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// The key was last changed at this index; 0: it does not exist.
    Check {
        /// Which key.
        key: String,
        /// Its index.
        index: Index,
    },
    /// The key is locked by this session.
    CheckHolder {
        /// Which key.
        key: String,
        /// Whose lock.
        session: LockSession,
    },
    /// Write the value if the key was last changed at this index; 0: if it does not exist.
    Put {
        /// Which key.
        key: String,
        /// The new document.
        value: Vec<u8>,
        /// The index it replaces.
        index: Index,
    },
    /// Delete the key if it was last changed at this index.
    Delete {
        /// Which key.
        key: String,
        /// The index it replaces.
        index: Index,
    },
    /// Write the value and take the lock, if nobody else holds it.
    Lock {
        /// Which key.
        key: String,
        /// The new document.
        value: Vec<u8>,
        /// For whom.
        session: LockSession,
    },
}

/// What became of a transaction that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transaction {
    /// All of it was applied; what it wrote has this index (0 if it only checked).
    Applied(Index),
    /// None of it was applied: the operation with this number (from 0) did not hold.
    Refused(usize),
}

/// The ledger could not be asked, or its answer was lost.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No answer. **A write may have been applied or not.**
    #[error("the ledger cannot be reached: {0}")]
    Unavailable(String),
    /// The token does not permit this.
    #[error("the ledger refused the token: {0}")]
    Denied(String),
    /// A document in it cannot be read.
    #[error("the document {key} cannot be read: {detail}")]
    Corrupt {
        /// Which key.
        key: String,
        /// Why not.
        detail: String,
    },
}

impl Error {
    /// Whether asking again will not help.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }
}

/// The store that decides.
#[async_trait::async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// A consistent read of one key.
    async fn read(&self, key: &str) -> Result<Option<Entry>, Error>;

    /// All keys under a prefix. **Lists only add**: an empty answer may come from an expired token or a stale server,
    /// so nothing may be concluded from what is missing.
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error>;

    /// All or nothing. `Err` leaves open whether it was applied.
    async fn transact(&self, ops: Vec<Op>) -> Result<Transaction, Error>;

    /// Waits until the key's index differs from `index` (0: answers at once), at most `wait`; returns the key as it is
    /// then. An answer before that time without a change is a hint that the ledger was restored from a snapshot.
    async fn watch(&self, key: &str, index: Index, wait: Duration) -> Result<Option<Entry>, Error>;

    /// Opens a lock session that ends `ttl` after its last renewal (Consul: up to twice that). Locks are free at once
    /// when it ends.
    async fn open_session(&self, name: &str, ttl: Duration) -> Result<LockSession, Error>;

    /// Renews it; `false` when it is gone.
    async fn renew_session(&self, session: &LockSession) -> Result<bool, Error>;

    /// Ends it and frees its locks.
    async fn close_session(&self, session: &LockSession) -> Result<(), Error>;

    /// Whether it still lives.
    async fn session_lives(&self, session: &LockSession) -> Result<bool, Error>;

    /// What the store makes of our credentials, where it asks for any.
    fn access(&self) -> Option<Access> {
        None
    }
}
