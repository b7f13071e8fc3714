//! Sessions as batch jobs of a Nomad cluster.
//!
//! `picture` is what the event stream has told, `observe` keeps it current, `status` reads allocations,
//! `places` remembers in which Nomad namespace each run's job is.

mod logs;
mod look;
mod observe;
mod picture;
mod places;
pub(crate) mod remedy;
mod scope;
mod status;

use std::time::Duration;

use async_trait::async_trait;
use bivouac_access::Access;
use bivouac_nomad::{Client, Error, Job, Registration, Stop};
use bivouac_protocol::{AllocationId, Nonce, Record, SessionId};
use futures::future::{join_all, try_join_all};
use tokio::sync::mpsc;

use super::logs::{LogError, Reading, Wanted};
use super::{Backend, Grace, Observation, Presence, Run, Start, StartError, Unavailable};
use crate::spec::meta;
use crate::spec::template;
use crate::spec::translate::{self, JobContext};
use places::Places;

/// Stops overtake starts in the scheduler's queue: they free what starts wait for.
const STOP_PRIORITY: u8 = 100;

/// What the backend has to know besides the cluster's address.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Marks the jobs of this installation: [`bivouac_protocol::id::cluster_fingerprint`].
    pub cluster: String,
    /// Nomad namespace of jobs whose template names none: `NOMAD_NAMESPACE`, else `default`.
    pub namespace: String,
    /// Nomad namespaces to watch; `*` for all, which a token that may not read every one of them cannot do.
    pub watched: Vec<String>,
}

impl Settings {
    /// Watches all namespaces, and starts jobs in `default`.
    #[must_use]
    pub fn new(cluster: impl Into<String>) -> Self {
        Self { cluster: cluster.into(), namespace: "default".to_owned(), watched: vec!["*".to_owned()] }
    }

    /// Confines it to these namespaces, if there are any: jobs whose template names none go to the first of them, unless
    /// they have a place among them already.
    #[must_use]
    pub fn within(self, namespaces: &[String]) -> Self {
        match namespaces {
            [] => self,
            [first, ..] => {
                let namespace =
                    if namespaces.contains(&self.namespace) { self.namespace } else { first.clone() };
                Self { namespace, watched: namespaces.to_vec(), ..self }
            }
        }
    }
}

/// Runs sessions on Nomad.
pub struct NomadBackend {
    client: Client,
    settings: Settings,
    places: Places,
}

impl NomadBackend {
    /// Sessions on the cluster that `client` reaches.
    #[must_use]
    pub fn new(client: Client, settings: Settings) -> Self {
        let places = Places::new(settings.namespace.clone(), &settings.watched);
        Self { client, settings, places }
    }

    /// The run's job and its namespace, consistently. `None`: it does not exist anywhere we can look.
    async fn find(&self, run: &Run) -> Result<Option<(Job, String)>, Error> {
        let id = run.session.job_id(run.generation);
        for namespace in self.places.candidates(run) {
            if let Some(job) = self.client.job(&id, &namespace).await? {
                self.places.remember(run, &namespace);
                return Ok(Some((job, namespace)));
            }
        }
        // A list shows only what the token may read; what it does show is read by id.
        let lists = self.settings.watched.iter().map(|namespace| self.client.jobs(&id, namespace));
        let listed =
            try_join_all(lists).await?.into_iter().flat_map(|list| list.items).find(|job| job.id == id);
        let Some(namespace) = listed.map(|job| job.namespace) else { return Ok(None) };
        self.places.remember(run, &namespace);
        Ok(self.client.job(&id, &namespace).await?.map(|job| (job, namespace)))
    }

    /// Deletes the run's job, wherever it is: Nomad accepts a deletion in the wrong namespace as readily as any.
    /// Returns the namespace, if there was a job.
    async fn delete(&self, run: &Run, stop: Stop) -> Result<Option<String>, Error> {
        let id = run.session.job_id(run.generation);
        if let Some(namespace) = self.places.of(run)
            && self.client.stop(&id, &namespace, stop).await?.is_some()
        {
            return Ok(Some(namespace));
        }
        let Some((_, namespace)) = self.find(run).await? else { return Ok(None) };
        self.client.stop(&id, &namespace, stop).await?;
        Ok(Some(namespace))
    }

    async fn register(&self, start: &Start) -> Result<(), StartError> {
        let run = Run { session: start.session.clone(), generation: start.record.generation };
        let job = self.translate(start)?;
        let namespace = match job["Namespace"].as_str() {
            None | Some("") => self.settings.namespace.clone(),
            Some(namespace) => namespace.to_owned(),
        };
        // Before the answer, because the job may exist without one.
        self.places.remember(&run, &namespace);
        match self.client.register_new(&job, &namespace).await {
            Ok(Registration::Registered { warnings, .. }) => {
                if !warnings.is_empty() {
                    tracing::debug!(session.id = %run.session, %warnings, "Nomad has remarks on a session's job.");
                }
                Ok(())
            }
            Ok(Registration::Exists) => self.compare(start, &run, &namespace).await,
            Err(error) => {
                if matches!(error, Error::Invalid(_)) {
                    self.places.forget(&run);
                }
                Err(start_error(error))
            }
        }
    }

    fn translate(&self, start: &Start) -> Result<serde_json::Value, StartError> {
        let parsed = match start.template.nomad.as_ref().map(template::NomadTemplate::job) {
            Some(template::Job::Ready(parsed)) => parsed,
            Some(template::Job::Pending(detail)) => return Err(StartError::Unavailable(detail)),
            Some(template::Job::Refused(detail)) => return Err(StartError::Refused(detail)),
            None => return Err(StartError::Refused("the template has no [nomad] section".to_owned())),
        };
        let context = JobContext {
            session: &start.session,
            record: &start.record,
            template: &start.template,
            url: &start.url,
            cluster: &self.settings.cluster,
            created_at: start.record.timeline.claimed.unwrap_or(start.record.touched_at),
        };
        translate::job(&parsed, &context).map_err(|error| StartError::Refused(error.to_string()))
    }

    /// A job with our id exists: ours, if an earlier answer was lost, else somebody's whom we must not touch.
    async fn compare(&self, start: &Start, run: &Run, namespace: &str) -> Result<(), StartError> {
        let id = run.session.job_id(run.generation);
        match self.client.job(&id, namespace).await.map_err(start_error)? {
            Some(job) if nonce(&job).as_ref() == Some(&start.record.nonce) => Ok(()),
            Some(_) => Err(StartError::Foreign),
            None => Err(StartError::Unavailable("the job that was in the way is gone".to_owned())),
        }
    }

    /// Kills the tasks of a run that was already asked to stop. Best effort: the stop itself ends them a little later.
    async fn kill(&self, run: &Run, namespace: &str) {
        let id = run.session.job_id(run.generation);
        let allocations = self.client.job_allocations(&id, namespace).await.unwrap_or_default();
        let live = allocations.iter().filter(|allocation| !status::is_over(allocation));
        for result in join_all(live.map(|allocation| self.client.signal(&allocation.id, "SIGKILL"))).await {
            if let Err(why) = result {
                tracing::debug!(session.id = %run.session, %why, "A kill was not delivered; the stop goes on without it.");
            }
        }
    }
}

#[async_trait]
impl Backend for NomadBackend {
    async fn start(&self, start: Start) -> Result<(), StartError> {
        self.register(&start).await
    }

    async fn stop(&self, run: &Run, grace: Grace) -> Result<(), Unavailable> {
        let stop = Stop { purge: false, eval_priority: Some(STOP_PRIORITY), no_shutdown_delay: true };
        let namespace = self.delete(run, stop).await.map_err(unavailable)?;
        if let (Grace::None, Some(namespace)) = (grace, namespace) {
            self.kill(run, &namespace).await;
        }
        Ok(())
    }

    async fn inspect(&self, run: &Run) -> Result<Presence, Unavailable> {
        // The scheduler settles a stop within milliseconds; without waiting for it the answer would be "ask again".
        const PATIENCE: [u64; 6] = [10, 20, 50, 100, 200, 500];
        let mut look = self.look(run).await.map_err(unavailable)?;
        for pause in PATIENCE {
            if !look.is_unsettled() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(pause)).await;
            look = self.look(run).await.map_err(unavailable)?;
        }
        Ok(look.presence())
    }

    async fn purge(&self, run: &Run) -> Result<(), Unavailable> {
        let stop = Stop { purge: true, eval_priority: None, no_shutdown_delay: false };
        self.delete(run, stop).await.map_err(unavailable)?;
        self.places.forget(run);
        Ok(())
    }

    async fn is_over(&self, allocation: &str) -> Result<bool, Unavailable> {
        // One that is not there any more was collected, which Nomad does only with what is over; but so does a token
        // that may not see it look. That is no positive report.
        let allocation = self.client.allocation(allocation).await.map_err(unavailable)?;
        Ok(allocation.is_some_and(|allocation| status::is_over(&allocation)))
    }

    async fn recall(&self, run: &Run) -> Result<Option<Record>, Unavailable> {
        let look = self.look(run).await.map_err(unavailable)?;
        let live =
            look.allocations.iter().any(|allocated| !matches!(allocated.status, super::Status::Over(_)));
        let ours = |job: &Job| job.meta.get(meta::CLUSTER) == Some(&self.settings.cluster);
        let recovered =
            look.job.filter(|job| live && !job.stop && ours(job)).and_then(|job| meta::recover(&job.meta));
        let own = |(session, record): &(SessionId, Record)| {
            (session, record.generation) == (&run.session, run.generation)
        };
        Ok(recovered.filter(own).map(|(_, record)| record))
    }

    async fn logs(
        &self,
        run: &Run,
        allocation: Option<&AllocationId>,
        wanted: Wanted,
    ) -> Result<Option<Reading>, LogError> {
        self.read_log(run, allocation, wanted).await
    }

    async fn observe(&self, reports: mpsc::Sender<Observation>) {
        observe::observe(&self.client, &self.settings, &self.places, reports).await;
    }

    fn access(&self) -> Option<Access> {
        Some(self.client.access())
    }

    async fn health(&self) -> Result<(), Unavailable> {
        self.client.leader().await.map_err(unavailable)?;
        let checks = self.settings.watched.iter().map(|namespace| self.client.check_access(namespace));
        try_join_all(checks).await.map(drop).map_err(unavailable)
    }
}

/// A token may be mended, so that its refusal is no verdict on the job.
fn start_error(error: Error) -> StartError {
    match error {
        Error::Invalid(detail) => {
            StartError::Refused(format!("Nomad refuses the job: {}", remedy::advised(&detail)))
        }
        other => StartError::Unavailable(other.to_string()),
    }
}

fn unavailable(error: Error) -> Unavailable {
    Unavailable(error.to_string())
}

fn nonce(job: &Job) -> Option<Nonce> {
    job.meta.get(meta::NONCE)?.parse().ok()
}
