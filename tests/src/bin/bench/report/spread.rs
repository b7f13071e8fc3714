//! How times spread, of several subjects under one load.

use serde_json::{Map, Value, json};

use super::table::Table;
use super::{Figures, Times, verdict};

const PERCENTILES: [u32; 4] = [50, 90, 99, 100];

/// Times of each subject. The first is the yardstick, the last ours.
pub(crate) struct Spread {
    pub(crate) title: String,
    pub(crate) subjects: Vec<(&'static str, Times)>,
    /// What ours may add to the yardstick's: percentile and milliseconds.
    pub(crate) targets: Vec<(u32, f64)>,
}

impl Spread {
    fn added(&self, percent: u32) -> f64 {
        match (self.subjects.first(), self.subjects.last()) {
            (Some((_, first)), Some((_, last))) => last.percentile(percent) - first.percentile(percent),
            _ => 0.0,
        }
    }

    fn is_met(&self) -> Option<bool> {
        let met = self.targets.iter().all(|(percent, most)| self.added(*percent) <= *most);
        (!self.targets.is_empty()).then_some(met)
    }
}

impl Figures for Spread {
    fn table(&self) -> String {
        let named = ["p50", "p90", "p99", "max"];
        let mut table = Table::new(&self.title, 34, &named);
        let cells = |figure: &dyn Fn(u32) -> f64, sign: &str| {
            PERCENTILES.map(|percent| {
                let figure = figure(percent);
                let sign = if figure >= 0.0 { sign } else { "" };
                format!("{sign}{figure:.3} ms")
            })
        };
        for (name, times) in &self.subjects {
            table
                .row(&format!("{name} ({})", times.count()), cells(&|percent| times.percentile(percent), ""));
        }
        if self.subjects.len() > 1 {
            table.row("added by Bivouac", cells(&|percent| self.added(percent), "+"));
        }
        if let Some(met) = self.is_met() {
            let target = PERCENTILES.map(|percent| {
                let target = self.targets.iter().find(|(known, _)| *known == percent);
                target.map_or_else(String::new, |(_, most)| format!("≤ +{most:.1} ms"))
            });
            table.row(&format!("target: {}", verdict(met)), target);
        }
        table.finish()
    }

    fn json(&self) -> Value {
        let subject = |(name, times): &(&str, Times)| {
            let mut value = times.json(&PERCENTILES);
            value["count"] = json!(times.count());
            ((*name).to_owned(), value)
        };
        json!({
            "subjects_ms": self.subjects.iter().map(subject).collect::<Map<String, Value>>(),
            "added_ms": super::times::percentiles(&PERCENTILES, |percent| self.added(percent)),
            "target_added_ms": self.targets,
            "met": self.is_met(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_added_is_the_difference_to_the_first() {
        let of = |millis: [u64; 2]| millis.into_iter().map(Duration::from_millis).collect::<Times>();
        let spread = Spread {
            title: "Latency".to_owned(),
            subjects: vec![("direct", of([1, 2])), ("bivouac", of([2, 5]))],
            targets: vec![(50, 1.5)],
        };
        assert!(spread.table().contains("target: met"), "{}", spread.table());
        assert_eq!(spread.json()["added_ms"]["p100"], 3.0);
        let missed = Spread { targets: vec![(50, 1.5), (99, 2.0)], ..spread };
        assert_eq!(missed.json()["met"], false);
    }
}
