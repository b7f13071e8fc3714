//! Questions to the ledger and to the backend that are asked until they are answered. After a list in which all sessions
//! are missing, or a restore, every session has one: only so many are asked at the same time.

use std::time::Duration;

use bivouac_ledger::Error;
use bivouac_ledger::records::Versioned;
use bivouac_protocol::{Record, SessionId};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::Outside;
use crate::backend::{Backend, Unavailable};

/// Pause before a question is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// Questions to either of both that wait for an answer at the same time.
const AT_ONCE: usize = 32;

/// Who is asked when. Each has lanes of its own: one that hangs keeps nobody from the other.
pub(super) struct Lanes {
    ledger: Semaphore,
    backend: Semaphore,
}

impl Default for Lanes {
    fn default() -> Self {
        Self { ledger: Semaphore::new(AT_ONCE), backend: Semaphore::new(AT_ONCE) }
    }
}

impl Outside {
    /// Asks the ledger; `None` when what it has can never be read.
    pub(super) async fn insist<T, F: Future<Output = Result<T, Error>>>(
        &self,
        id: &SessionId,
        ask: impl Fn() -> F,
    ) -> Option<T> {
        until_answered(&self.lanes.ledger, id, ask, Error::is_final).await
    }

    /// The record, once the ledger answers. `None`: there is none, or it can never be read.
    pub(super) async fn insist_on_reading(&self, id: &SessionId) -> Option<Versioned<Record>> {
        self.insist(id, || self.records.read(id)).await.flatten()
    }

    /// Asks the backend.
    pub(super) async fn insist_on_run<'a, T, F: Future<Output = Result<T, Unavailable>>>(
        &'a self,
        id: &SessionId,
        ask: impl Fn(&'a dyn Backend) -> F,
    ) -> Option<T> {
        until_answered(&self.lanes.backend, id, || ask(self.backend.as_ref()), |_| false).await
    }
}

/// Takes a turn for each try, and none while it waits for the next.
async fn until_answered<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
    lanes: &Semaphore,
    id: &SessionId,
    ask: impl Fn() -> F,
    is_final: impl Fn(&E) -> bool,
) -> Option<T> {
    loop {
        let turn = lanes.acquire().await;
        let answer = ask().await;
        drop(turn);
        match answer {
            Ok(answer) => return Some(answer),
            Err(error) if is_final(&error) => {
                tracing::error!(session.id = %id, %error, "A session cannot be read.");
                return None;
            }
            Err(error) => tracing::debug!(session.id = %id, %error, "A session is asked about again."),
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_so_many_are_asked_at_once_and_who_waits_for_another_try_is_in_nobodys_way() {
        let (lanes, id) = (Semaphore::new(2), SessionId::random());
        let (asking, most, tries) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let ask = || async {
            most.fetch_max(asking.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            sleep(Duration::from_millis(1)).await;
            asking.fetch_sub(1, Ordering::Relaxed);
            // Each of the first ten tries fails.
            if tries.fetch_add(1, Ordering::Relaxed) < 10 { Err("no answer") } else { Ok(()) }
        };
        let begun = tokio::time::Instant::now();
        let answers = join_all((0..10).map(|_| until_answered(&lanes, &id, ask, |_| false))).await;
        assert_eq!(answers, [Some(()); 10]);
        assert_eq!((most.into_inner(), tries.into_inner()), (2, 20));
        assert!(begun.elapsed() < 2 * PAUSE, "they wait at the same time");
    }

    #[tokio::test]
    async fn what_will_never_be_answered_is_asked_once() {
        let (lanes, id, tries) = (Semaphore::new(1), SessionId::random(), AtomicUsize::new(0));
        let ask = || async { Err::<(), _>(tries.fetch_add(1, Ordering::Relaxed)) };
        assert_eq!(until_answered(&lanes, &id, ask, |_| true).await, None);
        assert_eq!(tries.into_inner(), 1);
    }
}
