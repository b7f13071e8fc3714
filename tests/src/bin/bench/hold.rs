//! A thousand requests that wait for one session: how soon after it is ready each has its answer, and that none is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bivouac_client::SpawnRequest;
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::backend;
use crate::load::{self, Aim};
use crate::report::{Spread, Times};
use crate::rig::Rig;
use crate::say;

/// As many as may wait for one session by default.
const WAITING: usize = 1_000;
/// How long the backend takes until it listens: long enough that all of them wait by then.
const START: Duration = Duration::from_secs(4);
/// Longest wait for the last answer.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn measure(rig: &Rig, rounds: u32) -> Result<Spread> {
    say(&format!("{rounds} times {WAITING} requests that wait for a session"));
    let mut all = Vec::new();
    for number in 0..rounds {
        let taken = round(rig).await?;
        let times: Times = taken.iter().copied().collect();
        say(&format!(
            "  round {} of {rounds}: the last {:.1} ms after it was ready",
            number + 1,
            times.percentile(100)
        ));
        all.extend(taken);
    }
    let title = format!("Requests that wait for a session, {WAITING} at once: from ready to answered");
    Ok(Spread { title, subjects: vec![(Rig::NAME, all.into_iter().collect())], targets: Vec::new() })
}

async fn round(rig: &Rig) -> Result<Vec<Duration>> {
    let env = BTreeMap::from([("GUEST_START_MS".to_owned(), START.as_millis().to_string())]);
    let session = rig.spawn_as(&SpawnRequest { env, ..SpawnRequest::new(backend::GUEST) }).await?;
    let host = format!("{}.localhost", session.id);
    let mut asking = JoinSet::new();
    for _ in 0..WAITING {
        let (address, host) = (rig.plain, host.clone());
        asking.spawn(async move { load::kept::once(Aim { address, host: &host }).await });
    }
    let mut answered = Vec::with_capacity(WAITING);
    let all = async {
        while let Some(done) = asking.join_next().await {
            answered.push(done??);
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, all).await.context("a request that waited was never answered")??;
    let timeline = rig.api.session(&session.id).await?.value.timeline;
    let ready: Timestamp = timeline.ready.context("a session that was never ready")?;
    rig.end(&session.id).await?;
    let sent_last = answered.iter().map(|(sent, _)| *sent).max().context("nobody asked")?;
    ensure!(sent_last < ready, "the session was ready before all had asked");
    // The timeline has whole milliseconds.
    Ok(answered.iter().map(|(_, at)| at.duration_since(ready).try_into().unwrap_or_default()).collect())
}
