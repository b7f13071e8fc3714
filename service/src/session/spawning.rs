//! Spawns, joins, stops and wakes: whatever changes a record because somebody asked. The ledger decides who wins; the
//! supervisor is told what was won.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bivouac_ledger::Error;
use bivouac_ledger::records::{self, Claim, Update, Versioned};
use bivouac_protocol::link::FromService;
use bivouac_protocol::{Generation, Nonce, Phase, Reason, ReasonCode, Record, SessionId};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::supervisor::{Learned, News, Reply};
use super::view::View;
use super::{LinkId, Outside};
use crate::backend::Grace;
use crate::spec::Spec;

/// Longest wait for a predecessor to end.
const PREDECESSOR: Duration = Duration::from_secs(60);
/// How long a backend that may be away has to answer.
const BACKEND_PATIENCE: Duration = Duration::from_secs(2);
/// Longest pause between two wakes of a session whose starts fail.
const LONGEST_BACK_OFF: SignedDuration = SignedDuration::from_secs(60);

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
    /// No such session.
    #[error("no such session")]
    Unknown,
    /// The template asked for is not usable now.
    #[error("{0}")]
    TemplateDisabled(String),
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// The only way in to the supervisor: cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    outside: Arc<Outside>,
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
                Some(held) if held.value.is_live() => {
                    if held.value.template != spec.template.name {
                        return Err(CommandError::OtherTemplate(held.value.template.to_string()));
                    }
                    if let Some(view) = self.join(&spec.id, held).await? {
                        return Ok(Spawned { spawned: false, view });
                    }
                }
                Some(held) if held.value.phase == Phase::Stopping => {
                    if begun.elapsed() > PREDECESSOR {
                        return Err(CommandError::StillEnding);
                    }
                    let wait = Duration::from_secs(1);
                    self.outside.ledger.watch(&records::key(&spec.id), held.index, wait).await?;
                }
                ended_or_none => {
                    self.backend_answers().await?;
                    if let Some(record) = self.claim(&spec.id, ended_or_none.as_ref(), &claim).await? {
                        self.outside.metrics.spawns.inc();
                        let view = self.learn(&spec.id, record, true, None).await?;
                        return Ok(Spawned { spawned: true, view });
                    }
                }
            }
        }
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

    /// A join counts as a use. `None` when the session is not live any more.
    async fn join(&self, id: &SessionId, held: Versioned<Record>) -> Result<Option<Arc<View>>, CommandError> {
        let now = Timestamp::now();
        let just_touched = |record: &Record| self.outside.touches.get(id) == Some(record.revision);
        let touch = |record: &Record| match just_touched(record) {
            true => records::Transition::Declined,
            false => records::touched(record, now),
        };
        let record = match self.outside.records.update(id, Some(held), touch).await? {
            Update::Written(record) => {
                self.outside.touches.insert(id.clone(), record.value.revision);
                record
            }
            Update::Declined(Some(record)) if record.value.is_live() => record,
            Update::Declined(_) => return Ok(None),
        };
        self.learn(id, record, false, None).await.map(Some)
    }

    /// The session as this replica knows it; else read from the ledger by id.
    ///
    /// # Errors
    /// When it is not known here and the ledger does not answer.
    pub async fn find(&self, id: &SessionId) -> Result<Option<Arc<View>>, CommandError> {
        if let Some(view) = self.ask(|reply| News::Look(id.clone(), reply)).await {
            return Ok(Some(view));
        }
        match self.outside.records.read(id).await? {
            Some(record) => self.learn(id, record, false, None).await.map(Some),
            None => Ok(None),
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
    /// When there is no such session, or the ledger does not answer.
    pub async fn stop(&self, id: &SessionId, force: bool) -> Result<Arc<View>, CommandError> {
        let now = Timestamp::now();
        let reason = Reason::from(ReasonCode::Requested);
        let stop = |record: &Record| records::stopping(record, &reason, now);
        let update = self.outside.records.update(id, None, stop).await?;
        let record = update.current().ok_or(CommandError::Unknown)?;
        self.learn(id, record, false, Some(if force { Grace::None } else { Grace::Template })).await
    }

    /// Whether this replica hears a proxy: its link is up, and its full state was told.
    pub async fn hears(&self, boot: &bivouac_protocol::BootId) -> bool {
        self.outside.is_heard(boot).await
    }

    /// Tells the supervisor of a record and waits for the view.
    async fn learn(
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

/// A claim from what was asked for before, under today's template.
pub(super) fn claim_again(outside: &Outside, record: &Record) -> Claim {
    let template = outside.templates.get(&record.template);
    Claim {
        namespace: record.namespace.clone(),
        key: record.key.clone(),
        template: record.template.clone(),
        hash: template.map_or_else(|| record.hash.clone(), |template| template.hash.clone()),
        request: record.request.clone(),
        policy: template.map_or_else(|| record.policy.clone(), |template| template.policy(&record.request)),
        nonce: Nonce::random(),
        at: Timestamp::now(),
    }
}

/// Whether a request may start an ended session again, now.
fn may_wake(record: &Record, now: Timestamp) -> bool {
    if record.phase != Phase::Ended || !record.may_be_woken() {
        return false;
    }
    // Each failed start doubles the pause, so that a page that refreshes itself does not become a fork bomb.
    let back_off = match record.failures {
        0 => SignedDuration::ZERO,
        failures => SignedDuration::from_secs(1 << failures.min(6)).min(LONGEST_BACK_OFF),
    };
    // An end that lies in the future was written by another machine's clock.
    let age = record.timeline.ended.map(|ended| now.duration_since(ended));
    record.failures == 0 || age.is_none_or(|age| age.is_negative() || age >= back_off)
}

impl Outside {
    /// Starts an ended session for a request that waits for it on a proxy. Once per generation: the claim decides.
    pub(super) fn wake(self: &Arc<Self>, id: SessionId, generation: Generation, link: LinkId) {
        let outside = Arc::clone(self);
        self.tracker.spawn(async move {
            let record = match outside.records.read(&id).await {
                Ok(Some(record)) => record,
                Ok(None) => return outside.tell(News::Tell(link, unknown(id))),
                Err(error) => {
                    // The proxy asks again as long as its request waits.
                    return tracing::warn!(session.id = %id, %error, "A session cannot be woken now.");
                }
            };
            if record.value.generation == generation && may_wake(&record.value, Timestamp::now()) {
                let claim = claim_again(&outside, &record.value);
                if let Some(record) = outside.claim_by_wake(&id, &record, &claim).await {
                    let owned = record.value.nonce == claim.nonce;
                    outside.tell(News::Learned(Learned { id, record, owned, grace: None, reply: None }));
                }
                return;
            }
            outside.tell(News::Learned(Learned {
                id: id.clone(),
                record,
                owned: false,
                grace: None,
                reply: None,
            }));
            outside.tell(News::TellOf(link, id));
        });
    }

    /// Claims for a request that waits, and finds out what came of it whatever the answer was: a claim that was won and
    /// that nobody knows of would be carried out by nobody.
    async fn claim_by_wake(
        &self,
        id: &SessionId,
        ended: &Versioned<Record>,
        claim: &Claim,
    ) -> Option<Versioned<Record>> {
        match self.records.claim(id, Some(ended), claim).await {
            Ok(Some(record)) => {
                tracing::info!(session.id = %id, generation = %record.value.generation, "A request wakes a session.");
                self.metrics.wakes.inc();
                return Some(record);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(session.id = %id, %error, "It is not known yet whether a session is woken.")
            }
        }
        loop {
            match self.records.read(id).await {
                Ok(record) => return record,
                Err(error) if error.is_final() => return None,
                Err(_) => sleep(Duration::from_secs(1)).await,
            }
        }
    }

    /// Whether a proxy is heard by this replica.
    pub(super) async fn is_heard(&self, boot: &bivouac_protocol::BootId) -> bool {
        let (reply, answer) = oneshot::channel();
        self.tell(News::IsHeard(boot.clone(), reply));
        answer.await.unwrap_or(true)
    }

    /// A proxy said goodbye with nothing open.
    pub(super) fn farewell(self: &Arc<Self>, boot: bivouac_protocol::BootId, link: LinkId) {
        use bivouac_protocol::member::RemovalCause;
        let outside = Arc::clone(self);
        self.tracker.spawn(async move {
            match outside.members.remove(&boot, RemovalCause::Goodbye, Timestamp::now()).await {
                Ok(_) => outside.tell(News::Tell(link, FromService::Farewell)),
                Err(error) => {
                    tracing::warn!(proxy.boot = %boot, %error, "A proxy's goodbye is not recorded yet.")
                }
            }
        });
    }
}

fn unknown(session: SessionId) -> FromService {
    FromService::Outcome { session, generation: None, phase: None, reason: None }
}

/// Time between two lists of all records.
const LIST_EVERY: Duration = Duration::from_secs(60);

/// Learns of every session that has a record: at the start, and then again and again, for a claim whose replica was
/// killed before it registered anything makes no other noise.
pub(super) async fn learn_all(outside: Arc<Outside>) {
    let mut known = false;
    loop {
        match outside.records.list().await {
            Ok(records) => {
                if !known {
                    tracing::info!(sessions = records.len(), "The records were read.");
                }
                known = true;
                outside.tell(News::Listed(records));
                // Not in step with the other replicas.
                sleep(LIST_EVERY.mul_f64(rand::random_range(0.75..1.25))).await;
            }
            Err(error) => {
                tracing::warn!(%error, "The records cannot be read yet.");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Passes the backend's reports on.
pub(super) async fn observe(outside: Arc<Outside>) {
    let (reports, mut observations) = mpsc::channel(1024);
    let observing = outside.backend.observe(reports);
    let passing = async {
        while let Some(observation) = observations.recv().await {
            outside.tell(News::Observed(observation));
        }
    };
    tokio::join!(observing, passing);
}
