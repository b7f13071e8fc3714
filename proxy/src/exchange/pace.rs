//! How much of a body may come, and how slowly. Pure.

use std::time::Duration;

/// What the body of a request is held to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes that it may have; `None`: as many as it likes.
    pub(super) most: Option<u64>,
    /// Its pace; `None`: any.
    pub(super) pace: Option<Pace>,
}

/// In each `window` that a body is waited for, `least` bytes of it have to come. The time that the backend takes for
/// what came is not the client's, and neither is the time before it says that the body may come, if it was asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    window: Duration,
    least: u64,
    waited: Duration,
    came: u64,
    begun: bool,
}

impl Bounds {
    /// These bytes have come. False: they are more than may.
    pub(super) fn admit(&mut self, bytes: u64) -> bool {
        let Some(most) = &mut self.most else { return true };
        let left = most.checked_sub(bytes);
        *most = left.unwrap_or(0);
        left.is_some()
    }
}

impl Pace {
    /// `asks`: the client asks whether it may send the body at all.
    pub(super) fn new(window: Duration, least: u64, asks: bool) -> Self {
        Self { window, least, waited: Duration::ZERO, came: 0, begun: !asks }
    }

    /// How long the next bytes may take.
    pub(super) fn patience(&self) -> Duration {
        if self.begun { self.window.saturating_sub(self.waited) } else { Duration::MAX }
    }

    /// So many bytes came after so long.
    pub(super) fn advance(&mut self, bytes: u64, waited: Duration) {
        if std::mem::replace(&mut self.begun, true) {
            self.waited += waited;
        }
        self.came = self.came.saturating_add(bytes);
        if self.came >= self.least {
            (self.waited, self.came) = (Duration::ZERO, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    #[test]
    fn a_steady_body_is_never_too_slow() {
        let mut pace = Pace::new(WINDOW, 256, false);
        for _ in 0..100 {
            pace.advance(256, Duration::from_secs(59));
            assert_eq!(pace.patience(), WINDOW);
        }
    }

    #[test]
    fn a_dribble_uses_up_its_window() {
        let mut pace = Pace::new(WINDOW, 256, false);
        for _ in 0..60 {
            assert!(pace.patience() > Duration::ZERO);
            pace.advance(1, Duration::from_secs(1));
        }
        assert_eq!(pace.patience(), Duration::ZERO);
    }

    #[test]
    fn whoever_asks_first_is_not_to_blame_for_the_wait() {
        let mut pace = Pace::new(WINDOW, 256, true);
        assert_eq!(pace.patience(), Duration::MAX);
        pace.advance(1, Duration::from_secs(600));
        assert_eq!(pace.patience(), WINDOW);
    }

    #[test]
    fn a_bound_is_a_bound_however_it_is_reached() {
        let mut bounds = Bounds { most: Some(10), pace: None };
        assert!(bounds.admit(4) && bounds.admit(6));
        assert!(!bounds.admit(1));
        assert!(!bounds.admit(1), "and it stays reached");
        assert!(Bounds { most: None, pace: None }.admit(u64::MAX));
    }

    proptest! {
        #[test]
        fn what_is_admitted_never_exceeds_the_bound(most in 0u64..1000, pieces in proptest::collection::vec(0u64..300, 0..20)) {
            let mut bounds = Bounds { most: Some(most), pace: None };
            let admitted: u64 = pieces.into_iter().take_while(|piece| bounds.admit(*piece)).sum();
            prop_assert!(admitted <= most);
        }

        #[test]
        fn whoever_brings_enough_in_time_goes_on(waits in proptest::collection::vec((0u64..59, 256u64..10_000), 0..20)) {
            let mut pace = Pace::new(WINDOW, 256, false);
            for (seconds, bytes) in waits {
                prop_assert!(Duration::from_secs(seconds) < pace.patience());
                pace.advance(bytes, Duration::from_secs(seconds));
            }
        }
    }
}
