//! Jobs: parsed, registered, read, stopped.

mod summary;

use std::collections::BTreeMap;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::decode::nullable;
use crate::{Client, Error, Listed};

pub use summary::{GroupSummary, Summary};

/// What can be read of a job. Jobs are written as JSON trees, never from this.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Job {
    /// Its id, unique in its namespace.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its Nomad namespace.
    #[serde(deserialize_with = "nullable")]
    pub namespace: String,
    /// Free pairs of its author.
    #[serde(deserialize_with = "nullable")]
    pub meta: BTreeMap<String, String>,
    /// Whether somebody asked it to stop.
    #[serde(deserialize_with = "nullable")]
    pub stop: bool,
    /// Its groups; lists leave them out.
    #[serde(deserialize_with = "nullable")]
    pub task_groups: Vec<TaskGroup>,
    /// `pending`, `running` or `dead` (all allocations and evaluations are over).
    #[serde(deserialize_with = "nullable")]
    pub status: String,
    /// Raised by every registration and by a stop.
    #[serde(deserialize_with = "nullable")]
    pub version: u64,
    /// Raft index of the last change, also of its status.
    #[serde(deserialize_with = "nullable")]
    pub modify_index: u64,
    /// Raft index of the last registration or stop.
    #[serde(deserialize_with = "nullable")]
    pub job_modify_index: u64,
}

/// What can be read of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TaskGroup {
    /// Its tasks.
    #[serde(deserialize_with = "nullable")]
    pub tasks: Vec<Task>,
}

/// What can be read of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Task {
    /// What runs it: `docker`, `raw_exec`, …
    #[serde(deserialize_with = "nullable")]
    pub driver: String,
}

/// What came of a registration that may only create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// The job is ours. Nomad before 2.0.1 may tell this to two callers at once.
    Registered {
        /// The evaluation that will place it.
        evaluation: String,
        /// What Nomad would like to be different.
        warnings: String,
    },
    /// A job with this id exists; nothing was changed.
    Exists,
}

/// How a job is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stop {
    /// Also forget the job and its versions.
    pub purge: bool,
    /// Place of the evaluation in the scheduler's queue, 1 to 100; the job's own priority by default.
    pub eval_priority: Option<u8>,
    /// Do not wait for groups' and tasks' `shutdown_delay`.
    pub no_shutdown_delay: bool,
}

/// What Nomad says about a job that was not registered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Validation {
    /// Why it would be refused; empty if it would be accepted.
    #[serde(rename = "ValidationErrors", deserialize_with = "nullable")]
    pub errors: Vec<String>,
    /// What works, but should be different.
    #[serde(deserialize_with = "nullable")]
    pub warnings: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ParseRequest<'a> {
    #[serde(rename = "JobHCL")]
    job_hcl: &'a str,
    variables: String,
    canonicalize: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RegisterRequest<'a> {
    job: &'a Value,
    enforce_index: bool,
    job_modify_index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ValidateRequest<'a> {
    job: &'a Value,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[derive(Default)]
struct Evaluated {
    #[serde(rename = "EvalID", deserialize_with = "nullable")]
    eval_id: String,
    #[serde(deserialize_with = "nullable")]
    warnings: String,
}

impl Client {
    /// Turns HCL into Nomad's JSON, with HCL2 `variable` blocks filled in. Nomad ignores variables that the file does
    /// not declare. The namespace is one in which the token may parse jobs; the job itself may be in another.
    ///
    /// # Errors
    /// [`Error::Invalid`] with file position, if the text is not a job.
    pub async fn parse(
        &self,
        hcl: &str,
        variables: &BTreeMap<String, String>,
        namespace: &str,
    ) -> Result<Value, Error> {
        let body = ParseRequest { job_hcl: hcl, variables: assignments(variables), canonicalize: false };
        let request =
            self.transport.call(Method::POST, &["jobs", "parse"]).query(&[("namespace", namespace)]);
        self.transport.value(request.json(&body)).await
    }

    /// What Nomad would say to this job. Drivers' own configuration is not looked at.
    ///
    /// # Errors
    /// Only if there is no answer, or the token is refused.
    pub async fn validate(&self, job: &Value, namespace: &str) -> Result<Validation, Error> {
        // Of all calls this one goes by the job's own namespace alone, and takes none for `default`.
        let mut job = job.clone();
        if let Some(fields) = job.as_object_mut() {
            fields.insert("Namespace".to_owned(), namespace.into());
        }
        let request =
            self.transport.call(Method::POST, &["validate", "job"]).query(&[("namespace", namespace)]);
        self.transport.optional().value(request.json(&ValidateRequest { job: &job })).await
    }

    /// Registers a job unless one with its id exists.
    ///
    /// # Errors
    /// [`Error::Invalid`] if Nomad refuses the job. After [`Error::Unavailable`] it may be registered or not.
    pub async fn register_new(&self, job: &Value, namespace: &str) -> Result<Registration, Error> {
        let body = RegisterRequest { job, enforce_index: true, job_modify_index: 0 };
        let request =
            self.transport.call(Method::POST, &["jobs"]).query(&[("namespace", namespace)]).json(&body);
        match self.transport.value::<Evaluated>(request).await {
            Ok(answer) => {
                Ok(Registration::Registered { evaluation: answer.eval_id, warnings: answer.warnings })
            }
            Err(Error::Exists) => Ok(Registration::Exists),
            Err(error) => Err(error),
        }
    }

    /// One job, consistently: `None` means that it did not exist when the leader was asked.
    ///
    /// # Errors
    /// If there is no answer, or the token is refused.
    pub async fn job(&self, id: &str, namespace: &str) -> Result<Option<Job>, Error> {
        let request = self.transport.call(Method::GET, &["job", id]).query(&[("namespace", namespace)]);
        self.transport.found(request).await
    }

    /// Jobs whose ids begin with `prefix`, in one namespace or in all that the token may read (`*`). A token without
    /// rights gets an empty list: nothing may be concluded from what is missing.
    ///
    /// # Errors
    /// If there is no answer, or the token is unknown.
    pub async fn jobs(&self, prefix: &str, namespace: &str) -> Result<Listed<Job>, Error> {
        let query = [("prefix", prefix), ("namespace", namespace), ("meta", "true")];
        self.transport.pages(&["jobs"], &query).await
    }

    /// Whether the token may list jobs at all: a cheap call for health checks.
    ///
    /// # Errors
    /// [`Error::Denied`] if the token is unknown, expired or has no rights there.
    pub async fn check_access(&self, namespace: &str) -> Result<(), Error> {
        let request = self.transport.call(Method::GET, &["jobs"]);
        self.transport.value::<Value>(request.query(&[("namespace", namespace), ("per_page", "1")])).await?;
        Ok(())
    }

    /// Stops a job. The evaluation's id, or `None` if there is no such job in this namespace.
    ///
    /// # Errors
    /// If there is no answer, or the token is refused. After [`Error::Unavailable`] it may be stopped or not.
    pub async fn stop(&self, id: &str, namespace: &str, stop: Stop) -> Result<Option<String>, Error> {
        let Stop { purge, eval_priority, no_shutdown_delay } = stop;
        let mut request =
            self.transport.call(Method::DELETE, &["job", id]).query(&[("namespace", namespace)]);
        request = request.query(&[("purge", purge), ("no_shutdown_delay", no_shutdown_delay)]);
        if let Some(priority) = eval_priority {
            request = request.query(&[("eval_priority", priority)]);
        }
        let stopped = self.transport.found::<Evaluated>(request).await?;
        Ok(stopped.map(|answer| answer.eval_id).filter(|id| !id.is_empty()))
    }
}

/// A `.tfvars`-like text. Values are HCL string literals, in which `${` and `%{` would begin a template.
fn assignments(variables: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (name, value) in variables {
        text.push_str(name);
        text.push_str(" = \"");
        for (n, c) in value.char_indices() {
            match c {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '$' | '%' if value[n + 1..].starts_with('{') => text.extend([c, c]),
                _ => text.push(c),
            }
        }
        text.push_str("\"\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_variables_are_literals() {
        let variables = BTreeMap::from([
            ("image".to_owned(), "a\"b\\c".to_owned()),
            ("text".to_owned(), "${x} %{if} $ 5%\nend".to_owned()),
        ]);
        let expected = "image = \"a\\\"b\\\\c\"\ntext = \"$${x} %%{if} $ 5%\\nend\"\n";
        assert_eq!(assignments(&variables), expected);
    }
}
