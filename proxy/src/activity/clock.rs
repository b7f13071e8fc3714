//! The time that ages are measured with: it goes on while the machine sleeps, and never jumps.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Tells the time since an arbitrary point that is the same for the life of the process.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Clock {
    /// Time since the machine started, suspended or not: a proxy that wakes up knows that its links are old.
    Boot,
    /// Tokio's clock, which tests can pause.
    #[cfg(test)]
    Tokio(tokio::time::Instant),
}

impl Clock {
    pub(crate) fn now(self) -> Duration {
        match self {
            Self::Boot => {
                let time = clock_gettime(ClockId::Boottime);
                Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
            }
            #[cfg(test)]
            Self::Tokio(start) => start.elapsed(),
        }
    }

    #[cfg(test)]
    pub(crate) fn paused() -> Self {
        // Not at zero: an age that reaches back before the start must not be cut off.
        Self::Tokio(tokio::time::Instant::now() - Duration::from_secs(3600))
    }
}
