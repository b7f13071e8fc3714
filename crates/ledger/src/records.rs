//! The sessions' records: typed reads and check-and-set writes over any [`Ledger`].

mod transition;

use std::sync::Arc;

use bivouac_protocol::{Generation, Reason, Record, SessionId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use transition::{
    Claim, MAX_LEASES, Transition, abandoned, bumped, claimed, ended, leased, pinned, ready, released,
    stopping, touched,
};

pub use crate::document::Versioned;

use crate::document::{decode, encode};
use crate::leader;
use crate::members;
use crate::{Error, Index, Ledger, LockSession, Op, Transaction};

/// Where the records live, below the ledger's prefix.
pub const PREFIX: &str = "sessions/";
/// No generation at or below this one is ever claimed again.
pub const FLOOR_KEY: &str = "generation_floor";

/// What became of a check-and-set that may not apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// Written; the record is now this.
    Written(Versioned<Record>),
    /// The record, as it is now, does not permit the change.
    Declined(Option<Versioned<Record>>),
}

impl Update {
    /// The record as it is now, whichever way it went.
    #[must_use]
    pub fn current(self) -> Option<Versioned<Record>> {
        match self {
            Self::Written(record) => Some(record),
            Self::Declined(record) => record,
        }
    }
}

/// The floor document.
#[derive(Debug, Serialize, Deserialize)]
struct Floor {
    generation: Generation,
}

/// The records.
#[derive(Clone)]
pub struct Records {
    ledger: Arc<dyn Ledger>,
}

/// The key of a session's record.
#[must_use]
pub fn key(id: &SessionId) -> String {
    format!("{PREFIX}{id}")
}

impl Records {
    /// The records of this ledger.
    #[must_use]
    pub fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger }
    }

    /// A consistent read.
    ///
    /// # Errors
    /// When the ledger does not answer, or the document cannot be read.
    pub async fn read(&self, id: &SessionId) -> Result<Option<Versioned<Record>>, Error> {
        self.ledger.read(&key(id)).await?.map(|entry| decode(&entry)).transpose()
    }

    /// All records that can be read. Lists only add: nothing follows from a record's absence. A document that cannot be
    /// read is logged and left out, so that one bad record does not hide the others.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn list(&self) -> Result<Vec<(SessionId, Versioned<Record>)>, Error> {
        let mut records = Vec::new();
        for entry in self.ledger.list(PREFIX).await? {
            let id = entry.key.strip_prefix(PREFIX).and_then(|id| id.parse().ok());
            match (id, decode(&entry)) {
                (Some(id), Ok(record)) => records.push((id, record)),
                (_, Err(error)) => tracing::error!(%error, "A session's record is left out of the list."),
                (None, Ok(_)) => {
                    tracing::warn!(key = entry.key, "A key among the records is not a session id.")
                }
            }
        }
        Ok(records)
    }

    /// Claims the session's next generation: creates the record, or replaces `previous`, in one transaction with a
    /// check of the floor. `None` when somebody else was faster.
    ///
    /// # Errors
    /// When the ledger does not answer. The claim may then have been won: read, and compare the nonce.
    pub async fn claim(
        &self,
        id: &SessionId,
        previous: Option<&Versioned<Record>>,
        claim: &Claim,
    ) -> Result<Option<Versioned<Record>>, Error> {
        loop {
            let (floor, floor_index) = self.floor().await?;
            let record = claimed(previous.map(|p| &p.value), floor, claim);
            let key = key(id);
            let value = encode(&key, &record)?;
            let ops = vec![
                Op::Put { key, value, index: previous.map_or(0, |p| p.index) },
                Op::Check { key: FLOOR_KEY.to_owned(), index: floor_index },
            ];
            match self.ledger.transact(ops).await? {
                Transaction::Applied(index) => return Ok(Some(Versioned { value: record, index })),
                Transaction::Refused(0) => return Ok(None),
                // The floor was raised since it was read.
                Transaction::Refused(_) => {}
            }
        }
    }

    /// Writes a record that was lost, as its job tells it, in the place of `behind`: what an older snapshot of the ledger
    /// has brought back, if it has. Returns the record as it is now; `None` when the run's generation was purged.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn recreate(
        &self,
        id: &SessionId,
        behind: Option<&Versioned<Record>>,
        record: Record,
    ) -> Result<Option<Versioned<Record>>, Error> {
        let (floor, floor_index) = self.floor().await?;
        if record.generation <= floor {
            return self.read(id).await;
        }
        let revision = behind.map_or(record.revision, |behind| behind.value.revision + 1);
        let record = Record { revision, ..record };
        let key = key(id);
        let value = encode(&key, &record)?;
        let ops = vec![
            Op::Put { key, value, index: behind.map_or(0, |behind| behind.index) },
            Op::Check { key: FLOOR_KEY.to_owned(), index: floor_index },
        ];
        match self.ledger.transact(ops).await? {
            Transaction::Applied(index) => Ok(Some(Versioned { value: record, index })),
            Transaction::Refused(_) => self.read(id).await,
        }
    }

    /// Changes the record as `change` says, as often as needed until the write meets the revision it was made for.
    /// `known` saves the first read.
    ///
    /// # Errors
    /// When the ledger does not answer: the change may have been written. Doing it again is safe.
    pub async fn update(
        &self,
        id: &SessionId,
        known: Option<Versioned<Record>>,
        change: impl Fn(&Record) -> Transition + Send,
    ) -> Result<Update, Error> {
        let key = key(id);
        let mut current = match known {
            Some(known) => Some(known),
            None => self.read(id).await?,
        };
        loop {
            let Some(held) = current else { return Ok(Update::Declined(None)) };
            let changed = match change(&held.value) {
                Transition::To(changed) => *changed,
                Transition::Declined => {
                    // The known revision may be an old one: a refusal counts only on what the ledger says now.
                    let now = self.read(id).await?;
                    if now.as_ref().map(|n| n.index) == Some(held.index) || now.is_none() {
                        return Ok(Update::Declined(now));
                    }
                    current = now;
                    continue;
                }
            };
            let put = Op::Put { key: key.clone(), value: encode(&key, &changed)?, index: held.index };
            match self.ledger.transact(vec![put]).await? {
                Transaction::Applied(index) => {
                    return Ok(Update::Written(Versioned { value: changed, index }));
                }
                Transaction::Refused(_) => current = self.read(id).await?,
            }
        }
    }

    /// The one transaction that commits an idle stop (design §5.8, step 4). Built once, so that it can be sent again,
    /// unchanged, until it is answered. `None` when the record does not permit it.
    ///
    /// # Errors
    /// When the document cannot be written as JSON.
    pub fn commit(
        id: &SessionId,
        record: &Versioned<Record>,
        members: Index,
        leader: &LockSession,
        reason: &Reason,
        now: Timestamp,
    ) -> Result<Option<Vec<Op>>, Error> {
        let Transition::To(stopped) = stopping(&record.value, reason, now) else { return Ok(None) };
        let key = key(id);
        Ok(Some(vec![
            Op::CheckHolder { key: leader::KEY.to_owned(), session: leader.clone() },
            Op::Check { key: members::KEY.to_owned(), index: members },
            Op::Put { value: encode(&key, &stopped)?, key, index: record.index },
        ]))
    }

    /// Sends a transaction that [`Records::commit`] built.
    ///
    /// # Errors
    /// When the ledger does not answer: send it again.
    pub async fn send(&self, ops: Vec<Op>) -> Result<Transaction, Error> {
        self.ledger.transact(ops).await
    }

    /// Removes an ended record, after raising the floor to its generation so that generations rise for ever.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn purge(&self, id: &SessionId, record: &Versioned<Record>) -> Result<bool, Error> {
        self.raise_floor(record.value.generation).await?;
        let delete = Op::Delete { key: key(id), index: record.index };
        Ok(matches!(self.ledger.transact(vec![delete]).await?, Transaction::Applied(_)))
    }

    async fn floor(&self) -> Result<(Generation, Index), Error> {
        match self.ledger.read(FLOOR_KEY).await? {
            Some(entry) => decode::<Floor>(&entry).map(|floor| (floor.value.generation, floor.index)),
            None => Ok((Generation(0), 0)),
        }
    }

    /// Whether no session can be claimed, or written again, with this generation any more.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn is_spent(&self, generation: Generation) -> Result<bool, Error> {
        Ok(generation <= self.floor().await?.0)
    }

    /// No generation up to this one is ever claimed again, by any session.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn raise_floor(&self, generation: Generation) -> Result<(), Error> {
        loop {
            let (floor, index) = self.floor().await?;
            if floor >= generation {
                return Ok(());
            }
            let key = FLOOR_KEY.to_owned();
            let value = encode(&key, &Floor { generation })?;
            if let Transaction::Applied(_) = self.ledger.transact(vec![Op::Put { key, value, index }]).await?
            {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
