//! The real ledger: Consul's KV store, transactions and sessions.

use std::time::Duration;

use bivouac_consul::{Behavior, Client, Outcome, Pair, SessionDefinition, TxnOp, Written};
use bivouac_protocol::Nonce;
use tokio::time::{Instant, sleep};

use crate::{Access, Entry, Error, Index, Ledger, LockSession, Op, Transaction};

/// Consul permits no session a shorter life than this.
const SHORTEST_TTL: Duration = Duration::from_secs(10);
/// Longest blocking read. After Consul was restored from an older snapshot, one from a newer index is not answered
/// before its time is up.
const LONGEST_ROUND: Duration = Duration::from_secs(60);
/// Whoever was let go without news is not back at once.
const LET_GO_PAUSE: Duration = Duration::from_millis(200);

/// Below this, keys are tried and never written: whoever asks whether a session lives needs the right to.
pub const PROBES: &str = "session_probe/";

/// A ledger below one prefix of Consul's KV store.
#[derive(Debug, Clone)]
pub struct ConsulLedger {
    client: Client,
    /// With its slash.
    prefix: String,
}

impl ConsulLedger {
    /// The ledger below this prefix ("bivouac").
    #[must_use]
    pub fn new(client: Client, prefix: &str) -> Self {
        Self { client, prefix: format!("{}/", prefix.trim_matches('/')) }
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn entry(&self, pair: Pair) -> Entry {
        let key = pair.key.strip_prefix(&self.prefix).unwrap_or(&pair.key).to_owned();
        Entry { key, value: pair.value, index: pair.modify_index, holder: pair.session.map(LockSession) }
    }

    fn op(&self, op: Op) -> TxnOp {
        match op {
            // To Consul, a key that does not exist has no index, not even 0.
            Op::Check { key, index: 0 } => TxnOp::CheckNotExists { key: self.full(&key) },
            Op::Check { key, index } => TxnOp::CheckIndex { key: self.full(&key), index },
            Op::CheckHolder { key, session } => {
                TxnOp::CheckSession { key: self.full(&key), session: session.0 }
            }
            Op::Put { key, value, index } => TxnOp::Cas { key: self.full(&key), value, index },
            Op::Delete { key, index } => TxnOp::DeleteCas { key: self.full(&key), index },
            Op::Lock { key, value, session } => {
                TxnOp::Lock { key: self.full(&key), value, session: session.0 }
            }
        }
    }

    async fn send(&self, ops: &[TxnOp]) -> Result<Transaction, Error> {
        Ok(match self.client.transact(ops).await.map_err(failed)? {
            Outcome::Applied(told) => Transaction::Applied(written(ops, &told)),
            Outcome::Refused(refusals) => {
                Transaction::Refused(refusals.iter().map(|refusal| refusal.op).min().unwrap_or_default())
            }
        })
    }
}

/// The index of what a transaction wrote: Consul also tells those of the keys that it checked.
fn written(ops: &[TxnOp], told: &[Written]) -> Index {
    let wrote = |name: &str| {
        ops.iter().any(|op| matches!(op, TxnOp::Cas { key, .. } | TxnOp::Lock { key, .. } if key == name))
    };
    told.iter().filter(|told| wrote(&told.key)).map(|told| told.modify_index).max().unwrap_or(0)
}

pub(crate) fn failed(error: bivouac_consul::Error) -> Error {
    match error {
        bivouac_consul::Error::Denied(detail) => Error::Denied(detail),
        bivouac_consul::Error::Unavailable(detail) => Error::Unavailable(detail),
        // What an operator has to mend: until then the ledger is of no use.
        other => Error::Unavailable(other.to_string()),
    }
}

#[async_trait::async_trait]
impl Ledger for ConsulLedger {
    async fn read(&self, key: &str) -> Result<Option<Entry>, Error> {
        let pair = self.client.get(&self.full(key)).await.map_err(failed)?;
        Ok(pair.map(|pair| self.entry(pair)))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        let pairs = self.client.list(&self.full(prefix)).await.map_err(failed)?;
        Ok(pairs.into_iter().map(|pair| self.entry(pair)).collect())
    }

    async fn transact(&self, ops: Vec<Op>) -> Result<Transaction, Error> {
        let ops: Vec<TxnOp> = ops.into_iter().map(|op| self.op(op)).collect();
        self.send(&ops).await
    }

    async fn watch(&self, key: &str, index: Index, wait: Duration) -> Result<Option<Entry>, Error> {
        if index == 0 {
            return self.read(key).await;
        }
        let (key, deadline) = (self.full(key), Instant::now() + wait);
        let mut beyond = index;
        loop {
            let round = deadline.saturating_duration_since(Instant::now()).min(LONGEST_ROUND);
            let asked = Instant::now();
            let watched = self.client.get_blocking(&key, beyond, round).await.map_err(failed)?;
            let now = watched.pair.as_ref().map_or(0, |pair| pair.modify_index);
            if now != index || Instant::now() >= deadline {
                return Ok(watched.pair.map(|pair| self.entry(pair)));
            }
            if asked.elapsed() < round {
                // Before its time, and nothing has changed: so Consul lets go of all who wait when it is restored from
                // a snapshot, and whoever waits may have something to read again.
                sleep(LET_GO_PAUSE).await;
                return Ok(watched.pair.map(|pair| self.entry(pair)));
            }
            // An answer without news. A query index may run ahead of the key's; one that fell back starts over.
            beyond = if watched.index >= beyond { watched.index } else { index };
        }
    }

    async fn open_session(&self, name: &str, ttl: Duration) -> Result<LockSession, Error> {
        let definition = SessionDefinition {
            name: name.to_owned(),
            ttl: ttl.max(SHORTEST_TTL),
            behavior: Behavior::Release,
            lock_delay: Duration::ZERO,
        };
        self.client.create_session(&definition).await.map(LockSession).map_err(failed)
    }

    async fn renew_session(&self, session: &LockSession) -> Result<bool, Error> {
        self.client.renew_session(&session.0).await.map_err(failed)
    }

    async fn close_session(&self, session: &LockSession) -> Result<(), Error> {
        self.client.destroy_session(&session.0).await.map_err(failed)
    }

    /// Asked by a transaction that can never be applied: it takes a lock for the session and then demands that the
    /// locked key does not exist. A session that is gone fails the first operation, one that lives the second. Reading
    /// the session would tell a token without the right to do so that it is gone, and that is evidence for a removal.
    async fn session_lives(&self, session: &LockSession) -> Result<bool, Error> {
        let key = self.full(&format!("{PROBES}{}", Nonce::random()));
        let lock = TxnOp::Lock { key: key.clone(), value: Vec::new(), session: session.0.clone() };
        match self.send(&[lock, TxnOp::CheckNotExists { key }]).await? {
            Transaction::Refused(operation) => Ok(operation == 1),
            Transaction::Applied(_) => {
                Err(Error::Unavailable("Consul applied a transaction that contradicts itself".to_owned()))
            }
        }
    }

    fn access(&self) -> Option<Access> {
        Some(self.client.access())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_a_write_is_told_not_that_of_a_check() {
        let ops = [
            TxnOp::CheckIndex { key: "p/members".into(), index: 9 },
            TxnOp::Cas { key: "p/sessions/a".into(), value: Vec::new(), index: 4 },
        ];
        let told = |key: &str, modify_index| Written { key: key.to_owned(), modify_index };
        assert_eq!(written(&ops, &[told("p/members", 9), told("p/sessions/a", 4)]), 4);
        assert_eq!(written(&ops[..1], &[told("p/members", 9)]), 0);
    }

    #[test]
    fn only_a_denial_is_told_apart_from_an_outage() {
        use bivouac_consul::Error as Consul;
        assert!(matches!(failed(Consul::Denied("no".into())), Error::Denied(_)));
        for error in [Consul::Unavailable("x".into()), Consul::Invalid { status: 413, message: "x".into() }] {
            assert!(matches!(failed(error), Error::Unavailable(_)));
        }
    }
}
