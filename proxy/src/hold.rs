//! Bounds on waiting, so many requests per session and so many in total, and on what is served at once, where a session's
//! template has one.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::activity::entry::Entry;
use crate::metrics::{Bound, Metrics};
use crate::refusal::Refusal;

/// Hands out the right to wait.
pub(crate) struct Holds {
    total: Arc<Semaphore>,
    per_session: usize,
    metrics: Metrics,
}

/// The right to wait for one session; dropping it makes room for another.
pub(crate) struct Hold {
    entry: Arc<Entry>,
    metrics: Metrics,
    since: Instant,
    _total: OwnedSemaphorePermit,
}

impl Holds {
    pub(crate) fn new(total: usize, per_session: usize, metrics: Metrics) -> Self {
        Self { total: Arc::new(Semaphore::new(total.min(Semaphore::MAX_PERMITS))), per_session, metrics }
    }

    /// Takes a place, if there is one.
    pub(crate) fn take(&self, entry: &Arc<Entry>) -> Result<Hold, Refusal> {
        let total = self.total.clone().try_acquire_owned().map_err(|_| self.refuse(Bound::Total))?;
        let mut state = entry.lock();
        if state.holding >= self.per_session {
            return Err(self.refuse(Bound::Session));
        }
        state.holding += 1;
        drop(state);
        self.metrics.held();
        Ok(Hold { entry: entry.clone(), metrics: self.metrics.clone(), since: Instant::now(), _total: total })
    }

    fn refuse(&self, bound: Bound) -> Refusal {
        self.metrics.not_held(bound);
        Refusal::TooManyWaiting
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.entry.lock().holding -= 1;
        self.metrics.released(self.since.elapsed());
    }
}

/// The right to use a session whose template bounds how many may at once; dropping it makes room for another. Where there
/// is no bound it is nothing.
pub(crate) struct Seat(Option<Arc<Entry>>);

impl Seat {
    /// Takes one of so many seats on this proxy, if one is free.
    pub(crate) fn take(entry: &Arc<Entry>, at_most: Option<u32>) -> Result<Self, Refusal> {
        let Some(at_most) = at_most else { return Ok(Self(None)) };
        let mut state = entry.lock();
        if state.seats >= at_most {
            return Err(Refusal::TooManyConnections);
        }
        state.seats += 1;
        Ok(Self(Some(entry.clone())))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(entry) = &self.0 {
            entry.lock().seats -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activity::clock::Clock;
    use crate::activity::table::{Entered, Table};

    #[test]
    fn so_many_uses_as_there_are_seats() {
        let table = Table::new(Clock::Boot, Arc::default(), Metrics::new());
        let Entered::Open(open) = table.enter(&bivouac_protocol::SessionId::random()) else { unreachable!() };
        let take = |at_most| Seat::take(open.entry(), at_most);
        let first = take(Some(2)).ok();
        let _second = take(Some(2)).ok().unwrap();
        assert_eq!(take(Some(2)).err(), Some(Refusal::TooManyConnections));
        assert!(take(None).is_ok(), "where nothing is bounded nothing is counted");
        drop(first);
        assert!(take(Some(2)).is_ok());
    }

    #[test]
    fn waiting_is_bounded_per_session_and_in_total() {
        let table = Table::new(Clock::Boot, Arc::default(), Metrics::new());
        let holds = Holds::new(3, 2, Metrics::new());
        let open = |_| match table.enter(&bivouac_protocol::SessionId::random()) {
            Entered::Open(open) => open,
            Entered::Held(_) => unreachable!("nothing is fenced"),
        };
        let [one, two] = [0, 1].map(open);
        let first = holds.take(one.entry()).unwrap();
        let _second = holds.take(one.entry()).unwrap();
        assert_eq!(holds.take(one.entry()).err(), Some(Refusal::TooManyWaiting), "per session");
        let _third = holds.take(two.entry()).unwrap();
        assert_eq!(holds.take(two.entry()).err(), Some(Refusal::TooManyWaiting), "in total");
        drop(first);
        assert!(holds.take(one.entry()).is_ok());
    }
}
