//! Waking: a request for an ended session starts it again, if its template says so.

use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::records::{Claim, Versioned};
use bivouac_protocol::link::FromService;
use bivouac_protocol::{Generation, Nonce, Phase, Record, SessionId};
use jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;

use super::supervisor::{Learned, News};
use super::{LinkId, Outside};

/// Longest pause between two wakes of a session whose starts fail.
const LONGEST_BACK_OFF: SignedDuration = SignedDuration::from_secs(60);

/// A claim from what was asked for before, under today's template.
pub(super) fn claim_again(outside: &Outside, record: &Record) -> Claim {
    let template = outside.templates.get(&record.template);
    Claim {
        namespace: record.namespace.clone(),
        key: record.key.clone(),
        template: record.template.clone(),
        hash: template.as_ref().map_or_else(|| record.hash.clone(), |template| template.hash.clone()),
        request: record.request.clone(),
        policy: template.map_or_else(|| record.policy.clone(), |template| template.policy(&record.request)),
        nonce: Nonce::random(),
        at: Timestamp::now(),
    }
}

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
                if let Some(record) = outside.claim_by_wake(&id, &record, &claim).await {
                    let owned = record.value.nonce == claim.nonce;
                    outside.tell(News::Learned(Learned { id, record, owned, grace: None, reply: None }));
                }
                return;
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

    /// Claims for a request that waits, and finds out what came of it whatever the answer was: a claim that was won and
    /// that nobody knows of would be carried out by nobody.
    async fn claim_by_wake(
        &self,
        id: &SessionId,
        ended: &Versioned<Record>,
        claim: &Claim,
    ) -> Option<Versioned<Record>> {
        match self.records.claim(id, Some(ended), claim).await {
            Ok(Some(record)) => {
                tracing::info!(session.id = %id, generation = %record.value.generation, "A request wakes a session.");
                self.metrics.wakes.inc();
                return Some(record);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(session.id = %id, %error, "It is not known yet whether a session is woken.")
            }
        }
        loop {
            match self.records.read(id).await {
                Ok(record) => return record,
                Err(error) if error.is_final() => return None,
                Err(_) => sleep(Duration::from_secs(1)).await,
            }
        }
    }
}

fn unknown(session: SessionId) -> FromService {
    FromService::Outcome { session, generation: None, phase: None, reason: None }
}
