//! What is followed for as long as the process lives: the records, and the backend's reports.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::Outside;
use super::supervisor::News;

/// Time between two lists of all records.
const LIST_EVERY: Duration = Duration::from_secs(60);
/// Lists that are asked for come no faster than this.
const LIST_AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// Learns of every session that has a record: at the start, and then again and again, for a claim whose replica was
/// killed before it registered anything makes no other noise, nor does a ledger that was restored from a snapshot.
pub(super) async fn learn_all(outside: Arc<Outside>) {
    let mut known = false;
    loop {
        match outside.records.list().await {
            Ok(records) => {
                if !known {
                    tracing::info!(sessions = records.len(), "The records were read.");
                }
                known = true;
                outside.tell(News::Listed(records));
                sleep(LIST_AT_MOST_EVERY).await;
                // Not in step with the other replicas.
                let pause = LIST_EVERY.mul_f64(rand::random_range(0.75..1.25));
                let _ = timeout(pause, outside.relist.notified()).await;
            }
            Err(error) => {
                tracing::warn!(%error, "The records cannot be read yet.");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Passes the backend's reports on.
pub(super) async fn observe(outside: Arc<Outside>) {
    let (reports, mut observations) = mpsc::channel(1024);
    let observing = outside.backend.observe(reports);
    let passing = async {
        while let Some(observation) = observations.recv().await {
            outside.tell(News::Observed(observation));
        }
    };
    tokio::join!(observing, passing);
}
