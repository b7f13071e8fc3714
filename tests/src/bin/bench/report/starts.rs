//! Start times, and what Bivouac adds to them.

use std::time::Duration;

use bivouac_protocol::Timeline;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::verdict;

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

/// Times of one kind, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        let millis = time.as_secs_f64() * 1e3;
        let place = self.0.partition_point(|known| *known < millis);
        self.0.insert(place, millis);
    }

    /// The smallest time that so many percent of all do not exceed.
    pub(crate) fn percentile(&self, percent: u32) -> f64 {
        let rank = (self.0.len() * percent as usize).div_ceil(100);
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    fn json(&self) -> Value {
        percentiles(|percent| self.percentile(percent))
    }
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

    pub(super) fn json(&self) -> Value {
        json!({
            "count": self.session.0.len(),
            "bare_job_ms": self.bare.json(),
            "session_ms": self.session.json(),
            "added_ms": percentiles(|percent| self.added(percent)),
            "target_added_ms": { "p50": ADDED[0].1, "p99": ADDED[1].1 },
            "met": self.is_met(),
            "session_stages_ms": self.named_stages().map(|(name, times)| (name.to_owned(), times.json())).collect::<Value>(),
        })
    }

    pub(super) fn table(&self) -> String {
        let row = |name: &str, cell: &dyn Fn(u32) -> String| {
            let [p50, p90, p99] = PERCENTILES.map(cell);
            format!("  {name:<38}{p50:>10}{p90:>10}{p99:>10}\n")
        };
        let target = |percent| {
            let target = ADDED.iter().find(|(known, _)| *known == percent);
            target.map_or_else(String::new, |(_, most)| format!("≤ +{most:.0} ms"))
        };
        let mut text = format!("Start times, {} of each, one after the other\n", self.session.0.len());
        text += &row("", &|percent| format!("p{percent}"));
        text +=
            &row("bare Nomad job: register → port open", &|p| format!("{:.1} ms", self.bare.percentile(p)));
        text += &row("session: spawn → first byte", &|p| format!("{:.1} ms", self.session.percentile(p)));
        for (name, times) in self.named_stages() {
            text +=
                &row(&format!("    {name}, since the claim"), &|p| format!("{:.1} ms", times.percentile(p)));
        }
        text += &row("added by Bivouac", &|p| format!("{:+.1} ms", self.added(p)));
        text += &row(&format!("target: {}", verdict(self.is_met())), &target);
        text
    }
}

fn percentiles(figure: impl Fn(u32) -> f64) -> Value {
    PERCENTILES.iter().map(|percent| (format!("p{percent}"), json!(figure(*percent)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let mut times = Times::default();
        for millis in (1..=100).rev() {
            times.add(Duration::from_millis(millis));
        }
        assert_eq!([50, 90, 99].map(|p| times.percentile(p).round()), [50.0, 90.0, 99.0]);
        let mut one = Times::default();
        one.add(Duration::from_millis(7));
        assert_eq!([50, 99].map(|p| one.percentile(p).round()), [7.0, 7.0]);
    }
}
