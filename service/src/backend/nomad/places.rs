//! In which Nomad namespace each run's job is: a stop is told the run alone, and Nomad finds no job without its
//! namespace.

use std::collections::{BTreeSet, HashMap};

use parking_lot::RwLock;

use crate::backend::Run;

/// Where jobs are, as far as this process started or saw them.
#[derive(Debug)]
pub(super) struct Places {
    /// Where a job may be of which nothing is known. That it is in none of them is asked of each by the job's id: a list
    /// would leave out, without a word, what the token may not read.
    possible: Vec<String>,
    runs: RwLock<HashMap<Run, String>>,
}

impl Places {
    /// `watched` may have `*` among them, which is none.
    pub(super) fn new(default: String, watched: &[String]) -> Self {
        let named = watched.iter().filter(|namespace| *namespace != "*").cloned();
        Self { possible: [default].into_iter().chain(named).collect(), runs: RwLock::default() }
    }

    pub(super) fn of(&self, run: &Run) -> Option<String> {
        self.runs.read().get(run).cloned()
    }

    /// Where to look for a run: where it was seen, then wherever any other was.
    pub(super) fn candidates(&self, run: &Run) -> Vec<String> {
        let runs = self.runs.read();
        let first = runs.get(run);
        let others: BTreeSet<&String> = runs.values().chain(&self.possible).collect();
        first.into_iter().chain(others.into_iter().filter(|other| Some(*other) != first)).cloned().collect()
    }

    pub(super) fn remember(&self, run: &Run, namespace: &str) {
        if self.of(run).as_deref() != Some(namespace) {
            self.runs.write().insert(run.clone(), namespace.to_owned());
        }
    }

    pub(super) fn forget(&self, run: &Run) {
        self.runs.write().remove(run);
    }
}

#[cfg(test)]
mod tests {
    use bivouac_protocol::{Generation, SessionId};

    use super::*;

    #[test]
    fn a_run_is_looked_for_first_where_it_was_seen() {
        let places = Places::new("default".to_owned(), &["*".to_owned()]);
        let run = |generation| Run {
            session: "aaaaaaaaaaaaaaaaaaaa".parse::<SessionId>().unwrap(),
            generation: Generation(generation),
        };
        assert_eq!(places.candidates(&run(1)), ["default"]);
        places.remember(&run(1), "teams");
        places.remember(&run(2), "another");
        assert_eq!(places.candidates(&run(1)), ["teams", "another", "default"]);
        assert_eq!(places.candidates(&run(3)), ["another", "default", "teams"]);
        places.forget(&run(1));
        assert_eq!(places.of(&run(1)), None);
        let confined = Places::new("a".to_owned(), &["a".to_owned(), "b".to_owned()]);
        assert_eq!(confined.candidates(&run(1)), ["a", "b"]);
    }
}
