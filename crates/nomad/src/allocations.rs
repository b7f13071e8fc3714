//! Allocations: where a job's group runs, and how its tasks fare.

use std::collections::BTreeMap;

use futures::{Stream, stream};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::decode::nullable;
use crate::{Client, Error, Listed};

/// An allocation as lists, look-ups and events show it. Lists of one job leave the resources out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Allocation {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its Nomad namespace.
    #[serde(deserialize_with = "nullable")]
    pub namespace: String,
    /// Whose allocation.
    #[serde(rename = "JobID", deserialize_with = "nullable")]
    pub job_id: String,
    /// The node's name.
    #[serde(deserialize_with = "nullable")]
    pub node_name: String,
    /// The node's id.
    #[serde(rename = "NodeID", deserialize_with = "nullable")]
    pub node_id: String,
    /// What the scheduler wants: `run`, `stop` or `evict`.
    #[serde(deserialize_with = "nullable")]
    pub desired_status: String,
    /// Why it wants that.
    #[serde(deserialize_with = "nullable")]
    pub desired_description: String,
    /// What is asked of the scheduler.
    #[serde(deserialize_with = "nullable")]
    pub desired_transition: DesiredTransition,
    /// `pending`, `running`, `complete` or `failed` as its client reported it; `lost` or `unknown` as the servers
    /// suppose while that client is away.
    #[serde(deserialize_with = "nullable")]
    pub client_status: String,
    /// In words.
    #[serde(deserialize_with = "nullable")]
    pub client_description: String,
    /// By task name.
    #[serde(deserialize_with = "nullable")]
    pub task_states: BTreeMap<String, TaskState>,
    /// What it was given.
    #[serde(deserialize_with = "nullable")]
    pub allocated_resources: AllocatedResources,
    /// The allocation that took its place by preemption.
    #[serde(deserialize_with = "nullable")]
    pub preempted_by_allocation: String,
    /// Raft index of its placement.
    #[serde(deserialize_with = "nullable")]
    pub create_index: u64,
    /// Raft index of the last change.
    #[serde(deserialize_with = "nullable")]
    pub modify_index: u64,
}

/// What is asked of the scheduler about an allocation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DesiredTransition {
    /// Leave the node: it is drained, or somebody stopped this allocation by hand.
    #[serde(deserialize_with = "nullable")]
    pub migrate: bool,
    /// Only `nomad alloc stop` sets it (since 1.11).
    #[serde(deserialize_with = "nullable")]
    pub reschedule: bool,
    /// A stop by hand says something here, be it yes or no; so does a stop of the whole job that asks for haste.
    pub no_shutdown_delay: Option<bool>,
    /// Only the drain of a batch job's allocation sets it (since 1.11).
    #[serde(deserialize_with = "nullable")]
    pub migrate_disable_placement: bool,
}

impl DesiredTransition {
    /// Whether it is the allocation that somebody wants to be gone, rather than its node that is drained. Before 1.11 a
    /// drain asked for nothing but `migrate`.
    #[must_use]
    pub fn is_by_hand(&self) -> bool {
        let marked = self.reschedule || self.no_shutdown_delay.is_some();
        self.migrate && marked && !self.migrate_disable_placement
    }
}

/// What an allocation was given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AllocatedResources {
    /// What the group's tasks share.
    #[serde(deserialize_with = "nullable")]
    pub shared: SharedResources,
}

/// What a group's tasks share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SharedResources {
    /// The group's ports.
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<Port>,
}

/// A port of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Port {
    /// Its label in the job.
    #[serde(deserialize_with = "nullable")]
    pub label: String,
    /// Its number on the host.
    #[serde(deserialize_with = "nullable")]
    pub value: u16,
    /// The host's address.
    #[serde(rename = "HostIP", deserialize_with = "nullable")]
    pub host_ip: String,
}

/// How a task fares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TaskState {
    /// `pending`, `running` or `dead`.
    #[serde(deserialize_with = "nullable")]
    pub state: String,
    /// Whether it is counted as failed.
    #[serde(deserialize_with = "nullable")]
    pub failed: bool,
    /// How often the restart policy started it again. A task that is started again because it could not be restored
    /// after its agent's restart does not count here.
    #[serde(deserialize_with = "nullable")]
    pub restarts: u64,
    /// The last ten things that happened, oldest first.
    #[serde(deserialize_with = "nullable")]
    pub events: Vec<TaskEvent>,
}

/// Something that happened to a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TaskEvent {
    /// What: `Started`, `Terminated`, `Driver Failure`, …
    #[serde(rename = "Type", deserialize_with = "nullable")]
    pub kind: String,
    /// When, in nanoseconds since 1970.
    #[serde(deserialize_with = "nullable")]
    pub time: i64,
    /// For people.
    #[serde(deserialize_with = "nullable")]
    pub display_message: String,
    /// For programs: `exit_code`, `signal`, `oom_killed`, …
    #[serde(deserialize_with = "nullable")]
    pub details: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SignalRequest<'a> {
    signal: &'a str,
    task: &'a str,
}

impl Client {
    /// The allocations of a job, also those of an earlier job with this id, without their resources.
    ///
    /// # Errors
    /// If there is no answer, or the token is refused. A job that does not exist has no allocations.
    pub async fn job_allocations(&self, job: &str, namespace: &str) -> Result<Vec<Allocation>, Error> {
        let request = self.transport.call(Method::GET, &["job", job, "allocations"]);
        let request = request.query(&[("namespace", namespace), ("all", "true")]);
        Ok(self.transport.value::<Option<Vec<Allocation>>>(request).await?.unwrap_or_default())
    }

    /// One allocation, with its resources.
    ///
    /// # Errors
    /// If there is no answer, or the token is refused.
    pub async fn allocation(&self, id: &str) -> Result<Option<Allocation>, Error> {
        self.transport.found(self.transport.call(Method::GET, &["allocation", id])).await
    }

    /// The job that an allocation was made from, as the servers keep it with the allocation.
    ///
    /// # Errors
    /// If there is no answer, or the token is refused.
    pub async fn allocation_job(&self, allocation: &str) -> Result<Option<Value>, Error> {
        let request = self.transport.call(Method::GET, &["allocation", allocation]);
        let found = self.transport.found::<Value>(request).await?;
        Ok(found.map(|mut allocation| allocation["Job"].take()))
    }

    /// Allocations with their resources, in one namespace or in all that the token may read (`*`), narrowed by a
    /// filter expression such as `JobID matches "^session-"`. They come page by page, because with their tasks'
    /// history they are large. Nothing may be concluded from what is missing.
    ///
    /// # Errors
    /// If there is no answer, the token is unknown or the filter is not one; the stream then ends.
    pub fn allocations(
        &self,
        namespace: &str,
        filter: &str,
    ) -> impl Stream<Item = Result<Listed<Allocation>, Error>> + Send + use<> {
        let transport = self.transport.clone();
        let (namespace, filter) = (namespace.to_owned(), filter.to_owned());
        stream::try_unfold(Some(None), move |place: Option<Option<String>>| {
            let (transport, namespace, filter) = (transport.clone(), namespace.clone(), filter.clone());
            async move {
                let Some(after) = place else { return Ok(None) };
                let query = [
                    ("namespace", namespace.as_str()),
                    ("filter", filter.as_str()),
                    ("resources", "true"),
                    ("task_states", "true"),
                ];
                let page = transport.page(&["allocations"], &query, after.as_deref()).await?;
                let listed = Listed { items: page.value, index: page.index };
                Ok(Some((listed, page.next_token.map(Some))))
            }
        })
    }

    /// Sends a signal ("SIGKILL") to all tasks of an allocation, through its client.
    ///
    /// # Errors
    /// If its client cannot be reached, or no task runs.
    pub async fn signal(&self, allocation: &str, signal: &str) -> Result<(), Error> {
        let request = self.transport.call(Method::POST, &["client", "allocation", allocation, "signal"]);
        self.transport.value::<Value>(request.json(&SignalRequest { signal, task: "" })).await?;
        Ok(())
    }
}
