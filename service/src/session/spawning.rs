//! Spawns: whoever asks for a session claims it, or joins the one that lives. The ledger decides who wins; the supervisor
//! is told what was won.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bivouac_ledger::records::{self, Transition, Update, Versioned};
use bivouac_protocol::{Phase, Record, SessionId};
use jiff::Timestamp;
use tokio::time::{Instant, timeout};

use super::claiming::{Claimed, first_claim};
use super::commands::{CommandError, Sessions};
use super::view::View;
use crate::spec::Spec;

/// Longest wait for a predecessor to end.
const PREDECESSOR: Duration = Duration::from_secs(60);
/// How long a backend that may be away has to answer.
const BACKEND_PATIENCE: Duration = Duration::from_secs(2);

/// A session was spawned, or found.
#[derive(Debug, Clone)]
pub struct Spawned {
    /// Whether this call won the claim.
    pub spawned: bool,
    /// The session as it is now.
    pub view: Arc<View>,
}

impl Sessions {
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
                // Its answer was lost, and so late that a look had not found it.
                Some(held) if held.value.nonce == claim.nonce => return self.spawned(&spec.id, held).await,
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
                    let claimed = self.outside.claim(&spec.id, ended_or_none.as_ref(), &claim).await?;
                    if let Claimed::Won(record) = claimed {
                        return self.spawned(&spec.id, record).await;
                    }
                }
            }
        }
    }

    /// The claim is won: its job is this process's to register.
    async fn spawned(&self, id: &SessionId, record: Versioned<Record>) -> Result<Spawned, CommandError> {
        self.outside.metrics.spawns.inc();
        let Record { generation, template, .. } = &record.value;
        tracing::info!(session.id = %id, %generation, %template, "A session is spawned.");
        let view = self.learn(id, record, true, None).await?;
        Ok(Spawned { spawned: true, view })
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
}

/// Whether the record is what this very spawn would claim.
fn is_of(record: &Record, spec: &Spec) -> bool {
    (&record.template, &record.request) == (&spec.template.name, &spec.request)
}
