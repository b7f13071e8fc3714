//! Waiting for a condition with a deadline: the only way in which a test waits.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(20);

/// Looks until the probe says `Ok`, and returns what it found. `Err` says what was seen instead; the last such text
/// is shown when `within` has passed.
///
/// # Panics
/// When the condition does not come true in time.
pub async fn eventually<T>(
    what: impl AsRef<str>,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let started = Instant::now();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match probe().await {
            Ok(found) => return found,
            Err(seen) if started.elapsed() > within => {
                panic!("waited {within:?} for: {}; last seen: {seen}", what.as_ref())
            }
            Err(_) => {}
        }
    }
}

/// Looks again and again for the whole of `during`, and fails as soon as the probe says `Err`: for what must *not*
/// happen.
///
/// # Panics
/// When the probe says `Err`.
pub async fn always(
    what: impl AsRef<str>,
    during: Duration,
    mut probe: impl AsyncFnMut() -> Result<(), String>,
) {
    let started = Instant::now();
    let mut ticks = tokio::time::interval(EVERY * 5);
    while started.elapsed() < during {
        ticks.tick().await;
        if let Err(seen) = probe().await {
            panic!("broken after {:?}: {}; seen: {seen}", started.elapsed(), what.as_ref());
        }
    }
}

/// Lets an amount of time pass that belongs to the scenario itself ("a request every 300 ms"), not to the machine it
/// runs on.
pub async fn elapse(time: Duration) {
    tokio::time::sleep_until(tokio::time::Instant::now() + time).await;
}
