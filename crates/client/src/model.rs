//! The API's answers as its callers see them. Fields that are added later are ignored, states that are added later
//! read as `unknown`: an older client goes on working.

use std::collections::BTreeMap;
use std::fmt;

use bivouac_protocol::{
    AllocationId, BootId, Generation, Key, Namespace, Policy, Reason, SessionId, TemplateName, Timeline,
    TokenName, member::Member,
};
use jiff::Timestamp;
use serde::Deserialize;

/// The answer to a spawn.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Spawned {
    /// Whether this call spawned it; `false` when the key's session was already there.
    pub spawned: bool,
    /// The session.
    #[serde(flatten)]
    pub session: Session,
}

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Claimed; not placed yet.
    Queued,
    /// Placed: its address is known.
    Placed,
    /// The driver started it.
    Starting,
    /// It answers.
    Ready,
    /// An idle stop is being attempted.
    Fencing,
    /// A stop is decided.
    Stopping,
    /// Over.
    Ended,
    /// A state that this client does not know.
    #[serde(other)]
    Unknown,
}

impl State {
    /// The state as it stands in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Placed => "placed",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Fencing => "fencing",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Session {
    /// Identity.
    pub id: SessionId,
    /// The application's name for it.
    pub key: Option<Key>,
    /// The key's namespace.
    pub namespace: Namespace,
    /// Current run.
    pub generation: Generation,
    /// From which template.
    pub template: TemplateName,
    /// How far it has come.
    pub state: State,
    /// Why it is stopping, or ended.
    pub reason: Option<Reason>,
    /// While queued: what the cluster lacks.
    pub waiting_for: Option<String>,
    /// Where users reach it.
    pub url: String,
    /// The application's own marks.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// For whom it was spawned.
    pub user: Option<String>,
    /// The name of the API token that spawned it.
    #[serde(default)]
    pub spawned_by: Option<TokenName>,
    /// Its allocation in Nomad.
    pub allocation: Option<AllocationId>,
    /// Where it runs.
    pub node: Option<String>,
    /// Its node is not heard from.
    #[serde(default)]
    pub unreachable: Option<Unreachable>,
    /// The rules of this run.
    pub policy: Policy,
    /// When what happened.
    #[serde(default)]
    pub timeline: Timeline,
    /// Why it is alive; absent once it is stopping.
    pub alive: Option<Alive>,
}

/// Since when a session's node has been away, and what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Unreachable {
    /// When it was first seen so.
    pub since: Timestamp,
    /// When it is given up, if the node stays away; absent where it is waited for.
    pub given_up_at: Option<Timestamp>,
}

/// The evidence that keeps a session alive.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Alive {
    /// What follows from the evidence.
    pub verdict: Verdict,
    /// When it will be stopped, if nothing changes.
    pub ends_at: Option<Timestamp>,
    /// Since when nothing but pings has moved on its open connections, where that can end it.
    #[serde(default)]
    pub quiet_since: Option<Timestamp>,
    /// Proxies whose evidence is missing.
    #[serde(default)]
    pub silent: Vec<BootId>,
    /// Each proxy's evidence.
    #[serde(default)]
    pub proxies: Vec<ProxyUse>,
    /// Last spawn that joined it.
    pub touched_at: Timestamp,
    /// Promises to keep it alive.
    #[serde(default)]
    pub leases: BTreeMap<String, Timestamp>,
}

/// What follows from the proxies' evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// In use.
    Busy,
    /// Not in use, on every proxy's word.
    Idle,
    /// Some proxy is silent.
    #[serde(other)]
    Unknown,
}

/// How one proxy uses a session.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ProxyUse {
    /// Which proxy.
    pub boot: BootId,
    /// Requests and connections that are open or held.
    pub open: u32,
    /// End of the last of them.
    pub last_use: Option<Timestamp>,
}

/// A page of sessions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<Session>,
    /// Where the next page begins, if there is one.
    #[serde(default)]
    pub next: Option<String>,
}

/// The templates that are loaded.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TemplateList {
    /// The templates.
    pub templates: Vec<Template>,
}

/// One template.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Template {
    /// Its name: what a spawn says.
    pub name: TemplateName,
    /// What it is, for people.
    #[serde(default)]
    pub description: Option<String>,
    /// Whether it can be spawned from now.
    pub enabled: bool,
    /// Why not.
    #[serde(default)]
    pub problem: Option<String>,
}

/// The member proxies.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MemberList {
    /// The proxies.
    pub members: Vec<ListedMember>,
}

/// A member, and whether the replica that answered hears it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ListedMember {
    /// Who it is.
    #[serde(flatten)]
    pub member: Member,
    /// Whether its link to that replica is up.
    #[serde(default)]
    pub linked: Option<bool>,
}
