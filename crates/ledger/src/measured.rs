//! A ledger whose calls are counted and timed.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use crate::{Access, Entry, Error, Index, Ledger, LockSession, Op, Transaction};

/// Upper bounds of a call's duration, in seconds: half a millisecond is a local agent's read, ten seconds are the end of
/// every caller's patience.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 2.5, 10.0];

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    Read,
    List,
    Transact,
    Watch,
    Session,
}

impl Operation {
    const ALL: [Self; 5] = [Self::Read, Self::List, Self::Transact, Self::Watch, Self::Session];

    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::List => "list",
            Self::Transact => "transact",
            Self::Watch => "watch",
            Self::Session => "session",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    operation: &'static str,
    cause: &'static str,
}

/// Passes every call on, and notes how long it took and whether it failed.
pub struct Measured {
    ledger: Arc<dyn Ledger>,
    durations: Family<Call, Histogram, fn() -> Histogram>,
    failures: Family<Failure, Counter>,
}

impl Measured {
    /// The same ledger, measured in this registry: `ledger_call_duration_seconds` and `ledger_errors_total`.
    #[must_use]
    pub fn register(ledger: Arc<dyn Ledger>, registry: &mut Registry) -> Arc<dyn Ledger> {
        let durations: Family<Call, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        let failures = Family::<Failure, Counter>::default();
        for operation in Operation::ALL {
            let operation = operation.name();
            for cause in ["unavailable", "denied", "corrupt"] {
                drop(failures.get_or_create(&Failure { operation, cause }));
            }
        }
        let help = "Time that the ledger took to answer; a watch waits for a change and is left out";
        registry.register_with_unit("ledger_call_duration", help, Unit::Seconds, durations.clone());
        registry.register("ledger_errors", "Calls of the ledger that failed, by cause", failures.clone());
        Arc::new(Self { ledger, durations, failures })
    }

    async fn measure<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let begun = Instant::now();
        let answer = call.await;
        let name = operation.name();
        if operation != Operation::Watch {
            self.durations.get_or_create(&Call { operation: name }).observe(begun.elapsed().as_secs_f64());
        }
        if let Err(error) = &answer {
            self.failures.get_or_create(&Failure { operation: name, cause: cause(error) }).inc();
        }
        answer
    }
}

fn cause(error: &Error) -> &'static str {
    match error {
        Error::Unavailable(_) => "unavailable",
        Error::Denied(_) => "denied",
        Error::Corrupt { .. } => "corrupt",
    }
}

#[async_trait::async_trait]
impl Ledger for Measured {
    async fn read(&self, key: &str) -> Result<Option<Entry>, Error> {
        self.measure(Operation::Read, self.ledger.read(key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        self.measure(Operation::List, self.ledger.list(prefix)).await
    }

    async fn transact(&self, ops: Vec<Op>) -> Result<Transaction, Error> {
        self.measure(Operation::Transact, self.ledger.transact(ops)).await
    }

    async fn watch(&self, key: &str, index: Index, wait: Duration) -> Result<Option<Entry>, Error> {
        self.measure(Operation::Watch, self.ledger.watch(key, index, wait)).await
    }

    async fn open_session(&self, name: &str, ttl: Duration) -> Result<LockSession, Error> {
        self.measure(Operation::Session, self.ledger.open_session(name, ttl)).await
    }

    async fn renew_session(&self, session: &LockSession) -> Result<bool, Error> {
        self.measure(Operation::Session, self.ledger.renew_session(session)).await
    }

    async fn close_session(&self, session: &LockSession) -> Result<(), Error> {
        self.measure(Operation::Session, self.ledger.close_session(session)).await
    }

    async fn session_lives(&self, session: &LockSession) -> Result<bool, Error> {
        self.measure(Operation::Session, self.ledger.session_lives(session)).await
    }

    fn access(&self) -> Option<Access> {
        self.ledger.access()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryLedger;

    #[tokio::test]
    async fn every_answer_is_timed_and_every_failure_counted() {
        let mut registry = Registry::default();
        let ledger = Measured::register(Arc::new(MemoryLedger::default()), &mut registry);
        assert!(ledger.read("a").await.unwrap().is_none());
        assert!(ledger.list("").await.unwrap().is_empty());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "ledger_call_duration_seconds_count{operation=\"read\"} 1",
            "ledger_call_duration_seconds_count{operation=\"list\"} 1",
            "ledger_errors_total{operation=\"read\",cause=\"denied\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
