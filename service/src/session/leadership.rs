//! Who leads: a lock to campaign for, to renew and to give back.

use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::leader::{self, Leadership};
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::Outside;
use super::supervisor::News;

/// Longest blocking read.
const WAIT: Duration = Duration::from_secs(30);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_millis(500);

/// How this replica is called in the lock and in logs.
pub type ReplicaName = String;

/// Campaigns, leads, and campaigns again, until `shutdown`; then the lock is freed at once.
pub(super) async fn lead(outside: Arc<Outside>, replica: ReplicaName, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let leadership = tokio::select! {
            leadership = campaign(&outside, &replica) => leadership,
            () = shutdown.cancelled() => return,
        };
        outside.tell(News::Leadership(Some(leadership.clone())));
        tokio::select! {
            () = renew(&outside, &leadership) => {}
            () = shutdown.cancelled() => {}
        }
        outside.metrics.leader_known.set(0);
        outside.tell(News::Leadership(None));
        if let Err(error) = outside.ledger.close_session(&leadership.session).await {
            tracing::warn!(%error, "The leader's lock is not freed; it expires by itself.");
        }
    }
}

/// Waits until the lock is free and takes it.
async fn campaign(outside: &Outside, replica: &str) -> Leadership {
    loop {
        match leader::acquire(&outside.ledger, replica).await {
            Ok(Some(leadership)) => {
                outside.metrics.leader_known.set(1);
                return leadership;
            }
            Ok(None) => wait_for_vacancy(outside).await,
            Err(error) => {
                outside.metrics.leader_known.set(0);
                tracing::debug!(%error, "The leader's lock cannot be asked for.");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn wait_for_vacancy(outside: &Outside) {
    let mut index = 0;
    loop {
        match outside.ledger.watch(leader::KEY, index, WAIT).await {
            Ok(Some(entry)) if entry.holder.is_some() => {
                outside.metrics.leader_known.set(1);
                index = entry.index;
            }
            Ok(_) => {
                outside.metrics.leader_known.set(0);
                return;
            }
            Err(_) => {
                outside.metrics.leader_known.set(0);
                return sleep(PAUSE).await;
            }
        }
    }
}

/// Returns when the leadership is over: its session is gone, or could not be renewed for so long that another may have
/// the lock. The lock itself is checked by every commit; this only ends the attempts.
async fn renew(outside: &Outside, leadership: &Leadership) {
    let mut renewed = Instant::now();
    let mut ticks = interval(leader::TTL / 4);
    loop {
        ticks.tick().await;
        match outside.ledger.renew_session(&leadership.session).await {
            Ok(true) => renewed = Instant::now(),
            Ok(false) => return,
            Err(_) if renewed.elapsed() >= leader::TTL => return,
            Err(error) => tracing::warn!(%error, "The leadership is not renewed yet."),
        }
    }
}
