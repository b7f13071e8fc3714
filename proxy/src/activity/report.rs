//! What the service is told of the sessions' use: all of it when a link begins, then every change.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bivouac_protocol::link::{Activity, FromProxy};

use super::entry::{Entry, State};
use super::table::Table;

/// Edges (a session comes into use, or out of it) within this time are reported as one: a session that is used again and
/// again for a moment costs a few messages a second, however many requests those are.
const EDGES_EVERY: Duration = Duration::from_millis(50);
/// Bytes of carriers are reported no more often than this; whoever needs to know better asks, with a fence.
const NOISE_EVERY: Duration = Duration::from_secs(5);
/// How many uses there are, while there are any, is for people to see, and told no more often than this.
const COUNTS_EVERY: Duration = Duration::from_secs(1);

impl Table {
    /// The first use began or the last one ended: it is reported soon.
    pub(super) fn edge(&self, entry: &Arc<Entry>, state: &mut State) {
        if state.exists && !state.dirty {
            state.dirty = true;
            self.unreported.edges.lock().push(entry.clone());
            self.unreported.edge.notify_one();
        }
    }

    /// One use of several began or ended: it is reported when there is time.
    pub(super) fn count(&self, entry: &Arc<Entry>, state: &mut State) {
        if state.exists && !state.recount {
            state.recount = true;
            self.unreported.counts.lock().push(entry.clone());
            self.unreported.count.notify_one();
        }
    }

    /// One more of those that are open is a carrier on which nothing moves: worth a word if that was not so before.
    pub(super) fn carrier(&self, entry: &Arc<Entry>, state: &mut State) {
        let now = (state.gate.open(), state.gate.carriers());
        match now == state.told {
            true => {}
            false if now.0 == now.1 => self.edge(entry, state),
            false => self.count(entry, state),
        }
    }

    /// Bytes have moved on a carrier: it is reported soon, unless it was a short while ago.
    pub(super) fn noise(&self, entry: &Arc<Entry>, state: &mut State, now: Duration) {
        if state.told_at.is_none_or(|told| now.saturating_sub(told) >= NOISE_EVERY) {
            state.told_at = Some(now);
            self.edge(entry, state);
        }
    }

    /// Tells every link what has changed, for ever.
    pub(crate) async fn report_changes(&self) {
        tokio::join!(self.report_edges(), self.report_counts());
    }

    async fn report_edges(&self) {
        loop {
            self.unreported.edge.notified().await;
            tokio::time::sleep(EDGES_EVERY).await;
            let unreported = std::mem::take(&mut *self.unreported.edges.lock());
            for entry in unreported {
                let mut state = entry.lock();
                state.dirty = false;
                self.report(&entry, &mut state);
            }
        }
    }

    async fn report_counts(&self) {
        loop {
            self.unreported.count.notified().await;
            tokio::time::sleep(COUNTS_EVERY).await;
            let unreported = std::mem::take(&mut *self.unreported.counts.lock());
            for entry in unreported {
                let mut state = entry.lock();
                state.recount = false;
                // An edge that is to be reported tells the count too.
                if !state.dirty && (state.gate.open(), state.gate.carriers()) != state.told {
                    self.report(&entry, &mut state);
                }
            }
        }
    }

    pub(super) fn report(&self, entry: &Entry, state: &mut State) {
        if let Some(activity) = self.activity(entry, state) {
            state.told = (activity.open, activity.carriers);
            state.told_at = Some(self.clock.now());
            self.outbox.broadcast(&FromProxy::Activity(activity));
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
        let now = self.clock.now();
        let idle = state.gate.idle_for(now)?;
        let quiet = state.known.route().filter(|route| route.quiet).and_then(|_| state.gate.quiet_for(now));
        Some(Activity {
            // Under the entry's lock: of two messages about a session, the later one has the higher number.
            seq: self.seq.fetch_add(1, Ordering::Relaxed) + 1,
            session: entry.id.clone(),
            generation: state.used,
            open: state.gate.open(),
            idle_ms: milliseconds(idle),
            carriers: state.gate.carriers(),
            quiet_ms: quiet.map(milliseconds),
        })
    }
}

fn milliseconds(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}
