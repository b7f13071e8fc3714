//! Evaluations: what the scheduler made of a job, above all when it found no room.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::decode::nullable;
use crate::{Client, Error, Listed};

/// One pass of the scheduler over a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Evaluation {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The job's Nomad namespace.
    #[serde(deserialize_with = "nullable")]
    pub namespace: String,
    /// The job.
    #[serde(rename = "JobID", deserialize_with = "nullable")]
    pub job_id: String,
    /// `pending`, `complete`, `blocked`, `failed` or `canceled`.
    #[serde(deserialize_with = "nullable")]
    pub status: String,
    /// In words.
    #[serde(deserialize_with = "nullable")]
    pub status_description: String,
    /// By group: why it found no place.
    #[serde(rename = "FailedTGAllocs", deserialize_with = "nullable")]
    pub failed_groups: BTreeMap<String, PlacementFailure>,
    /// Raft index of the last change.
    #[serde(deserialize_with = "nullable")]
    pub modify_index: u64,
}

/// Why a group found no place: numbers of nodes, by what they lack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PlacementFailure {
    /// Nodes that were looked at.
    #[serde(deserialize_with = "nullable")]
    pub nodes_evaluated: u64,
    /// Nodes in the job's pool.
    #[serde(deserialize_with = "nullable")]
    pub nodes_in_pool: u64,
    /// The job's pool.
    #[serde(deserialize_with = "nullable")]
    pub node_pool: String,
    /// By constraint: nodes that do not meet it.
    #[serde(deserialize_with = "nullable")]
    pub constraint_filtered: BTreeMap<String, u64>,
    /// By dimension (`memory`, `cpu`, `disk`, …): nodes on which it is used up.
    #[serde(deserialize_with = "nullable")]
    pub dimension_exhausted: BTreeMap<String, u64>,
    /// Quotas that are used up.
    #[serde(deserialize_with = "nullable")]
    pub quota_exhausted: Vec<String>,
}

impl Evaluation {
    /// Why the job waits, or found no place, and what to do, for people: "memory exhausted on 2 nodes: …". `None` if
    /// nothing is wrong. `drivers` are those of the job's tasks, as far as they are known: Nomad does not say which one
    /// is missing.
    #[must_use]
    pub fn shortage(&self, drivers: &BTreeSet<String>) -> Option<String> {
        if let Some(failure) = self.failed_groups.values().next() {
            return Some(failure.describe(drivers));
        }
        let description = || match self.status_description.as_str() {
            "" => format!("the evaluation is {}", self.status),
            text => text.to_owned(),
        };
        matches!(self.status.as_str(), "blocked" | "failed").then(description)
    }
}

impl PlacementFailure {
    fn describe(&self, drivers: &BTreeSet<String>) -> String {
        let parts: Vec<_> = self.exhausted().into_iter().chain(self.unfit(drivers)).collect();
        if parts.is_empty() { self.nowhere() } else { parts.join("; ") }
    }

    /// What would do, were there more of it.
    fn exhausted(&self) -> Vec<String> {
        let dimensions: Vec<_> = self
            .dimension_exhausted
            .iter()
            .map(|(dimension, count)| format!("{dimension} exhausted on {}", nodes(*count)))
            .collect();
        let room = (!dimensions.is_empty()).then(|| {
            format!("{}: add nodes, wait for others to end, or ask for less", dimensions.join(", "))
        });
        let quotas = self.quota_exhausted.iter().map(|quota| {
            format!("quota exhausted: {quota}: raise the namespace's quota, or wait for others to end")
        });
        room.into_iter().chain(quotas).collect()
    }

    /// What no amount of room would mend.
    fn unfit(&self, drivers: &BTreeSet<String>) -> Vec<String> {
        let named: Vec<_> = drivers.iter().map(|driver| format!("\"{driver}\"")).collect();
        let drivers = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
        let told = |(constraint, count): (&String, &u64)| match constraint.as_str() {
            "missing drivers" => format!(
                "the job's task driver{drivers} is missing, disabled or unhealthy on {}: enable it in the client's \
                 configuration, or use another one",
                nodes(*count)
            ),
            // All that is left of the reason where preemption is on: the scheduler then looks twice.
            "computed class ineligible" => format!(
                "{} not fit for the job: its task driver{drivers}, its network mode or one of its constraints is not \
                 met there",
                if *count == 1 { "1 node is".to_owned() } else { format!("{count} nodes are") }
            ),
            "missing network" => format!(
                "the job's network mode is missing on {}: a bridge needs the CNI plugins there",
                nodes(*count)
            ),
            other => format!("\"{other}\" is not met by {}: mend the job, or the nodes", nodes(*count)),
        };
        self.constraint_filtered.iter().map(told).collect()
    }

    fn nowhere(&self) -> String {
        match (self.nodes_evaluated, self.node_pool.as_str()) {
            (0, "") => "no node is eligible: add one, or end its drain".to_owned(),
            (0, pool) => format!(
                "no eligible node in node pool \"{pool}\" and the job's datacenters: add one, end its drain, or mend the \
                 job's node_pool and datacenters"
            ),
            _ => "no node has room: add nodes, or ask for less".to_owned(),
        }
    }
}

fn nodes(count: u64) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

impl Client {
    /// Evaluations that wait for room, in one namespace or in all that the token may read (`*`).
    ///
    /// # Errors
    /// If there is no answer, or the token is unknown.
    pub async fn blocked_evaluations(&self, namespace: &str) -> Result<Listed<Evaluation>, Error> {
        self.transport.pages(&["evaluations"], &[("namespace", namespace), ("status", "blocked")]).await
    }
}
