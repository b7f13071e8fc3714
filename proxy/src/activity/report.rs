//! What the service is told of the sessions' use: all of it when a link begins, then every change.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bivouac_protocol::link::{Activity, FromProxy};

use super::entry::{Entry, State};
use super::table::Table;

/// Changes of one session's activity within this time are reported as one: a session that is used again and again for
/// a moment costs a few messages a second, however many requests those are.
const REPORT_EVERY: Duration = Duration::from_millis(50);
impl Table {
    /// A use began or ended: it is reported soon.
    pub(super) fn edge(&self, entry: &Arc<Entry>, state: &mut State) {
        if state.exists && !state.dirty {
            state.dirty = true;
            self.unreported.lock().push(entry.clone());
            self.report.notify_one();
        }
    }

    /// Tells every link what has changed, for ever.
    pub(crate) async fn report_changes(&self) {
        loop {
            self.report.notified().await;
            tokio::time::sleep(REPORT_EVERY).await;
            let unreported = std::mem::take(&mut *self.unreported.lock());
            for entry in unreported {
                let mut state = entry.lock();
                state.dirty = false;
                if let Some(activity) = self.activity(&entry, &state) {
                    self.outbox.broadcast(&FromProxy::Activity(activity));
                }
            }
        }
    }

    /// Every session that was ever used here, and is not over. A link opens its queue before it asks for this: a
    /// change that is missing here is in the queue.
    pub(crate) fn full_state(&self) -> Vec<Activity> {
        let told = |entry: Arc<Entry>| {
            let state = entry.lock();
            if state.is_past() || !state.exists { None } else { self.activity(&entry, &state) }
        };
        self.all().into_iter().filter_map(told).collect()
    }

    fn activity(&self, entry: &Entry, state: &State) -> Option<Activity> {
        let idle = state.gate.idle_for(self.clock.now())?;
        Some(Activity {
            // Under the entry's lock: of two messages about a session, the later one has the higher number.
            seq: self.seq.fetch_add(1, Ordering::Relaxed) + 1,
            session: entry.id.clone(),
            generation: state.used,
            open: state.gate.open(),
            idle_ms: u64::try_from(idle.as_millis()).unwrap_or(u64::MAX),
        })
    }
}
