//! Waking: a request for an ended session starts it again, if its template says so.

use std::sync::Arc;

use bivouac_protocol::link::FromService;
use bivouac_protocol::{Generation, Phase, Record, SessionId};
use jiff::{SignedDuration, Timestamp};

use super::claiming::claim_again;
use super::supervisor::{Learned, News};
use super::{LinkId, Outside};

/// Longest pause between two wakes of a session whose starts fail.
const LONGEST_BACK_OFF: SignedDuration = SignedDuration::from_secs(60);

/// Whether a request may start an ended session again, now.
fn may_wake(record: &Record, now: Timestamp) -> bool {
    if record.phase != Phase::Ended || !record.may_be_woken() {
        return false;
    }
    // Each failed start doubles the pause, so that a page that refreshes itself does not become a fork bomb.
    let back_off = match record.failures {
        0 => SignedDuration::ZERO,
        failures => SignedDuration::from_secs(1 << failures.min(6)).min(LONGEST_BACK_OFF),
    };
    // An end that lies in the future was written by another machine's clock.
    let age = record.timeline.ended.map(|ended| now.duration_since(ended));
    record.failures == 0 || age.is_none_or(|age| age.is_negative() || age >= back_off)
}

impl Outside {
    /// Starts an ended session for a request that waits for it on a proxy. Once per generation: the claim decides.
    pub(super) fn wake(self: &Arc<Self>, id: SessionId, generation: Generation, link: LinkId) {
        let outside = Arc::clone(self);
        self.tracker.spawn(async move {
            let record = match outside.records.read(&id).await {
                Ok(Some(record)) => record,
                Ok(None) => return outside.tell(News::Tell(link, unknown(id))),
                Err(error) => {
                    // The proxy asks again as long as its request waits.
                    return tracing::warn!(session.id = %id, %error, "A session cannot be woken now.");
                }
            };
            if record.value.generation == generation && may_wake(&record.value, Timestamp::now()) {
                let claim = claim_again(&outside, &record.value);
                let Some(claimed) = outside.claim_for_certain(&id, &record, &claim).await else { return };
                let (record, owned) = claimed.into_record();
                let Some(record) = record else { return };
                if owned {
                    let generation = record.value.generation;
                    tracing::info!(session.id = %id, %generation, "A request wakes a session.");
                    outside.metrics.wakes.inc();
                }
                return outside.tell(News::Learned(Learned { id, record, owned, grace: None, reply: None }));
            }
            outside.tell(News::Learned(Learned {
                id: id.clone(),
                record,
                owned: false,
                grace: None,
                reply: None,
            }));
            outside.tell(News::TellOf(link, id));
        });
    }
}

fn unknown(session: SessionId) -> FromService {
    FromService::Outcome { session, generation: None, phase: None, reason: None }
}
