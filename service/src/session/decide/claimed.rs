//! From the claim until an allocation is pinned: who registers the job, who takes over, and when it is given up.

use std::time::Duration;

use bivouac_protocol::{Reason, ReasonCode};

use super::{Deciding, Effect, over, start_failure};
use crate::session::facts::Job;

/// Time that the replica which claimed a session has for each step before another takes it over.
const OWNERS_HEAD_START: Duration = Duration::from_secs(1);

impl Deciding<'_> {
    pub(super) fn claimed(&mut self) {
        let facts = self.facts;
        if let Some(outcome) = over(facts) {
            let displaced = self.displacement();
            return self.act(Effect::End(displaced.unwrap_or_else(|| start_failure(outcome))));
        }
        if let Some(detail) = &facts.refused {
            return self.act(Effect::End(Reason::new(ReasonCode::StartFailed, detail.clone())));
        }
        let gave_up = self.due(facts.since + facts.record.value.policy.startup_timeout.get());
        if gave_up {
            let reason = match (&facts.obstacle, &facts.waiting_for) {
                (Some(why), _) => Reason::new(
                    ReasonCode::StartFailed,
                    format!("its job could not be registered in time: {why}"),
                ),
                (None, Some(lacking)) => Reason::new(ReasonCode::NoCapacity, lacking.clone()),
                (None, None) => Reason::new(ReasonCode::StartupTimeout, "it was not placed in time"),
            };
            return self.act(Effect::BeginStop(reason));
        }
        if let (Some(allocated), Some(since)) = (&facts.allocated, facts.allocated_at) {
            if facts.owned || self.due(since + OWNERS_HEAD_START) {
                self.act(Effect::Pin(allocated.allocation.clone()));
            }
        } else if facts.owned {
            if facts.job == Job::Unseen || facts.job == Job::Absent {
                self.act(Effect::Register);
            } else if facts.job == Job::Stopped {
                self.look_or_end(ReasonCode::Operator, "the job was stopped before it was placed");
            } else if self.due(facts.since + self.around.claim_timeout) {
                self.look_for_a_placement();
            }
        } else if self.due(facts.since + self.around.claim_timeout) {
            match facts.job {
                Job::Absent => self.act(Effect::TakeOver),
                Job::Unseen => self.act(Effect::Inspect),
                Job::Stopped => {
                    self.look_or_end(ReasonCode::Operator, "the job was stopped before it was placed")
                }
                Job::Registered => self.look_for_a_placement(),
            }
        }
    }

    /// The report of a placement may have been lost, or told to a replica that is gone: requests wait for it. Where the
    /// cluster has said that there is no room, its next word will come.
    fn look_for_a_placement(&mut self) {
        if self.facts.waiting_for.is_none() {
            self.inspect();
        }
    }

    fn look_or_end(&mut self, code: ReasonCode, detail: &str) {
        if self.facts.inspected_at.is_some() {
            self.act(Effect::End(Reason::new(code, detail)));
        } else {
            self.act(Effect::Inspect);
        }
    }
}
