//! One leader's attempt to stop one idle session, from the fence to the answer of its commit. Pure: it says what to do
//! next, the supervisor does it. The model checker in `tests/` explores exactly this code.
//!
//! ```text
//!  Fencing ──all Fenced──▶ Committing ──applied──▶ done: the record is `stopping`
//!     │                      │  ▲ └──no answer──▶ send the same transaction again
//!     │ Busy, Knock,         │  │
//!     │ silence, lost link   │refused
//!     ▼                      ▼  │
//!  given up: Unfence ◀──running── Reading ──anything else──▶ done: somebody's commit won
//! ```

use std::collections::BTreeSet;

use bivouac_protocol::{BootId, FenceTag, Generation, Phase};

/// The attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attempt {
    tag: FenceTag,
    generation: Generation,
    /// Members that have not answered the fence.
    awaited: BTreeSet<BootId>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    Fencing,
    Committing,
    Reading,
    Over,
}

/// What a member echoes: whatever is not of this attempt is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Echo {
    /// Which run.
    pub generation: Generation,
    /// Which attempt.
    pub tag: FenceTag,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// A member is fenced.
    Fenced(&'a BootId, Echo),
    /// A member is not: something is open there, or was until just now.
    Busy(Echo),
    /// A request arrived after a fence.
    Knock(Echo),
    /// A second has passed since the fences were sent.
    Late,
    /// A member's link is lost, or the leadership: whatever it said no longer holds.
    Lost,
    /// The commit was applied.
    Applied,
    /// The commit was refused: one of its checks did not hold. An earlier copy of it may have been applied.
    Refused,
    /// The commit was not answered: it may have been applied or not.
    Unanswered,
    /// The record, read after a refusal; `None` when it is gone.
    Record(Option<(Generation, Phase)>),
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Wait,
    /// Send the commit; after no answer, the same transaction again.
    Commit,
    /// Read the record, consistently.
    Read,
    /// Send Unfence to every member; the attempt is over.
    GiveUp,
    /// The attempt is over; the record says how. The fences stay: the stop was committed by somebody.
    Done,
}

impl Attempt {
    /// An attempt whose fences are about to be sent to all `members`, with the first step.
    #[must_use]
    pub fn begin(tag: FenceTag, generation: Generation, members: BTreeSet<BootId>) -> (Self, Step) {
        let nobody = members.is_empty();
        let stage = if nobody { Stage::Committing } else { Stage::Fencing };
        (Self { tag, generation, awaited: members, stage }, if nobody { Step::Commit } else { Step::Wait })
    }

    /// Its place in the order of attempts.
    #[must_use]
    pub fn tag(&self) -> FenceTag {
        self.tag
    }

    /// The run that it is to stop.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether nothing can happen to it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Takes in what happened.
    pub fn on(&mut self, input: Input<'_>) -> Step {
        let mine = |echo: Echo| echo == Echo { generation: self.generation, tag: self.tag };
        match (self.stage, input) {
            (Stage::Fencing, Input::Fenced(boot, echo)) if mine(echo) => {
                self.awaited.remove(boot);
                if self.awaited.is_empty() { self.enter(Stage::Committing, Step::Commit) } else { Step::Wait }
            }
            (Stage::Fencing, Input::Busy(echo) | Input::Knock(echo)) if mine(echo) => {
                self.enter(Stage::Over, Step::GiveUp)
            }
            (Stage::Fencing, Input::Late | Input::Lost) => self.enter(Stage::Over, Step::GiveUp),
            // The commit may be applied already: nothing but its own answer decides from here on.
            (Stage::Committing, Input::Applied) => self.enter(Stage::Over, Step::Done),
            (Stage::Committing, Input::Unanswered) => Step::Commit,
            (Stage::Committing, Input::Refused) => self.enter(Stage::Reading, Step::Read),
            (Stage::Reading, Input::Record(record)) => {
                let still_running = record == Some((self.generation, Phase::Running));
                self.enter(Stage::Over, if still_running { Step::GiveUp } else { Step::Done })
            }
            (Stage::Reading, Input::Unanswered) => Step::Read,
            _ => Step::Wait,
        }
    }

    fn enter(&mut self, stage: Stage, step: Step) -> Step {
        self.stage = stage;
        step
    }
}

#[cfg(test)]
mod tests {
    use bivouac_protocol::Term;

    use super::*;

    const GENERATION: Generation = Generation(1);

    fn tag(attempt: u64) -> FenceTag {
        FenceTag { term: Term(7), attempt }
    }

    fn echo(attempt: u64) -> Echo {
        Echo { generation: GENERATION, tag: tag(attempt) }
    }

    fn with_two() -> (Attempt, BootId, BootId) {
        let (a, b) = (BootId::random(), BootId::random());
        let (attempt, step) = Attempt::begin(tag(1), GENERATION, [a.clone(), b.clone()].into());
        assert_eq!(step, Step::Wait);
        (attempt, a, b)
    }

    #[test]
    fn commits_only_when_every_member_is_fenced_in_this_attempt() {
        let (mut attempt, a, b) = with_two();
        assert_eq!(attempt.on(Input::Fenced(&a, echo(1))), Step::Wait);
        assert_eq!(attempt.on(Input::Fenced(&a, echo(1))), Step::Wait, "the same member twice");
        assert_eq!(attempt.on(Input::Fenced(&b, echo(0))), Step::Wait, "an echo of an earlier attempt");
        assert_eq!(attempt.on(Input::Fenced(&b, echo(1))), Step::Commit);
    }

    #[test]
    fn a_knock_gives_up_before_the_commit_and_comes_too_late_after() {
        let (mut attempt, a, b) = with_two();
        assert_eq!(attempt.on(Input::Fenced(&a, echo(1))), Step::Wait);
        assert_eq!(attempt.clone().on(Input::Knock(echo(1))), Step::GiveUp);
        assert_eq!(attempt.on(Input::Fenced(&b, echo(1))), Step::Commit);
        assert_eq!(attempt.on(Input::Knock(echo(1))), Step::Wait);
        assert_eq!(attempt.on(Input::Late), Step::Wait);
        assert_eq!(attempt.on(Input::Lost), Step::Wait);
    }

    #[test]
    fn a_refusal_is_believed_only_after_the_record_was_read() {
        let (mut attempt, _) = Attempt::begin(tag(1), GENERATION, BTreeSet::new());
        assert_eq!(attempt.on(Input::Unanswered), Step::Commit);
        assert_eq!(attempt.on(Input::Refused), Step::Read);
        let mut won = attempt.clone();
        assert_eq!(won.on(Input::Record(Some((GENERATION, Phase::Stopping)))), Step::Done);
        assert_eq!(attempt.on(Input::Record(Some((GENERATION, Phase::Running)))), Step::GiveUp);
        assert!(attempt.is_over() && won.is_over());
    }
}
