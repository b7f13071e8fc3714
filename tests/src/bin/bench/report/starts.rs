//! Start times, and what Bivouac adds to them.

use bivouac_protocol::Timeline;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::table::Table;
use super::times::percentiles;
use super::{Figures, Times, verdict};

/// A spawn's first byte over the cluster's own floor, in milliseconds, at two percentiles.
const ADDED: [(u32, f64); 2] = [(50, 20.0), (99, 60.0)];
const PERCENTILES: [u32; 3] = [50, 90, 99];
/// What a session's own timeline says of its start.
const STAGES: [(&str, Stage); 4] = [
    ("registered", |timeline| timeline.registered),
    ("placed", |timeline| timeline.placed),
    ("port open", |timeline| timeline.port_open),
    ("ready", |timeline| timeline.ready),
];

type Stage = fn(&Timeline) -> Option<Timestamp>;

/// Start times.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    pub(crate) bare: Times,
    pub(crate) session: Times,
    stages: [Times; STAGES.len()],
}

impl Starts {
    /// Adds the stages of one session's start.
    pub(crate) fn add_stages(&mut self, timeline: &Timeline) {
        let Some(claimed) = timeline.claimed else { return };
        for (times, (_, stage)) in self.stages.iter_mut().zip(STAGES) {
            if let Some(reached) = stage(timeline) {
                times.add(reached.duration_since(claimed).unsigned_abs());
            }
        }
    }

    fn added(&self, percent: u32) -> f64 {
        self.session.percentile(percent) - self.bare.percentile(percent)
    }

    fn named_stages(&self) -> impl Iterator<Item = (&'static str, &Times)> {
        STAGES.iter().map(|(name, _)| *name).zip(&self.stages)
    }

    fn is_met(&self) -> bool {
        ADDED.iter().all(|(percent, most)| self.added(*percent) <= *most)
    }
}

impl Figures for Starts {
    fn json(&self) -> Value {
        json!({
            "count": self.session.count(),
            "bare_job_ms": self.bare.json(&PERCENTILES),
            "session_ms": self.session.json(&PERCENTILES),
            "added_ms": percentiles(&PERCENTILES, |percent| self.added(percent)),
            "target_added_ms": { "p50": ADDED[0].1, "p99": ADDED[1].1 },
            "met": self.is_met(),
            "session_stages_ms": self.named_stages()
                .map(|(name, times)| (name.to_owned(), times.json(&PERCENTILES)))
                .collect::<Value>(),
        })
    }

    fn table(&self) -> String {
        let title = format!("Start times, {} of each, one after the other", self.session.count());
        let mut table = Table::new(&title, 38, &["p50", "p90", "p99"]);
        let times = |times: &Times| PERCENTILES.map(|percent| format!("{:.1} ms", times.percentile(percent)));
        table.row("bare Nomad job: register → port open", times(&self.bare));
        table.row("session: spawn → first byte", times(&self.session));
        for (name, stage) in self.named_stages() {
            table.row(&format!("    {name}, since the claim"), times(stage));
        }
        table.row("added by Bivouac", PERCENTILES.map(|percent| format!("{:+.1} ms", self.added(percent))));
        let target = PERCENTILES.map(|percent| {
            let target = ADDED.iter().find(|(known, _)| *known == percent);
            target.map_or_else(String::new, |(_, most)| format!("≤ +{most:.0} ms"))
        });
        table.row(&format!("target: {}", verdict(self.is_met())), target);
        table.finish()
    }
}
