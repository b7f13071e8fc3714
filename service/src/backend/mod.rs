//! What runs sessions: a Nomad cluster, or child processes of this one.
//!
//! A backend starts, stops and reports; it decides nothing. Reports may come late, twice or not at all: whatever is
//! concluded from an absence is asked for by id, with [`Backend::inspect`].

pub mod logs;
pub mod nomad;
pub mod process;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bivouac_access::Access;
use bivouac_protocol::{AllocationId, Generation, Nonce, PortLabel, Record, SessionId};
use tokio::sync::mpsc;

use crate::spec::Template;

/// One generation of one session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Run {
    /// Which session.
    pub session: SessionId,
    /// Which run of it.
    pub generation: Generation,
}

/// All that is needed to start a run.
#[derive(Debug, Clone)]
pub struct Start {
    /// Which session.
    pub session: SessionId,
    /// Its claimed record.
    pub record: Arc<Record>,
    /// The template, as it was at the claim.
    pub template: Arc<Template>,
    /// The session's URL, handed to the backend as `BIVOUAC_URL`.
    pub url: String,
}

/// Why a run was not started.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// No answer: it may have been started or not. Try again; starting is idempotent.
    #[error("{0}")]
    Unavailable(String),
    /// The cluster says no, and will say no again.
    #[error("{0}")]
    Refused(String),
    /// A run with this id exists and is not ours (another nonce).
    #[error("a job with this id exists already and carries another nonce")]
    Foreign,
}

/// No answer from the backend, or a refusal of our credentials: nothing may be concluded.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// How a stop treats the backend process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grace {
    /// Signal, wait for the template's grace period, kill.
    Template,
    /// Kill at once.
    None,
}

/// What a consistent look at one run found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// There is no such job, and there never will be one unless somebody starts it.
    Absent,
    /// It exists.
    Present {
        /// The nonce it was registered with.
        nonce: Option<Nonce>,
        /// Somebody asked it to stop, or it is over.
        stopped: bool,
        /// Its allocations, oldest first.
        allocations: Vec<Allocated>,
        /// The cluster remembers none of its allocations, and each was reported over by its own client.
        forgotten: bool,
    },
}

/// One allocation of a run, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocated {
    /// Its id.
    pub allocation: AllocationId,
    /// Its ports, by label; empty before placement.
    pub ports: BTreeMap<PortLabel, SocketAddr>,
    /// Where it runs.
    pub node: Option<String>,
    /// Whether, and how, it is over.
    pub status: Status,
    /// Its task was started a second time: what runs, or ran last, is not what was routed.
    pub restarted: bool,
    /// Somebody takes it away, other than by stopping its job. It may still run for its grace period.
    pub displaced: Option<Displacement>,
}

/// Why an allocation has to go whose job goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Displacement {
    /// Its node is drained.
    Drained,
    /// A job of higher priority needs its room.
    Preempted,
    /// Somebody stopped this allocation by hand.
    Stopped,
}

/// How an allocation fares. `Over` only when its own client said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Placed; nothing runs yet.
    Pending,
    /// Its task was started by the driver.
    Running,
    /// Its client is not heard from.
    Unreachable,
    /// Complete or failed, reported by its own client.
    Over(Outcome),
}

/// How an allocation ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The backend's exit code.
    pub exit_code: Option<i32>,
    /// What the driver or scheduler says, for people.
    pub detail: Option<String>,
    /// Whether somebody asked for the stop (us or an operator).
    pub stopped: bool,
}

/// A report about one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// A job of this installation exists (also told for every one at the start and after a gap).
    Job {
        /// Which run.
        run: Run,
        /// Its nonce.
        nonce: Option<Nonce>,
        /// Somebody asked it to stop.
        stopped: bool,
    },
    /// It waits for room: which dimensions are exhausted.
    Blocked {
        /// Which run.
        run: Run,
        /// For people: "memory exhausted on 2 nodes".
        detail: String,
    },
    /// An allocation was placed or changed.
    Allocation {
        /// Which run.
        run: Run,
        /// What is known.
        allocated: Allocated,
    },
    /// Everything that exists has been told (after the start, or after a gap in the stream).
    Synced,
    /// Events may have been missed; everything is told again, up to the next `Synced`.
    Missed,
    /// The stream broke; until the next `Synced` events may be missing.
    Interrupted(String),
}

impl Observation {
    /// Which run it is about, if it is about one.
    #[must_use]
    pub fn run(&self) -> Option<&Run> {
        match self {
            Self::Job { run, .. } | Self::Blocked { run, .. } | Self::Allocation { run, .. } => Some(run),
            Self::Synced | Self::Missed | Self::Interrupted(_) => None,
        }
    }
}

/// The place where sessions run.
#[async_trait::async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Starts a run. Idempotent: the same run with the same nonce again is a success.
    async fn start(&self, start: Start) -> Result<(), StartError>;

    /// Stops a run, in order to end it for ever. Idempotent; a run that never existed is a success.
    async fn stop(&self, run: &Run, grace: Grace) -> Result<(), Unavailable>;

    /// A consistent look at one run.
    async fn inspect(&self, run: &Run) -> Result<Presence, Unavailable>;

    /// Removes what is left of a run that is over.
    async fn purge(&self, run: &Run) -> Result<(), Unavailable>;

    /// Reads what a run prints, or printed. `allocation` is the one it was pinned to, if it was. `None`: there is
    /// nothing to read, because it never came so far.
    async fn logs(
        &self,
        run: &Run,
        allocation: Option<&AllocationId>,
        wanted: logs::Wanted,
    ) -> Result<Option<logs::Reading>, logs::LogError>;

    /// Reports until the receiver is dropped; reconnects by itself.
    async fn observe(&self, reports: mpsc::Sender<Observation>);

    /// Whether the backend answers: `Err` says what is wrong, for `/readyz`.
    async fn health(&self) -> Result<(), Unavailable>;

    /// What the cluster makes of our credentials, where it asks for any.
    fn access(&self) -> Option<Access> {
        None
    }

    /// Whether an allocation, of whatever job, was reported complete or failed by its own client.
    async fn is_over(&self, allocation: &str) -> Result<bool, Unavailable>;

    /// The record that a run was started from, if the run is live and tells it: for a record that was lost.
    async fn recall(&self, run: &Run) -> Result<Option<Record>, Unavailable>;

    /// The shortest time after which a run that was asked to stop should be asked again.
    fn stop_retry(&self) -> Duration {
        Duration::from_secs(5)
    }
}
