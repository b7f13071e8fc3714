//! Sessions as batch jobs of a Nomad cluster.
//!
//! `picture` is what the event stream has told, `observe` keeps it current, `status` reads allocations,
//! `places` remembers in which Nomad namespace each run's job is.

mod observe;
mod picture;
mod places;
mod status;

use std::time::Duration;

use async_trait::async_trait;
use bivouac_nomad::{Client, Error, Job, Registration, Stop};
use bivouac_protocol::{Nonce, Record, SessionId};
use futures::future::{join_all, try_join_all};
use tokio::sync::mpsc;

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
    /// Nomad namespace to watch; `*` for all that the token may read.
    pub watched: String,
}

impl Settings {
    /// Watches all namespaces, and starts jobs in `default`.
    #[must_use]
    pub fn new(cluster: impl Into<String>) -> Self {
        Self { cluster: cluster.into(), namespace: "default".to_owned(), watched: "*".to_owned() }
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
        let places = Places::new(settings.namespace.clone());
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
        let listed =
            self.client.jobs(&id, &self.settings.watched).await?.items.into_iter().find(|job| job.id == id);
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

    /// One look at a run that does not wait for anything.
    async fn look(&self, run: &Run) -> Result<Look, Error> {
        let id = run.session.job_id(run.generation);
        let found = self.find(run).await?;
        let namespaces = match &found {
            Some((_, namespace)) => vec![namespace.clone()],
            None => self.places.candidates(run),
        };
        let lists = namespaces.iter().map(|namespace| self.client.job_allocations(&id, namespace));
        let mut listed: Vec<_> = try_join_all(lists).await?.into_iter().flatten().collect();
        listed.sort_by_key(|allocation| allocation.create_index);
        // Only a look by id shows the ports, and only live allocations are asked for theirs.
        let whole = listed.into_iter().map(|allocation| async {
            if status::is_over(&allocation) {
                return Ok(allocation);
            }
            Ok::<_, Error>(self.client.allocation(&allocation.id).await?.unwrap_or(allocation))
        });
        let allocations = try_join_all(whole).await?.iter().filter_map(status::allocated).collect();
        Ok(Look { job: found.map(|(job, _)| job), allocations })
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

/// What one look found.
struct Look {
    job: Option<Job>,
    allocations: Vec<super::Allocated>,
}

impl Look {
    /// The stop was accepted, and the scheduler may still be placing an allocation that the stop will then end.
    fn is_unsettled(&self) -> bool {
        let pending = |job: &Job| job.stop && job.status != "dead";
        self.allocations.is_empty() && self.job.as_ref().is_some_and(pending)
    }

    fn presence(self) -> Presence {
        let live = self.allocations.iter().any(|a| !matches!(a.status, super::Status::Over(_)));
        let unsettled = self.is_unsettled();
        match self.job {
            // Purged while it runs: whoever did that wanted it to end, but it has not ended. (Newer servers forget
            // the allocations together with the job; their clients then end them.)
            None if live => Presence::Present { nonce: None, stopped: true, allocations: self.allocations },
            None => Presence::Absent,
            Some(job) => {
                let never_placed = job.status == "dead" && self.allocations.is_empty();
                let stopped = (job.stop && !unsettled) || never_placed;
                Presence::Present { nonce: nonce(&job), stopped, allocations: self.allocations }
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

    async fn observe(&self, reports: mpsc::Sender<Observation>) {
        observe::observe(&self.client, &self.settings, &self.places, reports).await;
    }

    async fn health(&self) -> Result<(), Unavailable> {
        self.client.leader().await.map_err(unavailable)?;
        self.client.check_access(&self.settings.watched).await.map_err(unavailable)
    }
}

/// A token may be mended, so that its refusal is no verdict on the job.
fn start_error(error: Error) -> StartError {
    match error {
        Error::Invalid(detail) => StartError::Refused(detail),
        other => StartError::Unavailable(other.to_string()),
    }
}

fn unavailable(error: Error) -> Unavailable {
    Unavailable(error.to_string())
}

fn nonce(job: &Job) -> Option<Nonce> {
    job.meta.get(meta::NONCE)?.parse().ok()
}
