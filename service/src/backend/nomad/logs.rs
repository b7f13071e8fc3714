//! Logs of allocations: read from Nomad, which has them from the allocation's node.

use std::time::Duration;

use bivouac_nomad::{Client, Error, LogChunk, LogKind, LogRequest, LogStream, Logs};
use bivouac_protocol::AllocationId;
use futures::{StreamExt, stream};
use serde_json::Value;
use tokio::time::timeout;

use super::{NomadBackend, status};
use crate::backend::Run;
use crate::backend::logs::{Chunk, Chunks, LogError, Output, Position, Reading, Source, Wanted};
use crate::spec::template::jobspec;

/// A log in which nothing was written yet is opened again this often.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// One output of an allocation's main task.
#[derive(Clone)]
struct NomadLog {
    client: Client,
    allocation: String,
    task: String,
    kind: LogKind,
}

impl NomadBackend {
    /// A run's log. Without the allocation that it was pinned to: that of its first.
    pub(super) async fn read_log(
        &self,
        run: &Run,
        allocation: Option<&AllocationId>,
        wanted: Wanted,
    ) -> Result<Option<Reading>, LogError> {
        let allocation = match allocation {
            Some(allocation) => allocation.to_string(),
            None => match self.first_allocation(run).await.map_err(log_error)? {
                Some(allocation) => allocation,
                None => return Ok(None),
            },
        };
        let job = self.client.allocation_job(&allocation).await.map_err(log_error)?;
        let Some(job) = job else { return Err(forgotten("Nomad knows no such allocation any more")) };
        // Proxies may write records, too: one of them must not lead a reader of this session to another's log.
        if job["ID"] != run.session.job_id(run.generation) {
            return Err(forgotten("the allocation in its record is not one of its job"));
        }
        let Some(task) = main_task(&job) else { return Err(forgotten("Nomad has forgotten its job")) };
        let kind = match wanted.output {
            Output::Stdout => LogKind::Stdout,
            Output::Stderr => LogKind::Stderr,
        };
        let log = NomadLog { client: self.client.clone(), allocation, task, kind };
        Reading::begin(Box::new(log), wanted).await.map(Some)
    }

    async fn first_allocation(&self, run: &Run) -> Result<Option<String>, Error> {
        let Some((job, namespace)) = self.find(run).await? else { return Ok(None) };
        let allocations = self.client.job_allocations(&job.id, &namespace).await?;
        let first = allocations.into_iter().min_by_key(|allocation| allocation.create_index);
        Ok(first.map(|allocation| allocation.id))
    }
}

#[async_trait::async_trait]
impl Source for NomadLog {
    async fn open(&self, back: u64, follow: bool) -> Result<Option<Chunks>, LogError> {
        // Nomad reads a signed number.
        let request = self.request(i64::try_from(back).is_ok().then_some(back), follow);
        let log = match self.ask(&request).await.map_err(log_error)? {
            Logs::Stream(log) => log,
            Logs::Nothing => return Ok(None),
            Logs::Gone(detail) => return Err(forgotten(&detail)),
        };
        let unwritten = follow.then(|| self.clone());
        let chunks = stream::unfold(Some(Following { log, unwritten }), async |following| {
            let mut following = following?;
            match following.next().await {
                Ok(None) => None,
                Ok(Some(chunk)) => {
                    let at = Position { file: chunk.file, offset: chunk.offset };
                    Some((Ok(Chunk { at, data: chunk.data }), Some(following)))
                }
                Err(error) => Some((Err(log_error(error)), None)),
            }
        });
        Ok(Some(chunks.boxed()))
    }
}

/// A log that is read on and on.
struct Following {
    log: LogStream,
    /// What to open again as long as nothing was written.
    unwritten: Option<NomadLog>,
}

impl Following {
    /// The next chunk. A node that finds a log empty watches it by the time of its last change, which it looks up only
    /// afterwards (Nomad 1.11.3, `PollingFileWatcher`): what was written in between is seen with the next bytes, which
    /// may come hours later. So an empty log is opened again every now and then.
    async fn next(&mut self) -> Result<Option<LogChunk>, Error> {
        while let Some(source) = &self.unwritten {
            match timeout(LOOK_AGAIN, self.log.next()).await {
                Ok(first) => {
                    self.unwritten = None;
                    return first;
                }
                Err(_) => {
                    // From its beginning: all of it is new.
                    if let Ok(Logs::Stream(log)) = source.ask(&source.request(None, true)).await {
                        self.log = log;
                    }
                }
            }
        }
        self.log.next().await
    }
}

impl NomadLog {
    fn request(&self, back: Option<u64>, follow: bool) -> LogRequest<'_> {
        LogRequest { allocation: &self.allocation, task: &self.task, kind: self.kind, back, follow }
    }

    /// That a log is gone is not believed at once: a server that was just started knows no allocation yet, nor does a
    /// node to which it was assigned a moment ago, and both say that there is none. The allocation itself is read
    /// consistently, and after such an answer the server knows.
    async fn ask(&self, request: &LogRequest<'_>) -> Result<Logs, Error> {
        let detail = match self.client.logs(request).await? {
            Logs::Gone(detail) => detail,
            found => return Ok(found),
        };
        let Some(allocation) = self.client.allocation(&self.allocation).await? else {
            return Ok(Logs::Gone(detail));
        };
        if status::is_pending(&allocation) {
            return Ok(Logs::Nothing);
        }
        match self.client.logs(request).await? {
            Logs::Gone(detail) if !status::is_over(&allocation) => Err(Error::Unavailable(detail)),
            found => Ok(found),
        }
    }
}

/// The task whose output is the session's: the one that callers' arguments go to or, where that is not said, the first
/// that is not a helper.
fn main_task(job: &Value) -> Option<String> {
    let tasks = job["TaskGroups"].get(0)?["Tasks"].as_array()?;
    let own = || tasks.iter().position(|task| task["Lifecycle"].is_null());
    let main = tasks.get(jobspec::main_task(tasks).or_else(own)?)?;
    main["Name"].as_str().map(str::to_owned)
}

fn forgotten(detail: &str) -> LogError {
    LogError::Gone(detail.to_owned())
}

fn log_error(error: Error) -> LogError {
    match error {
        Error::NotFound(detail) => LogError::Gone(detail),
        Error::Denied(detail) => LogError::Denied(detail),
        other => LogError::Unavailable(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_main_task_is_the_leader_or_the_first_that_is_no_helper() {
        let job = |tasks: Value| json!({"TaskGroups": [{"Tasks": tasks}]});
        let helper = json!({"Name": "fetch", "Lifecycle": {"Hook": "prestart"}});
        let (one, two) = (json!({"Name": "one"}), json!({"Name": "two"}));
        let leader = json!({"Name": "leader", "Leader": true});
        let main = |tasks| main_task(&job(tasks));
        assert_eq!(main(json!([helper, one])).as_deref(), Some("one"));
        assert_eq!(main(json!([one, leader])).as_deref(), Some("leader"));
        assert_eq!(main(json!([helper, two, one])).as_deref(), Some("two"));
        assert_eq!(main(json!([])), None);
        assert_eq!(main_task(&Value::Null), None);
    }
}
