//! In which Nomad namespace each run's job is: a stop is told the run alone, and Nomad finds no job without its
//! namespace.

use std::collections::{BTreeSet, HashMap};

use parking_lot::RwLock;

use crate::backend::Run;

/// Where jobs are, as far as this process started or saw them.
#[derive(Debug)]
pub(super) struct Places {
    known: RwLock<Known>,
}

#[derive(Debug)]
struct Known {
    /// Where a job may be of which nothing else is known. Never shrinks: templates come and go, their jobs stay.
    namespaces: BTreeSet<String>,
    runs: HashMap<Run, String>,
}

impl Places {
    pub(super) fn new(namespace: String) -> Self {
        Self { known: RwLock::new(Known { namespaces: BTreeSet::from([namespace]), runs: HashMap::new() }) }
    }

    pub(super) fn of(&self, run: &Run) -> Option<String> {
        self.known.read().runs.get(run).cloned()
    }

    /// Where to look for a run: first where it was seen.
    pub(super) fn candidates(&self, run: &Run) -> Vec<String> {
        let known = self.known.read();
        let first = known.runs.get(run);
        first
            .into_iter()
            .chain(known.namespaces.iter().filter(|other| Some(*other) != first))
            .cloned()
            .collect()
    }

    pub(super) fn remember(&self, run: &Run, namespace: &str) {
        if self.known.read().runs.get(run).is_some_and(|known| known == namespace) {
            return;
        }
        let mut known = self.known.write();
        known.runs.insert(run.clone(), namespace.to_owned());
        if !known.namespaces.contains(namespace) {
            known.namespaces.insert(namespace.to_owned());
        }
    }

    pub(super) fn forget(&self, run: &Run) {
        self.known.write().runs.remove(run);
    }
}
