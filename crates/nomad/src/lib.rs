#![doc = include_str!("../README.md")]

mod agent;
mod allocations;
mod config;
mod decode;
mod error;
mod evaluations;
mod events;
mod jobs;
mod logs;
mod transport;

pub use agent::Agent;
pub use allocations::{
    AllocatedResources, Allocation, DesiredTransition, Port, SharedResources, TaskEvent, TaskState,
};
pub use config::{Config, Tls};
pub use error::Error;
pub use evaluations::{Evaluation, PlacementFailure};
pub use events::{Continuity, Cursor, Event, EventStream, Payload, Topic};
pub use jobs::{GroupSummary, Job, Registration, Stop, Summary, Task, TaskGroup, Validation};
pub use logs::{LogChunk, LogKind, LogRequest, LogStream, Logs};

use transport::Transport;

/// The client. Cheap to clone; clones share their connections and the bound on calls at a time.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Transport,
}

/// A list, or a page of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// What it shows.
    pub items: Vec<T>,
    /// Whatever happened to objects of this kind up to this Raft index is in it; an event of theirs with this index or
    /// a smaller one is old news. A server that was just started tells old news from its log.
    pub index: u64,
}

impl Client {
    /// A client of the agent or servers at `config.address`. Connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Setup`] if the address is not an http or https one, or a certificate file cannot be used.
    pub fn new(config: Config) -> Result<Self, Error> {
        Ok(Self { transport: Transport::new(config)? })
    }

    /// What Nomad makes of our credentials at present.
    #[must_use]
    pub fn access(&self) -> bivouac_access::Access {
        self.transport.access()
    }

    /// Asks now and then when our token ends, for as long as it is polled, and shows it in [`Self::access`]'s metrics.
    pub async fn watch_token(&self) {
        self.transport.watch_token().await;
    }
}
