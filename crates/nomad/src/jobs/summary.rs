//! How a job's allocations fared, by count.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::Deserialize;

use crate::decode::nullable;
use crate::{Client, Error};

/// How many allocations of a job there were, by what was last said of each. What a client reported of one is still
/// counted when the servers have forgotten the allocation itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Summary {
    /// By group.
    #[serde(rename = "Summary", deserialize_with = "nullable")]
    pub groups: BTreeMap<String, GroupSummary>,
}

/// The allocations of one group, counted by their client's status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[allow(missing_docs, reason = "Nomad's own words")]
pub struct GroupSummary {
    pub starting: u64,
    pub running: u64,
    pub complete: u64,
    pub failed: u64,
    pub lost: u64,
    pub unknown: u64,
}

impl Summary {
    /// Whether there were allocations, and each of them was reported complete or failed by its own client.
    #[must_use]
    pub fn is_all_over(&self) -> bool {
        let over = |group: &GroupSummary| group.complete + group.failed;
        let open = |group: &GroupSummary| group.starting + group.running + group.lost + group.unknown;
        self.groups.values().map(over).sum::<u64>() > 0 && self.groups.values().map(open).sum::<u64>() == 0
    }
}

impl Client {
    /// How a job's allocations fared, consistently, also those that the servers have forgotten. `None`: no such job.
    ///
    /// # Errors
    /// If there is no answer, or the token is refused.
    pub async fn job_summary(&self, id: &str, namespace: &str) -> Result<Option<Summary>, Error> {
        let request = self.transport.call(Method::GET, &["job", id, "summary"]);
        self.transport.found(request.query(&[("namespace", namespace)])).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_over_only_by_its_clients_words() {
        let summary = |group| Summary { groups: BTreeMap::from([("g".to_owned(), group)]) };
        let over = GroupSummary { complete: 1, ..GroupSummary::default() };
        assert!(summary(over).is_all_over());
        assert!(summary(GroupSummary { failed: 2, ..over }).is_all_over());
        for open in [
            GroupSummary { unknown: 1, ..over },
            GroupSummary { lost: 1, ..over },
            GroupSummary { starting: 1, ..over },
            GroupSummary { running: 1, ..over },
            GroupSummary::default(),
        ] {
            assert!(!summary(open).is_all_over(), "{open:?}");
        }
    }
}
