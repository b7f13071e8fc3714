//! The end of a run: from the decision to stop it until nothing is left but its record.

use bivouac_protocol::{Reason, ReasonCode};
use jiff::SignedDuration;

use super::{Deciding, Effect, over, start_failure};
use crate::backend::{Grace, Outcome};
use crate::session::facts::Job;

/// How long the job of a session that did not end on purpose can be looked at.
const KEEP_FAILED_JOBS: SignedDuration = SignedDuration::from_hours(1);

impl Deciding<'_> {
    pub(super) fn stopping(&mut self) {
        let facts = self.facts;
        if let Some(outcome) = over(facts) {
            return self.act(Effect::End(self.ending(outcome)));
        }
        let nothing_placed = facts.allocated.is_none() && facts.record.value.allocation.is_none();
        if facts.job == Job::Absent
            || (facts.job == Job::Stopped && nothing_placed && facts.inspected_at.is_some())
        {
            return self.act(Effect::End(ReasonCode::Lost.into()));
        }
        match facts.deleted_at {
            None => self.act(Effect::Delete(facts.generation(), facts.grace)),
            Some(at) if self.due(at + self.around.stop_retry) => {
                self.act(Effect::Delete(facts.generation(), facts.grace));
                self.inspect();
            }
            Some(_) if nothing_placed => self.inspect(),
            Some(_) => {}
        }
    }

    pub(super) fn ended(&mut self) {
        self.job_of_ended();
        let facts = self.facts;
        let kept =
            if facts.record.value.key.is_some() { self.around.retention.0 } else { self.around.retention.1 };
        if self.around.leads && self.ended_ago(kept) {
            self.act(Effect::Purge);
        }
    }

    /// What was stopped on purpose leaves nothing behind but its record. What failed can be looked at for a while.
    fn job_of_ended(&mut self) {
        let facts = self.facts;
        if !matches!(facts.job, Job::Registered | Job::Stopped) {
            return;
        }
        let on_purpose = facts.record.value.reason.as_ref().is_some_and(|reason| reason.code.is_on_purpose());
        let kept = if on_purpose { SignedDuration::ZERO } else { KEEP_FAILED_JOBS };
        // A job that runs after all (registered late) is stopped first: some versions of Nomad leave the allocations
        // of a job running that is removed under them (GH-28394).
        let stopped = facts.job == Job::Stopped || over(facts).is_some();
        if self.around.leads && stopped && self.ended_ago(kept) {
            self.act(Effect::RemoveJob);
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

    /// Why a run that was placed is over.
    pub(super) fn ending(&self, outcome: &Outcome) -> Reason {
        let facts = self.facts;
        if facts.job == Job::Stopped || outcome.stopped {
            let code = ReasonCode::Operator;
            return Reason {
                exit_code: outcome.exit_code,
                ..Reason::new(code, "the job was stopped outside of Bivouac")
            };
        }
        if !facts.is_ready() {
            return start_failure(outcome);
        }
        Reason { code: ReasonCode::Exited, exit_code: outcome.exit_code, detail: outcome.detail.clone() }
    }
}
