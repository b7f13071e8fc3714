//! Leases: explicit promises to keep a session alive until a time. A change of its record like any other: any replica
//! makes it, and a stop that is being attempted meanwhile finds the record moved, and is given up.

use std::sync::Arc;

use bivouac_ledger::records::{self, Transition, Update};
use bivouac_protocol::{LeaseName, Phase, Policy, Record, SessionId, Span};
use jiff::{SignedDuration, Timestamp};

use super::commands::{CommandError, Sessions};
use super::view::View;

/// How long a lease is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// From now on.
    For(Span),
    /// Until a time of the wall clock.
    Until(Timestamp),
}

/// Why a lease is not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseRefusal {
    /// Shorter than a lease can be, or longer than the session's template lets one be; or a time that is past.
    #[error("a lease must end between {} and {max} from now", Policy::MIN_LEASE)]
    OutOfBounds {
        /// The template's bound.
        max: Span,
    },
    /// The session has too many other leases.
    #[error("the session has {} leases already", records::MAX_LEASES)]
    TooMany,
    /// The session is being stopped.
    #[error("the session is being stopped")]
    Stopping,
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
}

impl Sessions {
    /// Keeps a live session alive until a time, or renews that promise. What would reach beyond the session's lifetime
    /// is cut at its end.
    ///
    /// # Errors
    /// When there is no such session that `permit` permits, it is not live any more, the lease is out of its bounds, or the ledger does not
    /// answer: then the lease may hold or not, and asking again is safe.
    pub async fn lease(
        &self,
        id: &SessionId,
        name: &LeaseName,
        term: Length,
        permit: impl Fn(&Record) -> bool + Send + Sync,
    ) -> Result<Arc<View>, CommandError> {
        let now = Timestamp::now();
        let held = self.outside.records.read(id).await?.ok_or(CommandError::Unknown)?;
        if !permit(&held.value) {
            return Err(CommandError::Unknown);
        }
        let until = bounded(&held.value, term, now)?;
        let lease = |record: &Record| match permit(record) {
            true => records::leased(record, name, until, now),
            false => Transition::Declined,
        };
        match self.outside.records.update(id, Some(held), lease).await? {
            Update::Written(record) => self.learn(id, record, false, None).await,
            Update::Declined(None) => Err(CommandError::Unknown),
            Update::Declined(Some(record)) if !permit(&record.value) => Err(CommandError::Unknown),
            Update::Declined(Some(record)) => Err(refusal(&record.value, until, now).into()),
        }
    }

    /// Takes a lease back. Idempotent: where there is none, the session is returned as it is.
    ///
    /// # Errors
    /// When there is no such session that `permit` permits, or the ledger does not answer.
    pub async fn release(
        &self,
        id: &SessionId,
        name: &LeaseName,
        permit: impl Fn(&Record) -> bool + Send + Sync,
    ) -> Result<Arc<View>, CommandError> {
        let now = Timestamp::now();
        let release = |record: &Record| match permit(record) {
            true => records::released(record, name, now),
            false => Transition::Declined,
        };
        let update = self.outside.records.update(id, None, release).await?;
        let record = update.current().filter(|record| permit(&record.value)).ok_or(CommandError::Unknown)?;
        self.learn(id, record, false, None).await
    }
}

/// The end of a lease of this length, if the session's template permits it.
fn bounded(record: &Record, term: Length, now: Timestamp) -> Result<Timestamp, LeaseRefusal> {
    let max = record.policy.max_lease;
    let until = match term {
        Length::For(span) => {
            SignedDuration::try_from(span.get()).ok().and_then(|span| now.checked_add(span).ok())
        }
        Length::Until(until) => Some(until),
    };
    let length = |until: &Timestamp| until.duration_since(now).try_into().ok().unwrap_or_default();
    let permitted = Policy::MIN_LEASE.get()..=max.get();
    until.filter(|until| permitted.contains(&length(until))).ok_or(LeaseRefusal::OutOfBounds { max })
}

/// Why the record, as it is now, declined the lease.
fn refusal(record: &Record, until: Timestamp, now: Timestamp) -> LeaseRefusal {
    let outlived = record.lifetime_ends().is_some_and(|end| end.min(until) <= now);
    match record.phase {
        Phase::Ended => LeaseRefusal::Ended,
        Phase::Stopping => LeaseRefusal::Stopping,
        // Its lifetime is over: it is stopped as soon as a leader looks at it.
        Phase::Claimed | Phase::Running if outlived => LeaseRefusal::Stopping,
        Phase::Claimed | Phase::Running => LeaseRefusal::TooMany,
    }
}

#[cfg(test)]
mod tests {
    use bivouac_protocol::Generation;
    use proptest::prelude::*;

    use super::*;
    use crate::session::samples;

    fn record(lifetime: Option<Span>) -> Record {
        let policy = Policy { max_lifetime: lifetime, max_lease: Span::seconds(3_600), ..samples::policy() };
        let claim = samples::claim(policy, at(0));
        records::claimed(None, Generation(0), &claim)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    #[test]
    fn a_refusal_says_why() {
        let mut record = record(Some(Span::seconds(100)));
        assert_eq!(refusal(&record, at(60), at(50)), LeaseRefusal::TooMany);
        assert_eq!(refusal(&record, at(600), at(100)), LeaseRefusal::Stopping, "its lifetime is over");
        for (phase, refused) in
            [(Phase::Stopping, LeaseRefusal::Stopping), (Phase::Ended, LeaseRefusal::Ended)]
        {
            record.phase = phase;
            assert_eq!(refusal(&record, at(60), at(50)), refused);
        }
    }

    proptest! {
        #[test]
        fn a_lease_is_given_within_its_bounds_and_either_way_of_asking_is_the_same(seconds in -10_000i64..10_000) {
            let record = record(None);
            let until = bounded(&record, Length::Until(at(seconds)), at(0));
            let permitted = (1..=3_600).contains(&seconds);
            prop_assert_eq!(until.clone().ok(), permitted.then(|| at(seconds)));
            if let Ok(seconds) = u64::try_from(seconds) {
                prop_assert_eq!(bounded(&record, Length::For(Span::seconds(seconds)), at(0)), until);
            }
        }
    }
}
