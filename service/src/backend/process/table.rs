//! The runs that exist, and whoever wants to hear about them. One lock for both: an observer gets the runs that exist
//! and then every change, with nothing missing in between and nothing out of order.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use bivouac_protocol::Nonce;
use tokio::sync::{mpsc, watch};

use super::book::{Book, Outputs};
use crate::backend::logs::Output;
use crate::backend::{Allocated, Grace, Observation, Presence, Run, Status};

#[derive(Debug, Default)]
pub(super) struct Table {
    runs: HashMap<Run, Held>,
    observers: Vec<mpsc::UnboundedSender<Observation>>,
}

#[derive(Debug)]
struct Held {
    nonce: Nonce,
    allocated: Allocated,
    outputs: Outputs,
    /// How the child's watcher is told to stop it.
    asked: watch::Sender<Option<Grace>>,
}

impl Held {
    fn is_over(&self) -> bool {
        matches!(self.allocated.status, Status::Over(_))
    }

    fn job(&self, run: &Run) -> Observation {
        Observation::Job {
            run: run.clone(),
            nonce: Some(self.nonce.clone()),
            stopped: self.asked.borrow().is_some(),
        }
    }

    fn allocation(&self, run: &Run) -> Observation {
        Observation::Allocation { run: run.clone(), allocated: self.allocated.clone() }
    }

    /// Whether it was news. A stop can be made harder, never softer.
    fn stop(&self, grace: Grace) -> bool {
        !self.is_over()
            && self.asked.send_if_modified(|asked| {
                let harder = asked.is_none() || (*asked == Some(Grace::Template) && grace == Grace::None);
                *asked = if harder { Some(grace) } else { *asked };
                harder
            })
    }
}

impl Table {
    /// Adds a run whose child runs already, and tells of its placement and start. What it returns says when the child
    /// is to be stopped.
    pub(super) fn insert(
        &mut self,
        run: &Run,
        nonce: Nonce,
        placed: Allocated,
        outputs: Outputs,
    ) -> watch::Receiver<Option<Grace>> {
        let (asked, orders) = watch::channel(None);
        let held = Held { nonce, allocated: placed, outputs, asked };
        let placement = [held.job(run), held.allocation(run)];
        self.runs.insert(run.clone(), held);
        placement.into_iter().for_each(|observation| self.tell(&observation));
        self.set_status(run, Status::Running);
        orders
    }

    pub(super) fn set_status(&mut self, run: &Run, status: Status) {
        if let Some(held) = self.runs.get_mut(run) {
            held.allocated.status = status;
            let changed = held.allocation(run);
            self.tell(&changed);
        }
    }

    pub(super) fn stop(&mut self, run: &Run, grace: Grace) {
        let stopped = self.runs.get(run).filter(|held| held.stop(grace)).map(|held| held.job(run));
        if let Some(stopped) = stopped {
            self.tell(&stopped);
        }
    }

    pub(super) fn stop_all(&mut self, grace: Grace) {
        let runs: Vec<Run> = self.runs.keys().cloned().collect();
        runs.iter().for_each(|run| self.stop(run, grace));
    }

    pub(super) fn nonce(&self, run: &Run) -> Option<&Nonce> {
        self.runs.get(run).map(|held| &held.nonce)
    }

    /// What a run prints, as long as its directory is there.
    pub(super) fn output(&self, run: &Run, output: Output) -> Option<Arc<Book>> {
        self.runs.get(run).map(|held| held.outputs.book(output))
    }

    pub(super) fn presence(&self, run: &Run) -> Presence {
        match self.runs.get(run) {
            None => Presence::Absent,
            Some(held) => Presence::Present {
                nonce: Some(held.nonce.clone()),
                stopped: held.is_over() || held.asked.borrow().is_some(),
                allocations: vec![held.allocated.clone()],
                forgotten: false,
            },
        }
    }

    /// Forgets a run that is over; its directory is left to the caller.
    pub(super) fn remove_if_over(&mut self, run: &Run) -> Option<PathBuf> {
        if !self.runs.get(run)?.is_over() {
            return None;
        }
        self.runs.remove(run).map(|held| held.outputs.folder)
    }

    /// Ports of children that may listen, or are about to.
    pub(super) fn ports_in_use(&self) -> HashSet<u16> {
        let live = self.runs.values().filter(|held| !held.is_over());
        live.flat_map(|held| held.allocated.ports.values().map(|address| address.port())).collect()
    }

    /// Tells an observer what exists, and from now on every change.
    pub(super) fn subscribe(&mut self, observer: mpsc::UnboundedSender<Observation>) {
        let existing = self.runs.iter().flat_map(|(run, held)| [held.job(run), held.allocation(run)]);
        for observation in existing.chain([Observation::Synced]) {
            if observer.send(observation).is_err() {
                return;
            }
        }
        self.observers.push(observer);
    }

    fn tell(&mut self, observation: &Observation) {
        self.observers.retain(|observer| observer.send(observation.clone()).is_ok());
    }
}
