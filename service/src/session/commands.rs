//! What callers can ask of sessions, and why they are told no. Spawns, leases and abandonments have files of their own.

use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::Error;
use bivouac_ledger::records::{self, Transition, Versioned};
use bivouac_protocol::{BootId, Reason, ReasonCode, Record, SessionId};
use jiff::Timestamp;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::time::timeout;

use super::Outside;
use super::leasing::LeaseRefusal;
use super::supervisor::{Learned, News, Reply};
use super::view::{State, View};
use crate::backend::Grace;

/// How long the ledger has to answer where the answer is known, though perhaps not the latest.
const LEDGER_PATIENCE: Duration = Duration::from_secs(1);

/// Why a command was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommandError {
    /// The ledger does not answer, or the service is stopping: what was asked for may have been written all the same, and
    /// is then carried out by some replica.
    #[error("{0}")]
    Unavailable(String),
    /// What runs sessions does not answer; nothing was claimed.
    #[error("{0}")]
    ClusterAway(String),
    /// The key's live session was made from another template.
    #[error("the key's live session was made from template {0}")]
    OtherTemplate(String),
    /// The key's predecessor has not ended in time.
    #[error("the session's predecessor is still ending")]
    StillEnding,
    /// The key's session runs, or is still ending, on a node that nobody hears from.
    #[error("the session's node is unreachable")]
    Unreachable(Arc<View>),
    /// Nobody gives up a session that can be stopped.
    #[error("the session's node is reachable")]
    Reachable,
    /// No such session.
    #[error("no such session")]
    Unknown,
    /// The template asked for is not usable now.
    #[error("{0}")]
    TemplateDisabled(String),
    /// The lease is not given.
    #[error(transparent)]
    LeaseRefused(#[from] LeaseRefusal),
    /// The idempotency key was used for another spawn.
    #[error("the idempotency key was used for another spawn")]
    IdempotencyKeyReused,
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// The only way in to the supervisor: cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    pub(super) outside: Arc<Outside>,
}

impl Sessions {
    pub(super) fn new(outside: Arc<Outside>) -> Self {
        Self { outside }
    }

    /// The session as its record says, which another replica may have changed a moment ago (a join, a lease, an end). As
    /// this replica knows it, if the ledger does not answer soon.
    ///
    /// # Errors
    /// When it is not known here and the ledger does not answer.
    pub async fn find(&self, id: &SessionId) -> Result<Option<Arc<View>>, CommandError> {
        let known = self.ask(|reply| News::Look(id.clone(), reply)).await;
        let read = self.outside.records.read(id);
        let read = match known {
            Some(_) => timeout(LEDGER_PATIENCE, read).await.unwrap_or_else(|_| Err(too_slow())),
            None => read.await,
        };
        match (read, known) {
            (Ok(Some(record)), _) => self.learn(id, record, false, None).await.map(Some),
            (Ok(None), None) => Ok(None),
            // A live session whose record is lost gets it back from its run; an ended one was purged.
            (Ok(None), Some(known)) => Ok(Some(known).filter(|known| known.state != State::Ended)),
            (Err(_), Some(known)) => Ok(Some(known)),
            (Err(error), None) => Err(error.into()),
        }
    }

    /// All sessions that this replica knows, ended ones included, newest claim first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<View>> {
        self.outside.registry.list()
    }

    /// Follows one session.
    #[must_use]
    pub fn watch(&self, id: &SessionId) -> Option<watch::Receiver<Arc<View>>> {
        self.outside.registry.watch(id)
    }

    /// Follows all of them: subscribe first, then list.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Arc<View>> {
        self.outside.registry.changes()
    }

    /// Stops a session now; any replica may. Idempotent: an ended one is returned as it is.
    ///
    /// # Errors
    /// When there is no such session that `permit` permits, or the ledger does not answer.
    pub async fn stop(
        &self,
        id: &SessionId,
        force: bool,
        permit: impl Fn(&Record) -> bool + Send + Sync,
    ) -> Result<Arc<View>, CommandError> {
        let now = Timestamp::now();
        let reason = Reason::from(ReasonCode::Requested);
        let stop = |record: &Record| match permit(record) {
            true => records::stopping(record, &reason, now),
            false => Transition::Declined,
        };
        let update = self.outside.records.update(id, None, stop).await?;
        let record = update.current().filter(|record| permit(&record.value)).ok_or(CommandError::Unknown)?;
        self.learn(id, record, false, Some(if force { Grace::None } else { Grace::Template })).await
    }

    /// Whether this replica hears a proxy: its link is up, and its full state was told.
    pub async fn hears(&self, boot: &BootId) -> bool {
        self.outside.is_heard(boot).await
    }

    /// Tells the supervisor of a record and waits for the view.
    pub(super) async fn learn(
        &self,
        id: &SessionId,
        record: Versioned<Record>,
        owned: bool,
        grace: Option<Grace>,
    ) -> Result<Arc<View>, CommandError> {
        let learned =
            |reply| News::Learned(Learned { id: id.clone(), record, owned, grace, reply: Some(reply) });
        self.ask(learned).await.ok_or_else(|| CommandError::Unavailable("the service is stopping".to_owned()))
    }

    async fn ask(&self, news: impl FnOnce(Reply) -> News) -> Option<Arc<View>> {
        let (reply, answer) = oneshot::channel();
        self.outside.tell(news(reply));
        answer.await.ok().flatten()
    }
}

fn too_slow() -> Error {
    Error::Unavailable("no answer in time".to_owned())
}
