//! How many streams a client may waste. Pure: whoever asks says what time it is.
//!
//! Opening a stream and resetting it at once costs the client two small frames, and us a look at everything ("rapid
//! reset"). A browser whose user is in a hurry does the same now and then; this tells the two apart.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What was wasted longer ago is forgotten.
const WINDOW: Duration = Duration::from_secs(10);

/// The streams of one connection that came to nothing lately.
#[derive(Debug)]
pub(super) struct Budget {
    wasted: VecDeque<Instant>,
    limit: usize,
}

impl Budget {
    /// So many streams may be wasted within ten seconds.
    pub(super) fn new(limit: u32) -> Self {
        Self { wasted: VecDeque::new(), limit: usize::try_from(limit).unwrap_or(usize::MAX) }
    }

    /// Another stream was wasted. Whether that was one too many.
    pub(super) fn waste(&mut self, now: Instant) -> bool {
        while self.wasted.front().is_some_and(|then| now.saturating_duration_since(*then) >= WINDOW) {
            self.wasted.pop_front();
        }
        if self.wasted.len() >= self.limit {
            return true;
        }
        self.wasted.push_back(now);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn as_many_as_allowed_may_be_wasted_at_once() {
        let (mut budget, now) = (Budget::new(3), Instant::now());
        assert_eq!([0; 4].map(|_| budget.waste(now)), [false, false, false, true]);
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let (mut budget, now) = (Budget::new(2), Instant::now());
        assert!(!budget.waste(now) && !budget.waste(now + WINDOW / 2));
        assert!(budget.waste(now + WINDOW - Duration::from_millis(1)));
        assert!(!budget.waste(now + WINDOW));
        assert!(budget.waste(now + WINDOW));
    }

    proptest! {
        #[test]
        fn it_is_spent_exactly_when_the_window_is_full(limit in 1u32..20, steps in proptest::collection::vec(0u64..4000, 0..100)) {
            let (mut budget, start) = (Budget::new(limit), Instant::now());
            let (mut now, mut granted) = (start, Vec::new());
            for step in steps {
                now += Duration::from_millis(step);
                let recent = granted.iter().filter(|then| now - **then < WINDOW).count();
                let spent = recent >= limit as usize;
                prop_assert_eq!(budget.waste(now), spent);
                if !spent {
                    granted.push(now);
                }
            }
        }
    }
}
