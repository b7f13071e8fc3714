//! What to do next with one session. Pure and level-triggered: it looks at the facts as they are, never at what
//! happened before, so that a replica that was killed at any line and reads the same facts again goes on in the same
//! place.
//!
//! ```text
//!  claimed ──▶ Register, Pin ──▶ running ──▶ Probe, MarkReady ─┬─▶ Prepare (unused) ─▶ [attempt] ─▶ stopping
//!     │                            │                           └─▶ BeginStop (lifetime, lost, operator …) ─▶ stopping
//!     └── refused, over ─▶ End ◀───┴── over ─────────────────────────────── over, absent ── Delete ◀── stopping
//! ```

mod claimed;
mod ending;
mod kind;

use std::time::Duration;

use bivouac_protocol::{AllocationId, Generation, Phase, Reason, ReasonCode};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::facts::{Facts, Job};
use super::idle::Verdict;
use crate::backend::{Grace, Outcome, Status};
pub(crate) use kind::Kind;

/// Time that all members have to answer a fence.
pub(crate) const FENCE_TIMEOUT: Duration = Duration::from_secs(1);
/// Time without news of a run after which it is looked at by id.
const INSPECT_AFTER: Duration = Duration::from_secs(2);

/// Something to do, outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Register the job of the claimed generation.
    Register,
    /// Look at the run by id, consistently.
    Inspect,
    /// Claim the next generation of a claim that nobody carried out.
    TakeOver,
    /// Pin the first allocation: the record becomes `running`.
    Pin(AllocationId),
    /// Probe the ports of the pinned allocation until each has answered.
    Probe,
    /// Note the timeline of the start.
    MarkReady,
    /// Decide a stop that needs no proxy's consent.
    BeginStop(Reason),
    /// Delete the job of a generation.
    Delete(Generation, Grace),
    /// Note that the run is over.
    End(Reason),
    /// Give up a run whose node is away, if it still is: its key is free, though its process may live.
    Abandon,
    /// Read members and record for a stop that needs every proxy's consent: of an idle session, or of a quiet one.
    Prepare,
    /// Remove the job of a generation that has ended.
    RemoveJob(Generation),
    /// Remove the record of a session that ended long ago.
    Purge,
}

/// What the decision depends on besides the session itself.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// Now, by the clock that safety rests on.
    pub(crate) now: Instant,
    /// Now, by the wall: for lifetimes and retention, which are promises in wall-clock time.
    pub(crate) wall: Timestamp,
    /// Whether this replica leads.
    pub(crate) leads: bool,
    /// What the members say of it; `None` where it was not asked for.
    pub(crate) verdict: Option<Verdict>,
    /// Age of a claim, on this replica's clock, at which it may be taken over.
    pub(crate) claim_timeout: Duration,
    /// How long a stop may take to be heard before it is asked for again.
    pub(crate) stop_retry: Duration,
    /// How long ended records are kept: with a key, and without.
    pub(crate) retention: (SignedDuration, SignedDuration),
}

/// What to do, and when to look again if nothing happens before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) effects: Vec<Effect>,
    pub(crate) again_at: Option<Instant>,
}

/// A decision in the making.
struct Deciding<'a> {
    facts: &'a Facts,
    around: &'a Surroundings,
    decision: Decision,
}

/// Decides.
pub(crate) fn decide(facts: &Facts, around: &Surroundings) -> Decision {
    let mut deciding = Deciding { facts, around, decision: Decision::default() };
    deciding.stale_runs();
    match facts.phase() {
        Phase::Claimed => deciding.claimed(),
        Phase::Running => deciding.running(),
        Phase::Stopping => deciding.stopping(),
        Phase::Ended => deciding.ended(),
    }
    deciding.decision
}

impl Deciding<'_> {
    /// Does something, or looks again when it may be tried again.
    fn act(&mut self, effect: Effect) {
        let kind = effect.kind();
        if self.facts.may(kind, self.around.now) {
            self.decision.effects.push(effect);
        } else if !self.facts.in_flight.contains(&kind)
            && let Some(retry_at) = self.facts.retry_at(kind)
        {
            // (In flight it is answered, and the answer settles: a time that is past would spin until then.)
            self.again(retry_at);
        }
    }

    fn again(&mut self, at: Instant) {
        self.decision.again_at = Some(self.decision.again_at.map_or(at, |other| other.min(at)));
    }

    /// Whether `at` has come; looks again then, if not.
    fn due(&mut self, at: Instant) -> bool {
        let due = at <= self.around.now;
        if !due {
            self.again(at);
        }
        due
    }

    /// The same for a time of the wall clock.
    fn due_by_the_wall(&mut self, at: Timestamp) -> bool {
        match Duration::try_from(at.duration_since(self.around.wall)) {
            Ok(left) if !left.is_zero() => self.due(self.around.now + left),
            _ => true,
        }
    }

    fn stale_runs(&mut self) {
        if let Some(&generation) = self.facts.stale.first() {
            self.act(Effect::Delete(generation, Grace::Template));
        }
        if let Some(&generation) = self.facts.remains.first().filter(|_| self.around.leads) {
            self.act(Effect::RemoveJob(generation));
        }
    }

    fn running(&mut self) {
        let facts = self.facts;
        if let Some(outcome) = over(facts) {
            return self.act(Effect::End(self.ending(outcome)));
        }
        if facts.attempt.is_some() {
            return; // the attempt decides, until it is over
        }
        if facts.job == Job::Absent {
            let detail = "its job does not exist any more";
            return self.act(Effect::End(Reason::new(ReasonCode::Lost, detail)));
        }
        if let Some(reason) = self.displacement() {
            return self.act(Effect::BeginStop(reason));
        }
        if self.is_given_up() {
            return self.act(Effect::Abandon);
        }
        if facts.supplanted_at.is_some_and(|at| facts.inspected_at.is_none_or(|looked| looked < at)) {
            // The newcomer may be heard of before the reason for which the first one has to go.
            return self.act(Effect::Inspect);
        }
        if facts.supplanted {
            let detail = "its allocation was replaced or restarted; what it held is gone";
            return self.act(Effect::BeginStop(Reason::new(ReasonCode::Lost, detail)));
        }
        if facts.job == Job::Stopped {
            let detail = "the job was stopped outside of Bivouac";
            return self.act(Effect::BeginStop(Reason::new(ReasonCode::Operator, detail)));
        }
        if facts.allocated.is_none() && self.due(facts.since + INSPECT_AFTER) {
            self.inspect();
        }
        if self.lifetime_is_over() {
            let detail = "it reached its max_lifetime";
            return self.act(Effect::BeginStop(Reason::new(ReasonCode::Lifetime, detail)));
        }
        if facts.is_ready() {
            if facts.record.value.timeline.ready.is_none() {
                self.act(Effect::MarkReady);
            }
            if facts.has_silent_port() {
                self.act(Effect::Probe);
            }
            self.idle();
        } else if self.may_judge_the_start()
            && self.due(facts.since + facts.record.value.policy.startup_timeout.get())
        {
            let detail = "nothing answered on its port in time";
            self.act(Effect::BeginStop(Reason::new(ReasonCode::StartupTimeout, detail)));
        } else if facts.has_silent_port() {
            self.act(Effect::Probe);
        }
    }

    /// A replica that cannot see Nomad, or cannot reach the backends, must not take its own blindness for a late start.
    fn may_judge_the_start(&self) -> bool {
        self.facts.owned || self.around.leads
    }

    /// The run's absence, or its being over, may be known only to who asks by id.
    fn inspect(&mut self) {
        if self.facts.inspected_at.is_none_or(|at| self.due(at + self.around.stop_retry)) {
            self.act(Effect::Inspect);
        }
    }

    fn lifetime_is_over(&mut self) -> bool {
        let ends = self.facts.record.value.lifetime_ends();
        self.around.leads && ends.is_some_and(|end| self.due_by_the_wall(end))
    }

    fn idle(&mut self) {
        match self.around.verdict {
            Some(Verdict::Idle { since }) if self.around.leads => {
                let end = since + self.facts.record.value.policy.idle_timeout.get();
                if self.due(end.max(self.facts.attempt_after)) {
                    self.act(Effect::Prepare);
                }
            }
            Some(Verdict::Leased { until }) => {
                self.due(until);
            }
            // In use, but only by connections on which nobody says anything.
            Some(Verdict::Busy { silent_since: Some(since) }) if self.around.leads => {
                if let Some(timeout) = self.facts.record.value.policy.quiet_timeout
                    && self.due((since + timeout.get()).max(self.facts.attempt_after))
                {
                    self.act(Effect::Prepare);
                }
            }
            _ => {}
        }
    }
}

fn over(facts: &Facts) -> Option<&Outcome> {
    match &facts.allocated.as_ref()?.status {
        Status::Over(outcome) => Some(outcome),
        _ => None,
    }
}

fn start_failure(outcome: &Outcome) -> Reason {
    let detail = outcome.detail.clone().unwrap_or_else(|| "it ended before it was ready".to_owned());
    Reason { exit_code: outcome.exit_code, ..Reason::new(ReasonCode::StartFailed, detail) }
}

#[cfg(test)]
mod tests;
