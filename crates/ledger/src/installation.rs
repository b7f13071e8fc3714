//! Whose ledger this is. Ids of keyed sessions follow from the cluster secret: with another one the same key would lead
//! to another session, beside the one that may still run. So the ledger remembers the secret's fingerprint, and whoever
//! comes with another is told.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::document::{decode, encode};
use crate::{Error, Ledger, Op, Transaction};

/// The document's key, below the ledger's prefix.
pub const KEY: &str = "installation";

/// What stands there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// Fingerprint of the cluster secret.
    pub cluster: String,
}

/// The ledger belongs to an installation with another cluster secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the cluster secret is not the one that this installation was made with (its fingerprint is {ours}, the ledger's is \
     {theirs}): ids of keyed sessions follow from it, so that every key would get a second session. Put the earlier secret \
     back; or, for an installation of its own, choose another --prefix; or, if no session of this one is left and none \
     shall be found again, delete the key {KEY} below the prefix"
)]
pub struct Foreign {
    ours: String,
    theirs: String,
}

/// Writes the fingerprint into a ledger that has none, and compares it with the one that it has.
///
/// # Errors
/// When the ledger does not answer; it may be asked again.
pub async fn belongs_to(ledger: &Arc<dyn Ledger>, cluster: &str) -> Result<Result<(), Foreign>, Error> {
    loop {
        if let Some(entry) = ledger.read(KEY).await? {
            let theirs = decode::<Installation>(&entry)?.value.cluster;
            let same = theirs == cluster;
            return Ok(if same { Ok(()) } else { Err(Foreign { ours: cluster.to_owned(), theirs }) });
        }
        let value = encode(KEY, &Installation { cluster: cluster.to_owned() })?;
        let put = Op::Put { key: KEY.to_owned(), value, index: 0 };
        if let Transaction::Applied(_) = ledger.transact(vec![put]).await? {
            return Ok(Ok(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryLedger;

    #[tokio::test]
    async fn the_first_fingerprint_stays() {
        let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new());
        assert_eq!(belongs_to(&ledger, "a").await.unwrap(), Ok(()));
        assert_eq!(belongs_to(&ledger, "a").await.unwrap(), Ok(()));
        let foreign = belongs_to(&ledger, "b").await.unwrap().unwrap_err();
        assert!(foreign.to_string().contains("Put the earlier secret back"), "{foreign}");
        assert_eq!(belongs_to(&ledger, "a").await.unwrap(), Ok(()));
    }
}
