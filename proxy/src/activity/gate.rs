//! Guard and fence of one session on one proxy: the pure part of "no request is lost to an idle stop".
//!
//! Admission and fence are decided in one place, so neither can slip between the other's check and its effect. The
//! model checker in `tests/` explores exactly these functions.

use std::time::Duration;

use bivouac_protocol::{FenceTag, Generation};

/// What keeps a session from being fenced, and what keeps requests from being admitted. Times are ages of the proxy's
/// boot clock, given by the caller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Gate {
    open: u32,
    /// Requests that wait at the fence: they came after it, but before whatever fence comes next.
    waiting: u32,
    last_use: Option<Duration>,
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

/// The answer to an order to fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceAnswer {
    /// Nothing is open and nothing will be admitted.
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
        self.last_use = Some(self.last_use.map_or(now, |last| last.max(now)));
    }

    /// Counts it out again without leaving a trace: it was never admitted.
    pub fn withdraw(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// A request that was held waits no longer.
    pub fn stop_waiting(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Installs a fence if nothing is open and the last use is at least `min_idle` ago.
    pub fn fence(&mut self, order: Fenced, min_idle: Duration, now: Duration) -> FenceAnswer {
        let lifted = self.lifted.is_some_and(|lifted| order.tag <= lifted);
        let superseded = self.over >= Some(order.generation) || self.confirmed > Some(order.generation);
        if lifted || superseded {
            return FenceAnswer::Stale;
        }
        if let Some(installed) = self.fence {
            // An order that is repeated is answered again; an older one must not weaken a newer fence.
            if order.tag < installed.tag {
                return FenceAnswer::Stale;
            }
            if order.tag > installed.tag && self.waiting > 0 {
                return FenceAnswer::Busy;
            }
        } else if self.open > 0 || self.idle_for(now).is_some_and(|idle| idle < min_idle) {
            return FenceAnswer::Busy;
        }
        self.fence = Some(order);
        FenceAnswer::Fenced
    }

    /// Lifts every fence up to and including `tag`, and remembers it. Whether one was lifted.
    pub fn unfence(&mut self, tag: FenceTag) -> bool {
        self.lifted = self.lifted.max(Some(tag));
        self.fence.take_if(|installed| installed.tag <= tag).is_some()
    }

    /// Lifts exactly this attempt's fence: the proxy made its commit impossible, but knows nothing of a newer one.
    pub fn lift(&mut self, tag: FenceTag) -> bool {
        if self.fence.is_some_and(|installed| installed.tag == tag) { self.unfence(tag) } else { false }
    }

    /// The generation is over: its fence has done its work, its successors are not fenced.
    pub fn retract(&mut self, generation: Generation) {
        self.over = self.over.max(Some(generation));
        self.fence.take_if(|installed| installed.generation <= generation);
    }

    /// Whether this proxy has read, since it joined, that this generation is running.
    #[must_use]
    pub fn is_confirmed(&self, generation: Generation) -> bool {
        self.confirmed == Some(generation)
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

    /// Requests that wait at the fence.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Time since the last use; `None` if there never was one. Zero while something is open.
    #[must_use]
    pub fn idle_for(&self, now: Duration) -> Option<Duration> {
        if self.open > 0 { Some(Duration::ZERO) } else { self.last_use.map(|last| now.saturating_sub(last)) }
    }
}
