//! What is seen of a session's runs: jobs, allocations, and their absence. Reports come late, twice, and in any order.

use bivouac_protocol::{Generation, Phase};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{Facts, Job};
use crate::backend::{Allocated, Status};

impl Facts {
    /// A consistent look that was begun in the phase `begun` found no job. Whether that counts: what was registered or
    /// pinned while the look was under way is looked at again if need be.
    pub(crate) fn on_absent(&mut self, begun: Phase) -> bool {
        if begun != self.phase() || (begun == Phase::Claimed && self.job == Job::Registered) {
            return false;
        }
        self.job = Job::Absent;
        true
    }

    /// A job of one of this session's generations exists.
    pub(crate) fn on_job(&mut self, generation: Generation, foreign: bool, stopped: bool) {
        if generation < self.generation() {
            if stopped {
                self.stale.remove(&generation)
            } else {
                self.stale.insert(generation)
            };
        } else if stopped && self.job == Job::Absent {
            // Late news of a job that is known, from a look by id or from its removal, to be gone.
        } else if generation == self.generation() && !foreign {
            if stopped && self.job != Job::Stopped {
                // What a look found before the stop says nothing of what comes after it.
                self.inspected_at = None;
            }
            self.job = if stopped { Job::Stopped } else { Job::Registered };
        }
    }

    /// An allocation of an earlier generation is heard of: one that was given up and comes back. Nomad never collects a
    /// job that was stopped while its allocation was `unknown`: an evaluation waits until `lost_after` would be over.
    pub(crate) fn on_stale_allocation(&mut self, generation: Generation, allocated: &Allocated) {
        if generation >= self.generation() {
            return;
        }
        match allocated.status {
            Status::Unreachable => {}
            Status::Pending | Status::Running => _ = self.stale.insert(generation),
            Status::Over(_) if self.given_up.remove(&generation) => _ = self.remains.insert(generation),
            Status::Over(_) => {}
        }
    }

    /// An allocation of the current generation was seen. The first one counts; any other is not the session.
    pub(crate) fn on_allocation(&mut self, allocated: Allocated, now: Instant, wall: Timestamp) {
        let first =
            self.record.value.allocation.clone().or(self.allocated.as_ref().map(|a| a.allocation.clone()));
        if first.is_some_and(|first| first != allocated.allocation) {
            if !matches!(allocated.status, Status::Over(_)) {
                self.supplanted = true;
                self.supplanted_at = self.supplanted_at.or(Some(now));
            }
            return;
        }
        self.waiting_for = None;
        self.seen.placed = self.seen.placed.or(Some(wall));
        if matches!(allocated.status, Status::Running) {
            self.seen.started = self.seen.started.or(Some(wall));
        }
        self.allocated_at = self.allocated_at.or(Some(now));
        self.supplanted |= allocated.restarted;
        // Reports may come out of order: what is over stays over, and ports once known stay known.
        match &mut self.allocated {
            Some(known) if matches!(known.status, Status::Over(_)) => {}
            Some(known) => {
                known.status = allocated.status;
                // What we do about it looks like another reason for it.
                known.displaced = known.displaced.or(allocated.displaced);
                known.node = allocated.node.or(known.node.take());
                if !allocated.ports.is_empty() {
                    known.ports = allocated.ports;
                }
            }
            none => *none = Some(allocated),
        }
        let unreachable = self.allocated.as_ref().is_some_and(|known| known.status == Status::Unreachable);
        self.unreachable = unreachable.then(|| self.unreachable.unwrap_or((now, wall)));
    }
}
