//! Spawns, joins and stops: whatever changes a record because a caller asked. The ledger decides who wins; the
//! supervisor is told what was won.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bivouac_ledger::Error;
use bivouac_ledger::records::{self, Claim, Transition, Update, Versioned};
use bivouac_protocol::{Nonce, Phase, Reason, ReasonCode, Record, SessionId};
use jiff::Timestamp;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::time::{Instant, timeout};

use super::Outside;
use super::leasing::LeaseRefusal;
use super::supervisor::{Learned, News, Reply};
use super::view::{State, View};
use crate::backend::Grace;
use crate::spec::Spec;

/// Longest wait for a predecessor to end.
const PREDECESSOR: Duration = Duration::from_secs(60);
/// How long a backend that may be away has to answer.
const BACKEND_PATIENCE: Duration = Duration::from_secs(2);
/// How long the ledger has to answer where the answer is known, though perhaps not the latest.
const LEDGER_PATIENCE: Duration = Duration::from_secs(1);

/// A session was spawned, or found.
#[derive(Debug, Clone)]
pub struct Spawned {
    /// Whether this call won the claim.
    pub spawned: bool,
    /// The session as it is now.
    pub view: Arc<View>,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommandError {
    /// The ledger or the backend does not answer; nothing half-made stays behind.
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

    /// Claims the session or joins it. Answers once the claim is decided and, where a predecessor is still ending, once
    /// it has ended.
    ///
    /// # Errors
    /// When the ledger does not answer, the template is not usable, or the key belongs to another template's session.
    pub async fn spawn(&self, spec: Spec) -> Result<Spawned, CommandError> {
        if let Some(problem) = spec.template.problem() {
            return Err(CommandError::TemplateDisabled(problem.detail().to_owned()));
        }
        let begun = Instant::now();
        let claim = first_claim(&spec);
        loop {
            let current = self.outside.records.read(&spec.id).await?;
            match current {
                Some(held) if spec.once && !is_of(&held.value, &spec) => {
                    return Err(CommandError::IdempotencyKeyReused);
                }
                // A repetition: what became of the first one is the answer.
                Some(held) if spec.once && !held.value.is_live() => {
                    let view = self.learn(&spec.id, held, false, None).await?;
                    return Ok(Spawned { spawned: false, view });
                }
                Some(held) if held.value.is_live() => {
                    if held.value.template != spec.template.name {
                        return Err(CommandError::OtherTemplate(held.value.template.to_string()));
                    }
                    self.is_here(&spec.id, &held).await?;
                    if let Some(view) = self.join(&spec, held).await? {
                        return Ok(Spawned { spawned: false, view });
                    }
                }
                Some(held) if held.value.phase == Phase::Stopping => {
                    if begun.elapsed() > PREDECESSOR {
                        return Err(CommandError::StillEnding);
                    }
                    self.is_here(&spec.id, &held).await?;
                    let wait = Duration::from_secs(1);
                    self.outside.ledger.watch(&records::key(&spec.id), held.index, wait).await?;
                }
                ended_or_none => {
                    self.backend_answers().await?;
                    if let Some(record) = self.claim(&spec.id, ended_or_none.as_ref(), &claim).await? {
                        self.outside.metrics.spawns.inc();
                        let Record { generation, template, .. } = &record.value;
                        tracing::info!(session.id = %spec.id, %generation, %template, "A session is spawned.");
                        let view = self.learn(&spec.id, record, true, None).await?;
                        return Ok(Spawned { spawned: true, view });
                    }
                }
            }
        }
    }

    /// Nobody is told to use, or to wait for, what nobody hears from.
    async fn is_here(&self, id: &SessionId, held: &Versioned<Record>) -> Result<(), CommandError> {
        let away = self.outside.away(id, held.value.generation).await;
        away.map_or(Ok(()), |view| Err(CommandError::Unreachable(view)))
    }

    /// While the backend's reports are interrupted it is asked before anything is claimed for it: a caller learns at
    /// once, instead of waiting for a session that cannot be placed.
    async fn backend_answers(&self) -> Result<(), CommandError> {
        if !self.outside.reports_interrupted.load(Ordering::Relaxed) {
            return Ok(());
        }
        match timeout(BACKEND_PATIENCE, self.outside.backend.health()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(unavailable)) => Err(CommandError::ClusterAway(unavailable.to_string())),
            Err(_elapsed) => Err(CommandError::ClusterAway("no answer in time".to_owned())),
        }
    }

    /// Claims. An answer that is lost is looked up: whoever's nonce stands in the record has won.
    async fn claim(
        &self,
        id: &SessionId,
        previous: Option<&Versioned<Record>>,
        claim: &Claim,
    ) -> Result<Option<Versioned<Record>>, CommandError> {
        let records = &self.outside.records;
        match records.claim(id, previous, claim).await {
            Ok(Some(won)) => Ok(Some(won)),
            // Refused, perhaps by an earlier copy of this very claim that arrived late.
            Ok(None) | Err(Error::Unavailable(_)) => {
                let read = records.read(id).await?;
                Ok(read.filter(|read| read.value.nonce == claim.nonce))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A join counts as a use. `None` when the session is not live any more, or the key's next one is another template's.
    async fn join(&self, spec: &Spec, held: Versioned<Record>) -> Result<Option<Arc<View>>, CommandError> {
        let (now, id) = (Timestamp::now(), &spec.id);
        let is_of = |record: &Record| record.template == spec.template.name;
        let just_touched = |record: &Record| self.outside.touches.get(id) == Some(record.revision);
        let touch = |record: &Record| match just_touched(record) || !is_of(record) {
            true => Transition::Declined,
            false => records::touched(record, now),
        };
        let record = match self.outside.records.update(id, Some(held), touch).await? {
            Update::Written(record) => {
                self.outside.touches.insert(id.clone(), record.value.revision);
                record
            }
            Update::Declined(Some(record)) if record.value.is_live() && is_of(&record.value) => record,
            Update::Declined(_) => return Ok(None),
        };
        self.learn(id, record, false, None).await.map(Some)
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
    pub async fn hears(&self, boot: &bivouac_protocol::BootId) -> bool {
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

/// Whether the record is what this very spawn would claim.
fn is_of(record: &Record, spec: &Spec) -> bool {
    (&record.template, &record.request) == (&spec.template.name, &spec.request)
}

fn too_slow() -> Error {
    Error::Unavailable("no answer in time".to_owned())
}

fn first_claim(spec: &Spec) -> Claim {
    Claim {
        namespace: spec.namespace.clone(),
        key: spec.key.clone(),
        template: spec.template.name.clone(),
        hash: spec.template.hash.clone(),
        request: spec.request.clone(),
        policy: spec.policy.clone(),
        nonce: Nonce::random(),
        at: Timestamp::now(),
    }
}
