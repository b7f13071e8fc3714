//! A consistent look at one run: its job, its allocations, and what is left when Nomad has forgotten these.

use bivouac_nomad::{Error, Job};
use futures::future::try_join_all;

use super::{NomadBackend, status};
use crate::backend::{Allocated, Presence, Run, Status};

impl NomadBackend {
    /// One look at a run that does not wait for anything.
    pub(super) async fn look(&self, run: &Run) -> Result<Look, Error> {
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
        let allocations: Vec<_> = try_join_all(whole).await?.iter().filter_map(status::allocated).collect();
        let forgotten = match &found {
            Some((job, namespace)) if allocations.is_empty() => self.is_forgotten(job, namespace).await?,
            _ => false,
        };
        Ok(Look { job: found.map(|(job, _)| job), allocations, forgotten })
    }

    /// Whether a job that is stopped had allocations, each of which was reported over by its own client, and which the
    /// servers do not remember any more.
    ///
    /// That they are gone does not say so by itself. Nomad (1.11.3, `allocGCEligible` in `nomad/core_sched.go`) collects
    /// an allocation of a stopped job unless its client status is `running`: that of an unreachable node is `unknown`,
    /// and is collected although its process may live. The job's summary outlives the allocations and tells these apart:
    /// it counts each by the last status, and collecting them does not change it. The job's own status does not tell: it is
    /// `pending` for as long as an evaluation waits, and where the job was stopped while its node was away, one
    /// waits for `lost_after`, a year.
    async fn is_forgotten(&self, job: &Job, namespace: &str) -> Result<bool, Error> {
        if !job.stop {
            return Ok(false);
        }
        let summary = self.client.job_summary(&job.id, namespace).await?;
        Ok(summary.is_some_and(|summary| summary.is_all_over()))
    }
}

/// What one look found.
pub(super) struct Look {
    pub(super) job: Option<Job>,
    pub(super) allocations: Vec<Allocated>,
    /// See [`Presence::Present`].
    forgotten: bool,
}

impl Look {
    /// The stop was accepted, and the scheduler may still be placing an allocation that the stop will then end.
    pub(super) fn is_unsettled(&self) -> bool {
        let pending = |job: &Job| job.stop && job.status != "dead";
        self.allocations.is_empty() && !self.forgotten && self.job.as_ref().is_some_and(pending)
    }

    pub(super) fn presence(self) -> Presence {
        let live = self.allocations.iter().any(|a| !matches!(a.status, Status::Over(_)));
        let unsettled = self.is_unsettled();
        match self.job {
            // Purged while it runs: whoever did that wanted it to end, but it has not ended. (Newer servers forget
            // the allocations together with the job; their clients then end them.)
            None if live => Presence::Present {
                nonce: None,
                stopped: true,
                allocations: self.allocations,
                forgotten: false,
            },
            None => Presence::Absent,
            Some(job) => {
                let never_placed = job.status == "dead" && self.allocations.is_empty();
                let stopped = (job.stop && !unsettled) || never_placed;
                Presence::Present {
                    nonce: super::nonce(&job),
                    stopped,
                    allocations: self.allocations,
                    forgotten: self.forgotten,
                }
            }
        }
    }
}
