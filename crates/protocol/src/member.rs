//! The proxies whose evidence is needed before a session is stopped for idleness.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{BootId, Nonce};

/// The list of members. It carries a fresh nonce with every write, so that its index always moves and a commit that
/// was checked against an older list is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// Fresh with every write.
    pub nonce: Nonce,
    /// The proxies that may hold connections.
    pub boots: BTreeSet<BootId>,
    /// The last removal: it counts as a use of every session, because what the removed proxy knew is gone with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Removal>,
}

/// A member left, or was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Who.
    pub boot: BootId,
    /// By which rule.
    pub cause: RemovalCause,
    /// When, by the wall clock of whoever wrote it.
    pub at: Timestamp,
}

/// The closed list of reasons to stop waiting for a proxy's evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemovalCause {
    /// It said goodbye with nothing open.
    Goodbye,
    /// Its own Nomad client reported its allocation complete or failed.
    AllocationOver,
    /// Another process took its boot's lock file.
    LockTaken,
    /// An operator said so.
    Forgotten,
    /// It was silent to everybody for `presume_dead_after`, and its Consul session was gone.
    PresumedDead,
}

/// One proxy's own document: who it is, for operators and for the rules of removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// This life of it.
    pub boot: BootId,
    /// The host it runs on.
    pub host: String,
    /// Where it serves session traffic.
    pub listen: String,
    /// Its process id on that host.
    pub pid: u32,
    /// Its own Nomad allocation, where it runs as a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation: Option<String>,
    /// Its Consul session; gone when the proxy, or its agent, is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// When a replica last heard it although its Consul session was gone: a sign of life for the other replicas, who
    /// compare it with what stood here before and never with their clocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vouched_at: Option<Timestamp>,
    /// Since when it has been told to drain: it accepts nothing more, and leaves once nothing is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining_since: Option<Timestamp>,
    /// When it joined.
    pub joined_at: Timestamp,
    /// Its version.
    pub version: String,
}
