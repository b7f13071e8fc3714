//! Why a session ended.

use serde::{Deserialize, Serialize};

/// The closed list of causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// Nobody used it for its `idle_timeout`.
    Idle,
    /// Its connections carried no application bytes for its `quiet_timeout`.
    Quiet,
    /// It reached its `max_lifetime`.
    Lifetime,
    /// A caller of the API stopped it.
    Requested,
    /// The backend ended by itself.
    Exited,
    /// The backend ended, or could not be started, before it was ready.
    StartFailed,
    /// It was not ready within its `startup_timeout`.
    StartupTimeout,
    /// The cluster had no room within the `startup_timeout`.
    NoCapacity,
    /// Its node was drained.
    Drained,
    /// A more important job took its place.
    Preempted,
    /// Somebody stopped the job outside of Bivouac.
    Operator,
    /// An unreachable session was given up.
    Abandoned,
    /// The allocation was lost or started a second time.
    Lost,
}

impl ReasonCode {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Idle,
        Self::Quiet,
        Self::Lifetime,
        Self::Requested,
        Self::Exited,
        Self::StartFailed,
        Self::StartupTimeout,
        Self::NoCapacity,
        Self::Drained,
        Self::Preempted,
        Self::Operator,
        Self::Abandoned,
        Self::Lost,
    ];

    /// The code as it stands in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Quiet => "quiet",
            Self::Lifetime => "lifetime",
            Self::Requested => "requested",
            Self::Exited => "exited",
            Self::StartFailed => "start_failed",
            Self::StartupTimeout => "startup_timeout",
            Self::NoCapacity => "no_capacity",
            Self::Drained => "drained",
            Self::Preempted => "preempted",
            Self::Operator => "operator",
            Self::Abandoned => "abandoned",
            Self::Lost => "lost",
        }
    }

    /// Whether Bivouac ended it, as its template or a caller wanted.
    #[must_use]
    pub fn is_on_purpose(self) -> bool {
        matches!(self, Self::Idle | Self::Quiet | Self::Lifetime | Self::Requested)
    }

    /// Whether the start itself failed: a held request is then told so, and waking backs off.
    #[must_use]
    pub fn is_failed_start(self) -> bool {
        matches!(self, Self::StartFailed | Self::StartupTimeout | Self::NoCapacity)
    }
}

/// Why a session ended, with what is known about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reason {
    /// The cause.
    pub code: ReasonCode,
    /// The backend's exit code, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The last lines that the backend printed, where it did not end well. Printable text only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_tail: Vec<String>,
}

impl Reason {
    /// A reason without an exit code.
    #[must_use]
    pub fn new(code: ReasonCode, detail: impl Into<String>) -> Self {
        Self { code, exit_code: None, detail: Some(detail.into()), log_tail: Vec::new() }
    }

    /// What of it is for a session's users: what a backend prints is its operator's business.
    #[must_use]
    pub fn for_users(&self) -> Self {
        Self { log_tail: Vec::new(), ..self.clone() }
    }
}

impl From<ReasonCode> for Reason {
    fn from(code: ReasonCode) -> Self {
        Self { code, exit_code: None, detail: None, log_tail: Vec::new() }
    }
}
