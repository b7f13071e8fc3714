//! The end of a run: from the decision to stop it until nothing is left but its record.

use std::time::Duration;

use bivouac_protocol::{Reason, ReasonCode};
use jiff::SignedDuration;

use super::{Deciding, Effect, over, start_failure};
use crate::backend::{Displacement, Grace, Outcome};
use crate::session::facts::Job;

/// How long the job of a session that did not end on purpose can be looked at.
const KEEP_FAILED_JOBS: SignedDuration = SignedDuration::from_hours(1);
/// The same of one that did. Its logs go with the job, and whoever follows them is still to get the last lines.
const KEEP_STOPPED_JOBS: SignedDuration = SignedDuration::from_secs(5);

/// How often a stop is asked for again whose node is away.
const LOOK_WHILE_AWAY: Duration = Duration::from_secs(60);

impl Deciding<'_> {
    pub(super) fn stopping(&mut self) {
        let facts = self.facts;
        if let Some(outcome) = over(facts) {
            return self.act(Effect::End(self.ending(outcome)));
        }
        if facts.forgotten && facts.job == Job::Stopped {
            let detail = "it ended while nobody looked, and nothing remembers how";
            return self.act(Effect::End(Reason::new(ReasonCode::Lost, detail)));
        }
        if self.is_given_up() {
            return self.act(Effect::Abandon);
        }
        let nothing_placed = facts.allocated.is_none() && facts.record.value.allocation.is_none();
        if facts.job == Job::Absent
            || (facts.job == Job::Stopped && nothing_placed && facts.inspected_at.is_some())
        {
            return self.act(Effect::End(ReasonCode::Lost.into()));
        }
        match facts.deleted_at {
            None => self.act(Effect::Delete(facts.generation(), facts.grace)),
            Some(at) if self.due(at + self.stop_retry()) => {
                self.act(Effect::Delete(facts.generation(), facts.grace));
                self.inspect();
            }
            Some(_) if nothing_placed => self.inspect(),
            Some(_) => {}
        }
    }

    /// A node that is away hears of a stop when it is back, however often it was asked for.
    fn stop_retry(&self) -> Duration {
        let away = self.facts.unreachable.is_some();
        if away { self.around.stop_retry.max(LOOK_WHILE_AWAY) } else { self.around.stop_retry }
    }

    pub(super) fn ended(&mut self) {
        self.job_of_ended();
        let facts = self.facts;
        if facts.unreachable.is_some() {
            return; // given up, not over: its record goes after its job, and that goes once the node is back
        }
        let kept =
            if facts.record.value.key.is_some() { self.around.retention.0 } else { self.around.retention.1 };
        if self.around.leads && self.ended_ago(kept) {
            self.act(Effect::Purge);
        }
    }

    /// What was stopped on purpose soon leaves nothing behind but its record. What failed can be looked at for a while.
    fn job_of_ended(&mut self) {
        let facts = self.facts;
        if !matches!(facts.job, Job::Registered | Job::Stopped) {
            return;
        }
        let on_purpose = facts.record.value.reason.as_ref().is_some_and(|reason| reason.code.is_on_purpose());
        let kept = if on_purpose { KEEP_STOPPED_JOBS } else { KEEP_FAILED_JOBS };
        // A job that runs after all (registered late) is stopped first: some versions of Nomad leave the allocations
        // of a job running that is removed under them (GH-28394).
        let stopped = facts.job == Job::Stopped || over(facts).is_some();
        if self.around.leads && stopped && facts.unreachable.is_none() && self.ended_ago(kept) {
            if facts.remains.is_empty() {
                self.act(Effect::RemoveJob(facts.generation()));
            }
        } else if facts.job == Job::Registered && facts.deleted_at.is_none() {
            // Stopped even though it is over: nothing ever places it again.
            self.act(Effect::Delete(facts.generation(), Grace::Template));
        }
    }

    /// Whether it ended at least this long ago, by the wall clock.
    fn ended_ago(&mut self, kept: SignedDuration) -> bool {
        let at = self.facts.record.value.timeline.ended.and_then(|ended| ended.checked_add(kept).ok());
        at.is_some_and(|at| self.due_by_the_wall(at))
    }

    /// Whether the template wants a run to be given up whose node has been away for so long: by the leader alone, on its
    /// own clock, since it saw that itself.
    pub(super) fn is_given_up(&mut self) -> bool {
        let after = self.facts.record.value.policy.overlap_after;
        match (self.facts.unreachable, after) {
            (Some((since, _)), Some(after)) if self.around.leads => self.due(since + after.get()),
            _ => false,
        }
    }

    /// Why somebody takes the run's allocation away, if somebody does.
    pub(super) fn displacement(&self) -> Option<Reason> {
        let allocated = self.facts.allocated.as_ref()?;
        let node = allocated.node.as_deref().unwrap_or("its node");
        Some(match allocated.displaced? {
            Displacement::Drained => Reason::new(
                ReasonCode::Drained,
                format!("{node} was drained: an operator takes it out of service"),
            ),
            Displacement::Preempted => Reason::new(
                ReasonCode::Preempted,
                format!("a job of higher priority needed its room on {node}"),
            ),
            Displacement::Stopped => {
                Reason::new(ReasonCode::Operator, "its allocation was stopped outside of Bivouac")
            }
        })
    }

    /// Why a run that was placed is over.
    pub(super) fn ending(&self, outcome: &Outcome) -> Reason {
        let facts = self.facts;
        if let Some(reason) = self.displacement() {
            return Reason { exit_code: outcome.exit_code, ..reason };
        }
        if facts.job == Job::Stopped || outcome.stopped {
            let code = ReasonCode::Operator;
            return Reason {
                exit_code: outcome.exit_code,
                ..Reason::new(code, "the job was stopped outside of Bivouac")
            };
        }
        if facts.allocated.as_ref().is_some_and(|allocated| allocated.restarted) {
            let detail = "its host restarted, and what was started there again was not the session";
            return Reason { exit_code: outcome.exit_code, ..Reason::new(ReasonCode::Lost, detail) };
        }
        if !facts.is_ready() {
            return start_failure(outcome);
        }
        let detail = outcome.detail.clone();
        Reason { exit_code: outcome.exit_code, detail, ..ReasonCode::Exited.into() }
    }
}
