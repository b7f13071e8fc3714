//! What WebSockets at rest cost in memory.

use serde_json::{Map, Value, json};

use super::table::Table;
use super::{Figures, verdict};

/// What one of ours may cost at rest, without TLS, in KiB.
const MOST_KIB: f64 = 4.0;

/// Memory of each subject at several numbers of WebSockets.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    pub(crate) runs: Vec<Stages>,
}

/// One subject with so many of them, in bytes of its process.
#[derive(Debug)]
pub(crate) struct Stages {
    pub(crate) name: &'static str,
    /// Whether the target is about this one.
    pub(crate) judged: bool,
    pub(crate) sockets: usize,
    pub(crate) before: u64,
    pub(crate) open: u64,
    /// After a long message over each.
    pub(crate) used: u64,
    pub(crate) closed: u64,
}

impl Stages {
    /// What has come on top since before, for each, in KiB.
    fn each(&self, now: u64) -> f64 {
        (now as f64 - self.before as f64) / 1024.0 / self.sockets as f64
    }
}

impl Idle {
    fn is_met(&self) -> bool {
        self.runs.iter().filter(|run| run.judged).all(|run| run.each(run.open) <= MOST_KIB)
    }
}

impl Figures for Idle {
    fn table(&self) -> String {
        let columns = ["at rest", "after 60 KB", "once closed"];
        let mut table =
            Table::new("Memory for each idle WebSocket, above what the process had before", 34, &columns);
        for run in &self.runs {
            let cells = [run.open, run.used, run.closed].map(|now| format!("{:.2} KiB", run.each(now)));
            table.row(&format!("{}, {}", run.name, run.sockets), cells);
        }
        table.row(&format!("target: {}", verdict(self.is_met())), [format!("≤ {MOST_KIB:.0} KiB")]);
        table.finish()
    }

    fn json(&self) -> Value {
        let run = |run: &Stages| {
            let value = json!({
                "sockets": run.sockets,
                "before_bytes": run.before,
                "open_kib_each": run.each(run.open),
                "used_kib_each": run.each(run.used),
                "closed_kib_each": run.each(run.closed),
            });
            (format!("{}, {}", run.name, run.sockets), value)
        };
        let runs = self.runs.iter().map(run).collect::<Map<String, Value>>();
        json!({ "runs": runs, "target_kib": MOST_KIB, "met": self.is_met() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_for_each() {
        let run = |judged, open| Stages {
            name: "bivouac",
            judged,
            sockets: 1_000,
            before: 10 << 20,
            open,
            used: open,
            closed: 10 << 20,
        };
        let idle = |judged, open| Idle { runs: vec![run(judged, open)] };
        assert!(idle(true, 12 << 20).table().contains("target: met"));
        assert_eq!(idle(true, 20 << 20).json()["met"], false);
        assert_eq!(idle(false, 20 << 20).json()["met"], true);
    }
}
