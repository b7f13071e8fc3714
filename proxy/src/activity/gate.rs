//! Guard and fence of one session on one proxy: the pure part of "no request is lost to an idle stop".
//!
//! Admission and fence are decided in one place, so neither can slip between the other's check and its effect. The
//! model checker in `tests/` explores exactly these functions.

use std::time::Duration;

use bivouac_protocol::{FenceMode, FenceTag, Generation};

/// What keeps a session from being fenced, and what keeps requests from being admitted. Times are ages of the proxy's
/// boot clock, given by the caller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Gate {
    open: u32,
    /// How many of those that are open are carriers on which nothing moves now.
    carriers: u32,
    /// Requests, and bytes of carriers, that wait at the fence: they came after it, but before whatever fence comes next.
    waiting: u32,
    last_use: Option<Duration>,
    /// End of the last use that was no carrier, or of the last move of application bytes on one that is.
    last_noise: Option<Duration>,
    fence: Option<Fenced>,
    /// The highest attempt that was lifted: a fence that arrives after its own unfence is ignored.
    lifted: Option<FenceTag>,
    /// The generation whose record this proxy has read as running, since it joined.
    confirmed: Option<Generation>,
    /// The last generation that is known to be over: a late fence for it must not hold up its successors.
    over: Option<Generation>,
}

/// An installed fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fenced {
    /// By which attempt.
    pub tag: FenceTag,
    /// Which run.
    pub generation: Generation,
}

/// The answer to a request that wants in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// It is counted; it must [`Gate::leave`].
    Entered,
    /// It waits for the stop's outcome, and knocks; it must [`Gate::stop_waiting`].
    Held(Fenced),
}

/// The answer to application bytes of a carrier that want to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raised {
    /// They may. Until it must [`Gate::hush`], the carrier is a use like any other.
    Passed,
    /// They wait for the stop's outcome, and knock; they must [`Gate::stop_waiting`].
    Held(Fenced),
    /// The carrier's generation is over.
    Over,
}

/// The answer to an order to fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceAnswer {
    /// Nothing is open that the order's mode regards, and nothing will be admitted, nor passed.
    Fenced,
    /// Nothing was installed.
    Busy,
    /// The attempt was lifted already, or a newer one holds, or its generation is over: say nothing.
    Stale,
}

impl Gate {
    /// Counts a request in, unless the session is fenced.
    pub fn enter(&mut self) -> Entry {
        match self.fence {
            Some(fenced) => {
                self.waiting += 1;
                Entry::Held(fenced)
            }
            None => {
                self.open += 1;
                Entry::Entered
            }
        }
    }

    /// Counts it out again: the end of a use.
    pub fn leave(&mut self, now: Duration) {
        self.open = self.open.saturating_sub(1);
        self.last_use = self.last_use.max(Some(now));
        self.last_noise = self.last_noise.max(Some(now));
    }

    /// From now on one of those that are open is a carrier, whose bytes ask before they pass. So it is again once all
    /// that passed has been taken: until then a stop would lose it.
    pub fn hush(&mut self, now: Duration) {
        self.carriers += 1;
        self.last_noise = self.last_noise.max(Some(now));
    }

    /// From now on one of those that are open is a carrier that never makes noise.
    pub fn ignore(&mut self) {
        self.carriers += 1;
    }

    /// Application bytes came on a carrier of this generation.
    pub fn raise(&mut self, generation: Generation, now: Duration) -> Raised {
        if self.is_past(generation) {
            return Raised::Over;
        }
        if let Some(fenced) = self.fence {
            self.waiting += 1;
            return Raised::Held(fenced);
        }
        self.carriers = self.carriers.saturating_sub(1);
        self.last_noise = self.last_noise.max(Some(now));
        Raised::Passed
    }

    /// Counts a carrier out again: the end of a use, but nothing was said.
    pub fn leave_carrier(&mut self, now: Duration) {
        self.open = self.open.saturating_sub(1);
        self.carriers = self.carriers.saturating_sub(1);
        self.last_use = self.last_use.max(Some(now));
    }

    /// Counts it out again without leaving a trace: it was never admitted.
    pub fn withdraw(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// A request that was held, or bytes that were, wait no longer.
    pub fn stop_waiting(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Installs a fence if nothing is open and the last use is at least `min_idle` ago. One that is quiet disregards
    /// carriers on which nothing moves; then it is the last noise that must be so long ago.
    pub fn fence(
        &mut self,
        order: Fenced,
        mode: FenceMode,
        min_idle: Duration,
        now: Duration,
    ) -> FenceAnswer {
        let lifted = self.lifted.is_some_and(|lifted| order.tag <= lifted);
        let superseded = self.over >= Some(order.generation) || self.confirmed > Some(order.generation);
        if lifted || superseded {
            return FenceAnswer::Stale;
        }
        self.begin(order.generation);
        if let Some(installed) = self.fence {
            // An order that is repeated is answered again; an older one must not weaken a newer fence.
            if order.tag <= installed.tag {
                return if order == installed { FenceAnswer::Fenced } else { FenceAnswer::Stale };
            }
            if self.waiting > 0 {
                return FenceAnswer::Busy;
            }
        }
        // Also over an installed fence, which may be quiet, and the order not.
        let (regarded, last) = match mode {
            FenceMode::Idle => (self.open, self.last_use),
            FenceMode::Quiet => (self.plain(), self.last_noise),
        };
        if regarded > 0 || last.is_some_and(|last| now.saturating_sub(last) < min_idle) {
            return FenceAnswer::Busy;
        }
        self.fence = Some(order);
        FenceAnswer::Fenced
    }

    /// Lifts every fence up to and including this attempt's, and remembers it. Whether one was lifted.
    pub fn unfence(&mut self, order: Fenced) -> bool {
        let installed = self.fence;
        self.begin(order.generation);
        self.lifted = self.lifted.max(Some(order.tag));
        self.fence.take_if(|installed| installed.tag <= order.tag);
        self.fence != installed
    }

    /// Lifts exactly this attempt's fence: the proxy made its commit impossible, but knows nothing of a newer one.
    pub fn lift(&mut self, tag: FenceTag) -> bool {
        self.fence.filter(|installed| installed.tag == tag).is_some_and(|installed| self.unfence(installed))
    }

    /// A generation begins when its predecessor is over: an attempt to stop this one says so. Without this, an unfence
    /// would lift the fence under which the predecessor was stopped, and let through what waits there.
    fn begin(&mut self, generation: Generation) {
        if let Some(earlier) = generation.0.checked_sub(1).filter(|earlier| *earlier > 0) {
            self.retract(Generation(earlier));
        }
    }

    /// The generation is over: its fence has done its work, its successors are not fenced.
    pub fn retract(&mut self, generation: Generation) {
        self.over = self.over.max(Some(generation));
        self.fence.take_if(|installed| installed.generation <= generation);
    }

    /// Whether this proxy has read, since it joined, that this generation is running, and has not heard of its end.
    #[must_use]
    pub fn is_confirmed(&self, generation: Generation) -> bool {
        self.confirmed == Some(generation) && self.over < Some(generation)
    }

    /// Notes that it has.
    pub fn confirm(&mut self, generation: Generation) {
        self.confirmed = self.confirmed.max(Some(generation));
    }

    /// Whether a later generation, or the end of this one, is known.
    #[must_use]
    pub fn is_past(&self, generation: Generation) -> bool {
        self.over >= Some(generation) || self.confirmed > Some(generation)
    }

    /// Forgets all that is known of this generation's end, and of later ones: the ledger has gone back to it. A fence
    /// stays: whether its commit can still be applied is another question.
    pub fn reopen(&mut self, generation: Generation) {
        self.over = generation.0.checked_sub(1).filter(|earlier| *earlier > 0).map(Generation);
        self.confirmed = None;
    }

    /// Forgets it: the proxy is no member any more, and will join as a new boot.
    pub fn forget_confirmation(&mut self) {
        self.confirmed = None;
    }

    /// The fence that is installed now.
    #[must_use]
    pub fn fenced(&self) -> Option<Fenced> {
        self.fence
    }

    /// Requests and connections that are counted in.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.open
    }

    /// Those of them that are carriers on which nothing moves.
    #[must_use]
    pub fn carriers(&self) -> u32 {
        self.carriers
    }

    /// Those that are not.
    fn plain(&self) -> u32 {
        self.open.saturating_sub(self.carriers)
    }

    /// Requests, and bytes, that wait at the fence.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Time since the last use; `None` if there never was one. Zero while something is open.
    #[must_use]
    pub fn idle_for(&self, now: Duration) -> Option<Duration> {
        if self.open > 0 { Some(Duration::ZERO) } else { self.last_use.map(|last| now.saturating_sub(last)) }
    }

    /// Time since the last noise; `None` if there never was one. Zero while anything is open that is no carrier.
    #[must_use]
    pub fn quiet_for(&self, now: Duration) -> Option<Duration> {
        if self.plain() > 0 {
            Some(Duration::ZERO)
        } else {
            self.last_noise.map(|last| now.saturating_sub(last))
        }
    }
}

#[cfg(test)]
mod tests;
