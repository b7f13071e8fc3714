//! Transactions: checks and writes, all or nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::transport::{ANSWER_TIMEOUT, Answer, quoted};
use crate::{Client, Error};

/// One operation. Within a transaction they take effect one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnOp {
    /// Writes the value if the key was last changed at `index`; 0: if it does not exist.
    Cas {
        /// The whole key.
        key: String,
        /// The new value.
        value: Vec<u8>,
        /// The index it replaces.
        index: u64,
    },
    /// The key exists and was last changed at `index`.
    CheckIndex {
        /// The whole key.
        key: String,
        /// Its index.
        index: u64,
    },
    /// The key does not exist.
    CheckNotExists {
        /// The whole key.
        key: String,
    },
    /// The key is locked by this session.
    CheckSession {
        /// The whole key.
        key: String,
        /// Id of the session.
        session: String,
    },
    /// Deletes the key if it was last changed at `index`, or does not exist.
    DeleteCas {
        /// The whole key.
        key: String,
        /// Its index.
        index: u64,
    },
    /// Writes the value and takes the lock, if the session lives and no other one holds it.
    Lock {
        /// The whole key.
        key: String,
        /// The new value.
        value: Vec<u8>,
        /// Id of the session.
        session: String,
    },
}

/// What became of a transaction that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Applied. The keys that were written or checked to exist, in order; what is not there now is left out.
    Applied(Vec<Written>),
    /// Nothing of it was applied. At least one refusal.
    Refused(Vec<Refusal>),
}

/// A key after the transaction.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Written {
    /// The whole key.
    pub key: String,
    /// Index of its last change.
    pub modify_index: u64,
}

/// An operation that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Refusal {
    /// Its number, from 0.
    #[serde(rename = "OpIndex")]
    pub op: usize,
    /// What Consul says, for people.
    #[serde(rename = "What")]
    pub what: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WireOp<'a> {
    #[serde(rename = "KV")]
    kv: WireKv<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WireKv<'a> {
    verb: &'static str,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
}

impl<'a> From<&'a TxnOp> for WireOp<'a> {
    fn from(op: &'a TxnOp) -> Self {
        let bare = |verb, key| WireKv { verb, key, value: None, index: None, session: None };
        let encoded = |value: &[u8]| Some(STANDARD.encode(value));
        let kv = match op {
            TxnOp::Cas { key, value, index } => {
                WireKv { value: encoded(value), index: Some(*index), ..bare("cas", key) }
            }
            TxnOp::CheckIndex { key, index } => WireKv { index: Some(*index), ..bare("check-index", key) },
            TxnOp::CheckNotExists { key } => bare("check-not-exists", key),
            TxnOp::CheckSession { key, session } => {
                WireKv { session: Some(session), ..bare("check-session", key) }
            }
            TxnOp::DeleteCas { key, index } => WireKv { index: Some(*index), ..bare("delete-cas", key) },
            TxnOp::Lock { key, value, session } => {
                WireKv { value: encoded(value), session: Some(session), ..bare("lock", key) }
            }
        };
        Self { kv }
    }
}

#[derive(Deserialize)]
struct WireAnswer {
    #[serde(rename = "Results")]
    results: Option<Vec<WireResult>>,
    #[serde(rename = "Errors")]
    errors: Option<Vec<Refusal>>,
}

#[derive(Deserialize)]
struct WireResult {
    #[serde(rename = "KV")]
    kv: Option<Written>,
}

impl Client {
    /// Sends one transaction. Consul takes at most 128 operations and 512 KiB.
    ///
    /// # Errors
    /// [`Error::Denied`] when the token permits not all of it: nothing was applied. [`Error::Unavailable`] leaves open
    /// whether it was applied.
    pub async fn transact(&self, ops: &[TxnOp]) -> Result<Outcome, Error> {
        let wire: Vec<WireOp<'_>> = ops.iter().map(WireOp::from).collect();
        let request = self
            .transport
            .request(Method::PUT, ["txn"], ANSWER_TIMEOUT)
            // Consul answers a transaction of checks alone like a read.
            .query(&[("consistent", "")])
            .json(&wire);
        self.transport.send_conditional(request, |answer| outcome(&answer)).await
    }
}

fn outcome(answer: &Answer) -> Result<Outcome, Error> {
    let wire: WireAnswer = match answer.json() {
        Ok(wire) => wire,
        // In front of a 409 that Consul did not write stands something else: nothing is known of the transaction.
        Err(_) if !answer.found => return Err(Error::Unavailable(quoted(&answer.body))),
        Err(error) => return Err(error),
    };
    let refusals = wire.errors.unwrap_or_default();
    if let Some(denial) = refusals.iter().find(|refusal| is_denial(&refusal.what)) {
        return Err(Error::Denied(denial.what.clone()));
    }
    match (answer.found, refusals.is_empty()) {
        (true, true) => Ok(Outcome::Applied(
            wire.results.unwrap_or_default().into_iter().filter_map(|result| result.kv).collect(),
        )),
        (false, false) => Ok(Outcome::Refused(refusals)),
        _ => Err(Error::Unintelligible("a transaction was both applied and refused, or neither".into())),
    }
}

/// The texts begin so in every version that has ACLs; those of conditions begin with "failed", "key" or "invalid".
fn is_denial(what: &str) -> bool {
    what.starts_with("Permission denied") || what.starts_with("ACL not found")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(found: bool, body: &str) -> Result<Outcome, Error> {
        outcome(&Answer { found, index: 0, filtered: false, body: body.into() })
    }

    #[test]
    fn what_was_written_and_checked_is_told_with_its_index() {
        let Outcome::Applied(written) = read(true, include_str!("wire/txn_applied.json")).unwrap() else {
            panic!("must be applied")
        };
        assert_eq!(
            written.iter().map(|w| w.key.as_str()).collect::<Vec<_>>(),
            ["bivouac/leader", "bivouac/a"]
        );
        assert!(written[0].modify_index < written[1].modify_index);
    }

    #[test]
    fn a_refusal_names_the_operation() {
        let Outcome::Refused(refusals) = read(false, include_str!("wire/txn_refused.json")).unwrap() else {
            panic!("must be refused")
        };
        assert_eq!(refusals.iter().map(|refusal| refusal.op).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_missing_permission_is_not_taken_for_a_condition() {
        assert!(matches!(read(false, include_str!("wire/txn_denied.json")), Err(Error::Denied(_))));
    }

    #[test]
    fn a_conflict_that_consul_did_not_write_leaves_the_outcome_open() {
        assert!(matches!(read(false, "<html>conflict</html>"), Err(Error::Unavailable(_))));
        assert!(matches!(read(false, r#"{"Results":null,"Errors":null}"#), Err(Error::Unintelligible(_))));
    }

    #[test]
    fn operations_are_written_as_consul_reads_them() {
        let ops = [
            TxnOp::Cas { key: "k".into(), value: b"v".to_vec(), index: 0 },
            TxnOp::CheckNotExists { key: "k".into() },
            TxnOp::Lock { key: "k".into(), value: Vec::new(), session: "s".into() },
        ];
        let wire = serde_json::to_value(ops.iter().map(WireOp::from).collect::<Vec<_>>()).unwrap();
        assert_eq!(
            wire,
            serde_json::json!([
                {"KV": {"Verb": "cas", "Key": "k", "Value": "dg==", "Index": 0}},
                {"KV": {"Verb": "check-not-exists", "Key": "k"}},
                {"KV": {"Verb": "lock", "Key": "k", "Value": "", "Session": "s"}},
            ])
        );
    }
}
