//! The words that the checks are written in: a rule that holds, and operations on keys of the check's own.

use bivouac_protocol::Nonce;

use super::{Verdict, Violation};
use crate::{Entry, Error, Index, Ledger, LockSession, Op, Transaction};

pub(super) fn holds(rule: &str, condition: bool) -> Verdict {
    if condition { Ok(()) } else { Err(Violation::Broken(rule.to_owned())) }
}

pub(super) fn refused(rule: &str, operation: usize, outcome: &Transaction) -> Verdict {
    match outcome {
        Transaction::Refused(at) if *at == operation => Ok(()),
        other => Err(Violation::Broken(format!("{rule} (operation {operation} must be refused; {other:?})"))),
    }
}

pub(super) fn applied(rule: &str, outcome: &Transaction) -> Result<Index, Violation> {
    match outcome {
        Transaction::Applied(index) => Ok(*index),
        Transaction::Refused(at) => Err(Violation::Broken(format!("{rule} (operation {at} was refused)"))),
    }
}

/// The keys of one check.
pub(super) struct Area<'a> {
    pub(super) ledger: &'a dyn Ledger,
    pub(super) prefix: String,
}

impl<'a> Area<'a> {
    pub(super) fn new(ledger: &'a dyn Ledger, run: &Nonce, check: &str) -> Self {
        Self { ledger, prefix: format!("conformance/{run}/{check}/") }
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(super) fn put(&self, name: &str, value: &str, index: Index) -> Op {
        Op::Put { key: self.key(name), value: value.into(), index }
    }

    pub(super) fn check(&self, name: &str, index: Index) -> Op {
        Op::Check { key: self.key(name), index }
    }

    pub(super) fn delete(&self, name: &str, index: Index) -> Op {
        Op::Delete { key: self.key(name), index }
    }

    pub(super) fn lock(&self, name: &str, value: &str, session: &LockSession) -> Op {
        Op::Lock { key: self.key(name), value: value.into(), session: session.clone() }
    }

    pub(super) fn held(&self, name: &str, session: &LockSession) -> Op {
        Op::CheckHolder { key: self.key(name), session: session.clone() }
    }

    pub(super) async fn read(&self, name: &str) -> Result<Option<Entry>, Error> {
        self.ledger.read(&self.key(name)).await
    }

    pub(super) async fn write(&self, name: &str, value: &str, index: Index) -> Result<Index, Violation> {
        applied("a write from the right index is applied", &self.send([self.put(name, value, index)]).await?)
    }

    pub(super) async fn send<const N: usize>(&self, ops: [Op; N]) -> Result<Transaction, Error> {
        self.ledger.transact(ops.to_vec()).await
    }
}
