//! The order of stop attempts.

use serde::{Deserialize, Serialize};

/// One leadership, numbered by the index at which its lock was taken: later leaderships have higher terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Term(pub u64);

/// What an attempt disregards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum FenceMode {
    /// Nothing: whatever is open keeps the session.
    #[default]
    Idle,
    /// Carriers on which no application bytes move: tunnels, and responses whose head is out. Their later bytes are held.
    Quiet,
}

/// Names one attempt to stop one session. Ordered by term, then attempt: a proxy remembers the highest pair that it
/// lifted, so a fence that arrives after its own unfence is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FenceTag {
    /// The leadership that made the attempt.
    pub term: Term,
    /// Rises within a term.
    pub attempt: u64,
}
