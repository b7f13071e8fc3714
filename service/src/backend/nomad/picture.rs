//! What Nomad has told of our jobs, and what of it is news. Pure.
//!
//! The lists come from the leader, the events from whichever server feeds our stream: the stream may tell what is older
//! than the lists, and a server that was just started tells its whole log, down to jobs that were purged long ago. So
//! events that a list already covers are no news (the floors), and every object only rises by the index of its last
//! change.

use std::collections::{BTreeSet, HashMap, HashSet};

use bivouac_nomad::{Allocation, Evaluation, Job, Topic};
use bivouac_protocol::{AllocationId, Nonce, SessionId};

use super::status;
use crate::backend::{Allocated, Observation, Run, Status};
use crate::spec::meta;

/// Whose a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// This installation's.
    Us,
    /// Somebody else's.
    Others,
    /// Not known: its Meta would tell.
    Unknown,
}

/// All session jobs that were told.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    cluster: String,
    ours: HashMap<String, Known>,
    others: HashSet<String>,
    /// By kind of object: the index up to which a list has told everything.
    floors: HashMap<Topic, u64>,
}

#[derive(Debug, Clone)]
struct Known {
    run: Run,
    index: u64,
    /// The observation that was made of it last.
    told: Option<(Option<Nonce>, bool)>,
    allocations: HashMap<AllocationId, (u64, Allocated)>,
    blocked: Option<(u64, String)>,
    /// Of its tasks; empty where only lists have told of the job.
    drivers: BTreeSet<String>,
    purged: bool,
}

impl Picture {
    pub(super) fn new(cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            ours: HashMap::new(),
            others: HashSet::new(),
            floors: HashMap::new(),
        }
    }

    pub(super) fn floor(&self, topic: Topic) -> u64 {
        self.floors.get(&topic).copied().unwrap_or_default()
    }

    pub(super) fn raise_floor(&mut self, topic: Topic, index: u64) {
        let floor = self.floors.entry(topic).or_default();
        *floor = index.max(*floor);
    }

    pub(super) fn owner(&self, job: &str) -> Owner {
        if self.ours.contains_key(job) {
            Owner::Us
        } else if self.others.contains(job) || SessionId::from_job_id(job).is_none() {
            Owner::Others
        } else {
            Owner::Unknown
        }
    }

    /// A job as a list, a look or an event shows it. The run, and what is news about it.
    pub(super) fn on_job(&mut self, job: &Job, purged: bool) -> Option<(Run, Option<Observation>)> {
        let (session, generation) = SessionId::from_job_id(&job.id)?;
        if job.meta.get(meta::CLUSTER) != Some(&self.cluster) {
            if purged {
                self.others.remove(&job.id)
            } else {
                self.others.insert(job.id.clone())
            };
            return None;
        }
        let run = Run { session, generation };
        let known = self.ours.entry(job.id.clone()).or_insert_with(|| Known::new(run.clone()));
        let news = known.on_job(job, purged);
        self.drop_if_done(&job.id);
        Some((run, news))
    }

    /// An allocation with its resources. Those of jobs that are not known to be ours are no news.
    pub(super) fn on_allocation(&mut self, allocation: &Allocation) -> Option<Observation> {
        let known = self.ours.get_mut(&allocation.job_id)?;
        let news = known.on_allocation(allocation.modify_index, status::allocated(allocation)?);
        self.drop_if_done(&allocation.job_id);
        news
    }

    /// An evaluation.
    pub(super) fn on_evaluation(&mut self, evaluation: &Evaluation) -> Option<Observation> {
        let known = self.ours.get_mut(&evaluation.job_id)?;
        let shortage = evaluation.shortage(&known.drivers)?;
        known.on_shortage(evaluation.modify_index, shortage)
    }

    /// Forgets purged jobs whose allocations will not be heard of any more: newer servers forget these with the job.
    pub(super) fn forget_purged(&mut self) {
        self.ours.retain(|_, known| !known.purged);
    }

    /// A purged job is heard of until its allocations are over.
    fn drop_if_done(&mut self, job: &str) {
        let over = |(_, allocated): &(u64, Allocated)| matches!(allocated.status, Status::Over(_));
        if self.ours.get(job).is_some_and(|known| known.purged && known.allocations.values().all(over)) {
            self.ours.remove(job);
        }
    }
}

impl Known {
    fn new(run: Run) -> Self {
        Self {
            run,
            index: 0,
            told: None,
            allocations: HashMap::new(),
            blocked: None,
            drivers: BTreeSet::new(),
            purged: false,
        }
    }

    fn on_job(&mut self, job: &Job, purged: bool) -> Option<Observation> {
        self.purged |= purged;
        let tasks = job.task_groups.iter().flat_map(|group| &group.tasks);
        self.drivers.extend(tasks.map(|task| task.driver.clone()));
        if job.modify_index < self.index && !purged {
            return None;
        }
        self.index = job.modify_index;
        let (nonce, stopped) = (super::nonce(job), job.stop || self.purged);
        if self.told.as_ref() == Some(&(nonce.clone(), stopped)) {
            return None;
        }
        self.told = Some((nonce.clone(), stopped));
        Some(Observation::Job { run: self.run.clone(), nonce, stopped })
    }

    fn on_allocation(&mut self, index: u64, allocated: Allocated) -> Option<Observation> {
        let known = self.allocations.get(&allocated.allocation);
        if known.is_some_and(|(told_at, told)| index < *told_at || *told == allocated) {
            return None;
        }
        self.allocations.insert(allocated.allocation.clone(), (index, allocated.clone()));
        Some(Observation::Allocation { run: self.run.clone(), allocated })
    }

    /// Several evaluations tell of the same shortage; and none matters once the job is placed or stopped.
    fn on_shortage(&mut self, index: u64, detail: String) -> Option<Observation> {
        let stopped = self.told.as_ref().is_some_and(|(_, stopped)| *stopped);
        let stale = self.blocked.as_ref().is_some_and(|(told_at, told)| index < *told_at || *told == detail);
        if stopped || stale || !self.allocations.is_empty() {
            return None;
        }
        self.blocked = Some((index, detail.clone()));
        Some(Observation::Blocked { run: self.run.clone(), detail })
    }
}

#[cfg(test)]
mod tests;
