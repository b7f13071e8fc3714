//! The session's document in the ledger: the record decides, everything else is derived from it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{
    AllocationId, Generation, Key, LeaseName, Namespace, Nonce, PortLabel, TemplateName, TokenName,
};
use crate::reason::{Reason, ReasonCode};
use crate::route::{Protocol, Rules};
use crate::span::Span;

/// How far a generation has come, as far as it was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// One spawner won; the job may or may not be registered.
    Claimed,
    /// The first allocation is pinned.
    Running,
    /// A stop is decided and cannot be undone.
    Stopping,
    /// The allocation is known to be over.
    Ended,
}

/// What a caller asked for, kept so that a wake or a takeover can start the session again.
///
/// Like the record around it, it is read leniently: while a new version is rolled out, the old one meets the fields of
/// the new one. What a caller sends is checked at the API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredRequest {
    /// Values of the template's parameters.
    pub params: BTreeMap<String, String>,
    /// Additional environment, where the template permits it.
    pub env: BTreeMap<String, String>,
    /// Additional arguments, where the template permits it.
    pub args: Vec<String>,
    /// Another image, where the template permits it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Other resources, where the template permits it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The application's own marks; shown, never interpreted.
    pub labels: BTreeMap<String, String>,
    /// For whom the session was spawned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The name of the API token that spawned it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spawned_by: Option<TokenName>,
    /// The caller's timeouts, where they differ from the template's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Span>,
    /// See [`Policy::quiet_timeout`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet_timeout: Option<Span>,
    /// See [`Policy::max_lifetime`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lifetime: Option<Span>,
    /// See [`Policy::startup_timeout`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup_timeout: Option<Span>,
}

/// Resources of a session that a caller may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// CPU in MHz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// Memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
}

/// The rules of one generation, resolved at its claim: a running session keeps the template it started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Ends the session this long after its last use (after ready, if it was never used).
    pub idle_timeout: Span,
    /// Ends it when its open connections have carried no application bytes for so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_timeout: Option<Span>,
    /// Ends it this long after its claim, by the wall clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lifetime: Option<Span>,
    /// Gives it up if it is not ready this long after its claim.
    pub startup_timeout: Span,
    /// The furthest that a lease may reach into the future.
    #[serde(default = "Policy::default_max_lease")]
    pub max_lease: Span,
    /// Time between the stop signal and the kill.
    pub stop_grace: Span,
    /// Whether a request for the ended session starts it again.
    #[serde(default)]
    pub wake: bool,
    /// Gives it up once its node has been unreachable for this long: another run may then be started while this one
    /// still runs there. Without it, it is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_after: Option<Span>,
    /// Label of the port that requests go to.
    pub port: PortLabel,
    /// What that port speaks.
    #[serde(default)]
    pub protocol: Protocol,
    /// HTTP path that answers 2xx once the backend is ready; without one a TCP connection is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_path: Option<String>,
    /// The template's other ports.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub further: BTreeMap<PortLabel, PortPolicy>,
    /// What the template says about the session's traffic.
    #[serde(default)]
    pub rules: Rules,
}

/// One of a template's further ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortPolicy {
    /// What it speaks.
    #[serde(default)]
    pub protocol: Protocol,
    /// See [`Policy::ready_path`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_path: Option<String>,
}

impl Policy {
    /// The rules where a template says nothing but the name of its port: what [`Policy`] literals begin with.
    #[must_use]
    pub fn plain(port: PortLabel) -> Self {
        Self {
            idle_timeout: Span::seconds(5 * 60),
            quiet_timeout: None,
            max_lifetime: None,
            startup_timeout: Span::seconds(2 * 60),
            max_lease: Self::default_max_lease(),
            stop_grace: Span::seconds(10),
            wake: false,
            overlap_after: None,
            port,
            protocol: Protocol::Http,
            ready_path: None,
            further: BTreeMap::new(),
            rules: Rules::default(),
        }
    }

    /// The shortest lease that can be asked for.
    pub const MIN_LEASE: Span = Span::seconds(1);

    /// The furthest that a lease may reach into the future where the template says nothing: a week.
    #[must_use]
    pub const fn default_max_lease() -> Span {
        Span::seconds(7 * 24 * 3600)
    }
}

/// When each step of the start, and of the end, was seen. Wall-clock times, for display only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeline {
    /// The record was claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimed: Option<Timestamp>,
    /// The job was registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registered: Option<Timestamp>,
    /// The allocation was placed; its address is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placed: Option<Timestamp>,
    /// The driver started the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// The port accepted a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_open: Option<Timestamp>,
    /// The backend answered its readiness probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<Timestamp>,
    /// The first byte of a response went to a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Timestamp>,
    /// The stop was committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopping: Option<Timestamp>,
    /// The allocation was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

/// The document. Changed only by check-and-set, and every change raises `revision`: Consul leaves a key's index alone
/// when a write changes no byte, and a check-and-set against an index that did not move protects nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Raised by every write.
    pub revision: u64,
    /// The key's namespace.
    pub namespace: Namespace,
    /// The application's name for the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// The template it was spawned from.
    pub template: TemplateName,
    /// Digest of that template's files at the claim.
    pub hash: String,
    /// What the caller asked for.
    pub request: StoredRequest,
    /// The rules of this generation.
    pub policy: Policy,
    /// This run's fencing number.
    pub generation: Generation,
    /// Tells this claim apart from any other of the same generation.
    pub nonce: Nonce,
    /// How far it has come.
    pub phase: Phase,
    /// The pinned allocation, from `running` on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation: Option<AllocationId>,
    /// Explicit promises to keep the session alive until a time, by the wall clock. One that has expired stays until the
    /// next join, or change of a lease: it tells since when the session is idle.
    #[serde(default)]
    pub leases: BTreeMap<LeaseName, Timestamp>,
    /// Last spawn that joined the live session, or change of a lease: it counts as a use.
    pub touched_at: Timestamp,
    /// Why it is stopping, or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Starts in a row that failed: a wake waits longer after each.
    #[serde(default)]
    pub failures: u32,
    /// When what happened.
    #[serde(default)]
    pub timeline: Timeline,
}

impl Record {
    /// The same record with its revision raised: the base of every write.
    #[must_use]
    pub fn revised(&self) -> Self {
        Self { revision: self.revision + 1, ..self.clone() }
    }

    /// Whether a request may start it again once it has ended: it has a key, its template says so, and it was not stopped
    /// by an operator's hand, who does not want it back just because somebody looks.
    #[must_use]
    pub fn may_be_woken(&self) -> bool {
        let by_operator = self.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::Operator);
        self.policy.wake && self.key.is_some() && !by_operator
    }

    /// When it reaches its `max_lifetime`, by the wall clock; `None`: never.
    #[must_use]
    pub fn lifetime_ends(&self) -> Option<Timestamp> {
        let lifetime = jiff::SignedDuration::try_from(self.policy.max_lifetime?.get()).ok()?;
        self.timeline.claimed?.checked_add(lifetime).ok()
    }

    /// The leases that have not expired.
    pub fn live_leases(&self, now: Timestamp) -> impl Iterator<Item = (&LeaseName, Timestamp)> {
        self.leases.iter().map(|(name, until)| (name, *until)).filter(move |(_, until)| *until > now)
    }

    /// Whether the session is neither stopping nor ended.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Claimed | Phase::Running)
    }
}
