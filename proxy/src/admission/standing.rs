//! What a record means for a request. Pure.

use std::collections::BTreeSet;

use bivouac_protocol::{AllocationId, Generation, Phase, Policy, PortLabel, Reason, Record, Timeline};

use crate::refusal::Refusal;

/// How a session stands, as its record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// There is no such session.
    Unknown,
    /// A spawner has claimed it; nothing is placed yet.
    Claimed(Generation),
    /// Its allocation is pinned.
    Running {
        generation: Generation,
        allocation: Option<AllocationId>,
        /// It has answered its readiness probe once.
        was_ready: bool,
        /// What this run's template said: the directory knows nothing of it.
        policy: Box<Policy>,
    },
    /// A stop is decided; it cannot be served until it has ended.
    Stopping { generation: Generation, reason: Option<Reason> },
    /// Nothing runs.
    Ended { generation: Generation, reason: Option<Reason>, wake: bool },
}

impl Standing {
    pub(crate) fn of(record: Option<&Record>) -> Self {
        let Some(record) = record else { return Self::Unknown };
        let (generation, reason) = (record.generation, record.reason.clone());
        match record.phase {
            Phase::Claimed => Self::Claimed(generation),
            Phase::Running => Self::Running {
                generation,
                allocation: record.allocation.clone(),
                was_ready: record.timeline.ready.is_some(),
                policy: Box::new(record.policy.clone()),
            },
            Phase::Stopping => Self::Stopping { generation, reason },
            Phase::Ended => Self::Ended { generation, reason, wake: record.may_be_woken() },
        }
    }

    /// Which generation the record is of.
    pub(crate) fn generation(&self) -> Option<Generation> {
        match self {
            Self::Unknown => None,
            Self::Claimed(generation)
            | Self::Running { generation, .. }
            | Self::Stopping { generation, .. }
            | Self::Ended { generation, .. } => Some(*generation),
        }
    }

    /// The generation, while it lives.
    pub(crate) fn live(&self) -> Option<Generation> {
        match self {
            Self::Claimed(generation) | Self::Running { generation, .. } => Some(*generation),
            Self::Unknown | Self::Stopping { .. } | Self::Ended { .. } => None,
        }
    }
}

/// What stays known of a record once it was read: which ports there are, and how far the start has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// Of which run.
    pub(crate) generation: Generation,
    /// When what of it happened.
    pub(crate) timeline: Timeline,
    ports: BTreeSet<PortLabel>,
}

impl Recorded {
    pub(crate) fn of(record: &Record) -> Self {
        let ports = record.policy.further.keys().chain([&record.policy.port]).cloned().collect();
        Self { generation: record.generation, timeline: record.timeline.clone(), ports }
    }

    /// Whether its template has a port with this label.
    pub(crate) fn has(&self, label: &PortLabel) -> bool {
        self.ports.contains(label)
    }
}

/// What a request is told whose session is over.
pub(crate) fn refusal_of_end(reason: Option<Reason>) -> Refusal {
    if reason.as_ref().is_some_and(|reason| reason.code.is_failed_start()) {
        Refusal::StartFailed(reason)
    } else {
        Refusal::Ended(reason)
    }
}
