//! Keeps the picture current: listen first, then list, then go on listening; from the beginning after every gap.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bivouac_nomad::{Client, Continuity, Cursor, Error, Event, Payload, Topic};
use futures::TryStreamExt;
use futures::future::join_all;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use super::picture::{Owner, Picture};
use super::scope::Scopes;
use super::{Places, Settings};
use crate::backend::Observation;

/// The first wait before a stream is opened again, and the last; jitter may double it.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// A server that is cut off from the others keeps our stream alive and tells nothing: only a list shows it.
const RELIST: Duration = Duration::from_secs(300);
/// Shared by all job ids of sessions.
const JOB_PREFIX: &str = "session-";

/// Reports until the receiver is dropped.
pub(super) async fn observe(
    client: &Client,
    settings: &Settings,
    places: &Places,
    reports: mpsc::Sender<Observation>,
) {
    let scopes = Scopes::new(&settings.watched);
    let watches = settings.watched.iter().enumerate().map(|(number, scope)| {
        let mut watch = Watch {
            // One that asks is enough.
            version_checked: number > 0,
            client,
            settings,
            scope,
            scopes: &scopes,
            places,
            reports: reports.clone(),
            picture: Picture::new(&settings.cluster),
            cursor: None,
            waits: waits(),
        };
        async move { watch.run().await }
    });
    tokio::select! {
        () = reports.closed() => {}
        _ = join_all(watches) => {}
    }
}

fn waits() -> ExponentialBackoff {
    let (min, max) = RECONNECT;
    ExponentialBuilder::new()
        .with_min_delay(min)
        .with_max_delay(max)
        .with_jitter()
        .without_max_times()
        .build()
}

struct Watch<'a> {
    client: &'a Client,
    settings: &'a Settings,
    /// The namespace that this one watches, and what the others have come to.
    scope: &'a str,
    scopes: &'a Scopes,
    places: &'a Places,
    reports: mpsc::Sender<Observation>,
    picture: Picture,
    /// Where the last stream ended, if the picture was whole until then.
    cursor: Option<Cursor>,
    waits: ExponentialBackoff,
    version_checked: bool,
}

impl Watch<'_> {
    async fn run(&mut self) {
        let mut interrupted = false;
        loop {
            let opened = self.open().await;
            let error = match opened {
                Ok(stream) => {
                    interrupted = false;
                    self.waits = waits();
                    self.listen(stream).await
                }
                Err(error) => error,
            };
            if !interrupted {
                interrupted = true;
                self.tell(Observation::Interrupted(error.to_string())).await;
            }
            sleep(self.waits.next().unwrap_or(RECONNECT.1)).await;
        }
    }

    /// Opens a stream and makes the picture whole. Only then everything has been told.
    async fn open(&mut self) -> Result<bivouac_nomad::EventStream, Error> {
        let after = self.cursor.clone();
        let (stream, continuity) = self.client.events(self.scope, &Topic::ALL, after).await?;
        self.cursor = None;
        self.check_version().await;
        if continuity == Continuity::Gap {
            self.tell(Observation::Missed).await;
        }
        if continuity != Continuity::Continuous {
            self.picture = Picture::new(&self.settings.cluster);
            self.list().await?;
        }
        self.tell(Observation::Synced).await;
        Ok(stream)
    }

    /// Older servers ignore what keeps a session of an unreachable node from being started a second time.
    async fn check_version(&mut self) {
        const OLDEST: (u32, u32) = (1, 8);
        if std::mem::replace(&mut self.version_checked, true) {
            return;
        }
        match self.client.agent().await {
            Ok(agent) if agent.release().is_some_and(|release| release < OLDEST) => {
                let (major, minor) = OLDEST;
                tracing::warn!(
                    nomad.version = %agent.version,
                    "Nomad is older than {major}.{minor}: when a node is unreachable, its sessions are started again elsewhere."
                );
            }
            Ok(agent) => tracing::info!(nomad.version = %agent.version, "Sessions run on Nomad."),
            Err(why) => tracing::debug!(%why, "Nomad does not tell its version; 1.8 or later is assumed."),
        }
    }

    /// Passes events on until the stream breaks.
    async fn listen(&mut self, mut stream: bivouac_nomad::EventStream) -> Error {
        let mut relist_at = Instant::now() + RELIST;
        loop {
            let taken = match timeout_at(relist_at, stream.next()).await {
                Ok(Ok(event)) => self.take(event).await,
                Ok(Err(error)) => {
                    self.cursor = Some(stream.cursor());
                    return error;
                }
                Err(_) => {
                    relist_at = Instant::now() + RELIST;
                    self.list().await
                }
            };
            if let Err(error) = taken {
                return error;
            }
        }
    }

    /// Tells what the lists add to the picture.
    async fn list(&mut self) -> Result<(), Error> {
        let watched = self.scope;
        let jobs = self.client.jobs(JOB_PREFIX, watched).await?;
        if jobs.index < self.picture.floor(Topic::Job) {
            // Somebody restored a snapshot: what was known never happened.
            self.picture = Picture::new(&self.settings.cluster);
        }
        self.picture.raise_floor(Topic::Job, jobs.index);
        self.picture.forget_purged();
        for job in jobs.items {
            self.on_job(&job, false).await;
        }
        let filter = format!("JobID matches \"^{JOB_PREFIX}\"");
        let mut pages = std::pin::pin!(self.client.allocations(watched, &filter));
        let mut as_of = None;
        while let Some(page) = pages.try_next().await? {
            as_of = as_of.or(Some(page.index));
            for allocation in page.items {
                let news = self.picture.on_allocation(&allocation);
                self.tell_news(news).await;
            }
        }
        self.picture.raise_floor(Topic::Allocation, as_of.unwrap_or_default());
        let evaluations = self.client.blocked_evaluations(watched).await?;
        self.picture.raise_floor(Topic::Evaluation, evaluations.index);
        for evaluation in evaluations.items {
            let news = self.picture.on_evaluation(&evaluation);
            self.tell_news(news).await;
        }
        Ok(())
    }

    async fn take(&mut self, event: Event) -> Result<(), Error> {
        if event.index <= self.picture.floor(event.topic) {
            return Ok(());
        }
        match event.payload {
            Payload::Job { job, deleted } => self.on_job(&job, deleted).await,
            Payload::Allocation(allocation) => {
                if self.is_ours(&allocation.job_id, &event.namespace).await? {
                    let news = self.picture.on_allocation(&allocation);
                    self.tell_news(news).await;
                }
            }
            Payload::Evaluation(evaluation) => {
                let news = self.picture.on_evaluation(&evaluation);
                self.tell_news(news).await;
            }
        }
        Ok(())
    }

    async fn on_job(&mut self, job: &bivouac_nomad::Job, purged: bool) {
        let Some((run, news)) = self.picture.on_job(job, purged) else { return };
        if purged {
            self.places.forget(&run);
        } else {
            self.places.remember(&run, &job.namespace);
        }
        self.tell_news(news).await;
    }

    /// Whether an event's job belongs to this installation. Events of allocations do not say; the job's own event
    /// comes first, so that hardly ever has to be asked.
    async fn is_ours(&mut self, job: &str, namespace: &str) -> Result<bool, Error> {
        if self.picture.owner(job) == Owner::Unknown {
            match self.client.job(job, namespace).await? {
                Some(job) => self.on_job(&job, false).await,
                None => return Ok(false),
            }
        }
        Ok(self.picture.owner(job) == Owner::Us)
    }

    async fn tell_news(&self, news: Option<Observation>) {
        if let Some(observation) = news {
            self.tell(observation).await;
        }
    }

    async fn tell(&self, observation: Observation) {
        if !self.scopes.passes(self.scope, &observation) {
            return;
        }
        // A receiver that is gone ends the whole watch, in `observe`.
        drop(self.reports.send(observation).await);
    }
}
