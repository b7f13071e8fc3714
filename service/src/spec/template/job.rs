//! A template's Nomad job, and how far it is known to be usable: Nomad alone can parse it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bivouac_protocol::Span;
use serde_json::Value;

/// How a template runs as a Nomad job.
#[derive(Debug)]
pub struct NomadTemplate {
    /// The job's file, for messages.
    pub file: String,
    /// The job in HCL.
    pub jobspec: String,
    /// Values of the job's HCL2 variables, as text: Nomad converts them to the declared types.
    pub variables: BTreeMap<String, String>,
    /// Gives a session up whose node has been unreachable for this long; `None`: waits for it.
    pub overlap_after: Option<Span>,
    job: parking_lot::RwLock<Job>,
}

/// What is known of a template's parsed job.
#[derive(Debug, Clone)]
pub enum Job {
    /// Nomad has not answered yet; the text says what is the matter.
    Pending(String),
    /// Nomad refuses it, or it does not fit its `template.toml`.
    Refused(String),
    /// Parsed and checked.
    Ready(Arc<Value>),
}

impl NomadTemplate {
    pub(super) fn new(
        file: String,
        jobspec: String,
        variables: BTreeMap<String, String>,
        overlap_after: Option<Span>,
    ) -> Self {
        let pending = Job::Pending("Nomad has not parsed its job yet".to_owned());
        Self { file, jobspec, variables, overlap_after, job: parking_lot::RwLock::new(pending) }
    }

    /// What is known of the parsed job.
    #[must_use]
    pub fn job(&self) -> Job {
        self.job.read().clone()
    }

    pub(super) fn set_job(&self, job: Job) {
        *self.job.write() = job;
    }
}
