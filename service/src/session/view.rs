//! A session as people see it: in the API, in events, in the command line.

use std::collections::BTreeMap;

use bivouac_protocol::{
    AllocationId, BootId, Generation, Key, LeaseName, Namespace, Policy, Reason, SessionId, TemplateName,
    Timeline, TokenName,
};
use jiff::Timestamp;
use serde::Serialize;

/// The states of design §5.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Claimed; not placed yet.
    Queued,
    /// Placed: the address is known.
    Placed,
    /// The driver started the task.
    Starting,
    /// It answers.
    Ready,
    /// An idle stop is being attempted.
    Fencing,
    /// A stop is decided.
    Stopping,
    /// Over.
    Ended,
}

impl State {
    /// All of them, in this order.
    pub(crate) const ALL: [Self; 7] =
        [Self::Queued, Self::Placed, Self::Starting, Self::Ready, Self::Fencing, Self::Stopping, Self::Ended];

    /// Its name, in queries and metrics as in documents.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Placed => "placed",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Fencing => "fencing",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
        }
    }
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct View {
    /// Identity.
    pub id: SessionId,
    /// The application's name for it.
    pub key: Option<Key>,
    /// The key's namespace.
    pub namespace: Namespace,
    /// Current run.
    pub generation: Generation,
    /// From which recipe.
    pub template: TemplateName,
    /// How far it has come.
    pub state: State,
    /// Why it is stopping or ended.
    pub reason: Option<Reason>,
    /// While queued: what the cluster lacks.
    pub waiting_for: Option<String>,
    /// Where users reach it.
    pub url: String,
    /// The application's own marks.
    pub labels: BTreeMap<String, String>,
    /// For whom it was spawned.
    pub user: Option<String>,
    /// The name of the API token that spawned it.
    pub spawned_by: Option<TokenName>,
    /// The pinned allocation.
    pub allocation: Option<AllocationId>,
    /// Where it runs.
    pub node: Option<String>,
    /// Its node is not heard from: it may serve, or run, or be gone.
    pub unreachable: Option<Unreachable>,
    /// The rules of this run.
    pub policy: Policy,
    /// When what happened.
    pub timeline: Timeline,
    /// Why it is alive; absent once it is stopping.
    pub alive: Option<Alive>,
}

/// Since when a session's node has been away, and what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Unreachable {
    /// When the replica that answers first saw it so.
    pub since: Timestamp,
    /// When it is given up, if the node stays away and this replica leads; absent where the template waits.
    pub given_up_at: Option<Timestamp>,
}

/// The evidence that keeps a session alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alive {
    /// What follows from the evidence.
    pub verdict: VerdictName,
    /// When it will be stopped, if nothing changes: for want of use, because its connections are silent, or at the end of
    /// its lifetime.
    pub ends_at: Option<Timestamp>,
    /// Since when nothing but pings has moved on its open connections; absent where it has no `quiet_timeout`, or is not
    /// in use by such connections alone.
    pub quiet_since: Option<Timestamp>,
    /// Members whose evidence is missing.
    pub silent: Vec<BootId>,
    /// Each member's evidence.
    pub proxies: Vec<ProxyUse>,
    /// Last spawn that joined it, or change of its leases.
    pub touched_at: Timestamp,
    /// Promises to keep it alive, by name, and until when.
    pub leases: BTreeMap<LeaseName, Timestamp>,
}

/// The verdict, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictName {
    /// In use, or kept alive by a lease.
    Busy,
    /// Not in use, on all members' word.
    Idle,
    /// Some member is silent.
    Unknown,
}

impl VerdictName {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Busy, Self::Idle, Self::Unknown];

    /// Its name, in metrics as in documents.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Idle => "idle",
            Self::Unknown => "unknown",
        }
    }
}

/// How one proxy uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProxyUse {
    /// Which proxy.
    pub boot: BootId,
    /// Requests and connections that are open or held.
    pub open: u32,
    /// End of the last of them, if it was ever used there.
    pub last_use: Option<Timestamp>,
}

impl View {
    /// Whether the two differ in nothing but the evidence. Asked on every edge of a session's use: nothing is copied.
    #[must_use]
    pub fn is_same_but_for_evidence(&self, other: &Self) -> bool {
        // Named one by one, so that a field that is added is not left out.
        let Self {
            id,
            key,
            namespace,
            generation,
            template,
            state,
            reason,
            waiting_for,
            url,
            labels,
            user,
            spawned_by,
            allocation,
            node,
            unreachable,
            policy,
            timeline,
            alive: _,
        } = self;
        (id, key, namespace, generation, template)
            == (&other.id, &other.key, &other.namespace, &other.generation, &other.template)
            && (state, reason, waiting_for, url, labels)
                == (&other.state, &other.reason, &other.waiting_for, &other.url, &other.labels)
            && (user, spawned_by, allocation, node)
                == (&other.user, &other.spawned_by, &other.allocation, &other.node)
            && (unreachable, policy, timeline) == (&other.unreachable, &other.policy, &other.timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_documents() {
        for state in State::ALL {
            assert_eq!(serde_json::json!(state), state.name());
        }
        assert!(State::ALL.is_sorted());
        for verdict in VerdictName::ALL {
            assert_eq!(serde_json::json!(verdict), verdict.name());
        }
    }
}
