//! Evaluations: what the scheduler made of a job, above all when it found no room.

use std::collections::BTreeMap;

use reqwest::Method;
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
    /// Why the job waits, or found no place, for people: "memory exhausted on 2 nodes". `None` if nothing is wrong.
    #[must_use]
    pub fn shortage(&self) -> Option<String> {
        if let Some(failure) = self.failed_groups.values().next() {
            return Some(failure.to_string());
        }
        let description = || match self.status_description.as_str() {
            "" => format!("the evaluation is {}", self.status),
            text => text.to_owned(),
        };
        matches!(self.status.as_str(), "blocked" | "failed").then(description)
    }
}

impl std::fmt::Display for PlacementFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        for (dimension, count) in &self.dimension_exhausted {
            parts.push(format!("{dimension} exhausted on {}", nodes(*count)));
        }
        for quota in &self.quota_exhausted {
            parts.push(format!("quota exhausted: {quota}"));
        }
        for (constraint, count) in &self.constraint_filtered {
            parts.push(format!("\"{constraint}\" is not met by {}", nodes(*count)));
        }
        match (parts.is_empty(), self.nodes_in_pool) {
            (true, 0) if !self.node_pool.is_empty() => write!(f, "no node in pool \"{}\"", self.node_pool),
            (true, _) if self.nodes_evaluated == 0 => write!(f, "no node is eligible"),
            (true, _) => write!(f, "no node has room"),
            _ => f.write_str(&parts.join(", ")),
        }
    }
}

fn nodes(count: u64) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

impl Client {
    /// The evaluations of a job.
    ///
    /// # Errors
    /// If there is no answer, or the token is refused. A job that does not exist has none.
    pub async fn job_evaluations(&self, job: &str, namespace: &str) -> Result<Vec<Evaluation>, Error> {
        let request = self.transport.call(Method::GET, &["job", job, "evaluations"]);
        let request = request.query(&[("namespace", namespace)]);
        Ok(self.transport.value::<Option<Vec<Evaluation>>>(request).await?.unwrap_or_default())
    }

    /// Evaluations that wait for room, in one namespace or in all that the token may read (`*`).
    ///
    /// # Errors
    /// If there is no answer, or the token is unknown.
    pub async fn blocked_evaluations(&self, namespace: &str) -> Result<Listed<Evaluation>, Error> {
        self.transport.pages(&["evaluations"], &[("namespace", namespace), ("status", "blocked")]).await
    }
}
