//! Sessions whose node is unreachable: who is told so, and how one is given up. Nomad cannot promise that a process on
//! a host that nobody hears is dead, so a run is given up only if an operator says so, or its template did before.

use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::Error;
use bivouac_ledger::records::{self, Versioned};
use bivouac_protocol::{AllocationId, Generation, Phase, Record, SessionId, Span, Timeline};
use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Outside;
use super::commands::{CommandError, Sessions};
use super::supervisor::News;
use super::view::{State, View};
use crate::backend::{Allocated, Presence, Run, Status, Unavailable};

/// How long a backend on an unreachable node has to show that it can be reached all the same.
const SIGN_OF_LIFE: Duration = Duration::from_millis(1500);

/// Who gives a run up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abandoner {
    /// A caller of the API.
    Caller,
    /// The template, after this long.
    Template(Span),
}

/// What came of giving a run up.
#[derive(Debug)]
pub(crate) enum Abandonment {
    /// The record as it is now.
    Recorded(Option<Box<Versioned<Record>>>),
    /// Its node is not unreachable: this is how the run fares.
    Reachable(Presence),
}

/// Why a run is neither given up nor known to be reachable.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum AbandonError {
    /// The ledger does not answer.
    #[error("{0}")]
    Ledger(#[from] Error),
    /// The backend does not answer: nothing may be concluded.
    #[error("{0}")]
    Backend(#[from] Unavailable),
}

impl Outside {
    /// Gives a run up, if a consistent look by id says that nobody hears of its pinned allocation.
    pub(super) async fn abandon(
        &self,
        id: &SessionId,
        record: &Versioned<Record>,
        seen: &Timeline,
        who: Abandoner,
    ) -> Result<Abandonment, AbandonError> {
        let run = Run { session: id.clone(), generation: record.value.generation };
        let presence = self.backend.inspect(&run).await?;
        if !is_unheard_of(&presence, record.value.allocation.as_ref()) {
            return Ok(Abandonment::Reachable(presence));
        }
        let detail = detail(who, node(&presence, record.value.allocation.as_ref()));
        let own = (record.value.generation, &record.value.nonce);
        let now = Timestamp::now();
        let abandon = |record: &Record| records::abandoned(record, own, &detail, seen, now);
        let update = self.records.update(id, Some(record.clone()), abandon).await?;
        if let records::Update::Written(record) = &update {
            self.metrics.ended(&record.value);
            tracing::warn!(session.id = %id, generation = %record.value.generation, %detail, "A session is given up.");
        }
        Ok(Abandonment::Recorded(update.current().map(Box::new)))
    }

    /// The session, if its node is unreachable and it does not answer either. A node whose Nomad agent is away, or cut
    /// off from the servers, may serve its sessions as before: then they are joined as before.
    pub(super) async fn away(&self, id: &SessionId, generation: Generation) -> Option<Arc<View>> {
        let view = self.registry.watch(id).map(|view| Arc::clone(&view.borrow()))?;
        if view.generation != generation || view.unreachable.is_none() {
            return None;
        }
        if view.state == State::Stopping {
            return Some(view);
        }
        let (reply, answer) = oneshot::channel();
        self.tell(News::Place(id.clone(), reply));
        let place = answer.await.ok().flatten()?;
        timeout(SIGN_OF_LIFE, self.prober.until_ready(&place)).await.is_err().then_some(view)
    }
}

impl Sessions {
    /// Gives a session up whose node is unreachable, so that its key can be spawned again; its process may go on until
    /// the node is back, and is stopped then. Idempotent: an ended one is returned as it is.
    ///
    /// # Errors
    /// [`CommandError::Reachable`] if its node is not unreachable; when there is no such session that `permit` permits;
    /// when ledger or backend do not answer.
    pub async fn abandon(
        &self,
        id: &SessionId,
        permit: impl Fn(&Record) -> bool + Send + Sync,
    ) -> Result<Arc<View>, CommandError> {
        let permitted = |record: &Versioned<Record>| permit(&record.value);
        let record = self.outside.records.read(id).await?;
        // Given up is this very run, or none.
        let record = record.filter(permitted).ok_or(CommandError::Unknown)?;
        let record = match record.value.phase {
            Phase::Ended => record,
            Phase::Claimed => return Err(CommandError::Reachable),
            Phase::Running | Phase::Stopping => {
                let given_up =
                    self.outside.abandon(id, &record, &Timeline::default(), Abandoner::Caller).await;
                match given_up {
                    Ok(Abandonment::Recorded(record)) => {
                        record.map(|record| *record).filter(permitted).ok_or(CommandError::Unknown)?
                    }
                    Ok(Abandonment::Reachable(_)) => return Err(CommandError::Reachable),
                    Err(AbandonError::Ledger(error)) => return Err(error.into()),
                    Err(AbandonError::Backend(why)) => {
                        return Err(CommandError::ClusterAway(why.to_string()));
                    }
                }
            }
        };
        self.learn(id, record, false, None).await
    }
}

/// Whether the pinned allocation's node is not heard from, or nothing remembers the allocation. Any word of its own
/// client is a sign of life. Of a run that was never pinned, any allocation may be the one that lives.
fn is_unheard_of(presence: &Presence, pinned: Option<&AllocationId>) -> bool {
    let Presence::Present { allocations, forgotten, .. } = presence else { return true };
    let unreachable = |allocated: &Allocated| allocated.status == Status::Unreachable;
    match pinned {
        Some(pinned) => {
            allocations.iter().find(|allocated| allocated.allocation == *pinned).is_none_or(unreachable)
        }
        None if allocations.is_empty() => *forgotten,
        None => allocations.iter().all(unreachable),
    }
}

fn node<'a>(presence: &'a Presence, pinned: Option<&AllocationId>) -> Option<&'a str> {
    let Presence::Present { allocations, .. } = presence else { return None };
    allocations.iter().find(|allocated| Some(&allocated.allocation) == pinned)?.node.as_deref()
}

fn detail(who: Abandoner, node: Option<&str>) -> String {
    let node = node.unwrap_or("its node");
    match who {
        Abandoner::Caller => {
            format!("a caller gave it up while {node} was unreachable; its process may still run there")
        }
        Abandoner::Template(after) => {
            format!(
                "{node} was unreachable for {after}, its template's overlap_after; its process may still run there"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(statuses: &[(&str, Status)]) -> Presence {
        let allocation = |(id, status): &(&str, Status)| Allocated {
            allocation: id.parse().unwrap(),
            ports: Default::default(),
            node: Some("host-1".to_owned()),
            status: status.clone(),
            restarted: false,
            displaced: None,
        };
        let allocations = statuses.iter().map(allocation).collect();
        Presence::Present { nonce: None, stopped: false, allocations, forgotten: false }
    }

    #[test]
    fn only_a_run_that_nobody_hears_of_is_given_up() {
        let pinned = "a1".parse().unwrap();
        let unheard_of = |presence: &Presence| is_unheard_of(presence, Some(&pinned));
        assert!(unheard_of(&presence(&[("a1", Status::Unreachable)])));
        assert!(unheard_of(&presence(&[("a1", Status::Unreachable), ("a2", Status::Running)])));
        assert!(unheard_of(&presence(&[])), "nothing remembers it");
        for heard in [Status::Pending, Status::Running, Status::Over(Default::default())] {
            assert!(!unheard_of(&presence(&[("a1", heard)])));
        }
    }

    #[test]
    fn a_run_that_was_never_pinned_is_given_up_only_if_none_of_its_allocations_is_heard_of() {
        let unheard_of = |presence: &Presence| is_unheard_of(presence, None);
        assert!(unheard_of(&Presence::Absent));
        assert!(unheard_of(&presence(&[("a1", Status::Unreachable)])));
        assert!(!unheard_of(&presence(&[("a1", Status::Unreachable), ("a2", Status::Running)])));
        assert!(!unheard_of(&presence(&[("a1", Status::Running)])));
        assert!(!unheard_of(&presence(&[])), "it waits for room");
        let forgotten =
            Presence::Present { nonce: None, stopped: false, allocations: Vec::new(), forgotten: true };
        assert!(unheard_of(&forgotten));
    }
}
