//! Many times of one kind.

use std::time::Duration;

use serde_json::{Value, json};

/// In milliseconds, sorted.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        let millis = time.as_secs_f64() * 1e3;
        let place = self.0.partition_point(|known| *known < millis);
        self.0.insert(place, millis);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest time that so many percent of all do not exceed.
    pub(crate) fn percentile(&self, percent: u32) -> f64 {
        let rank = (self.0.len() * percent as usize).div_ceil(100);
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// Some percentiles.
    pub(super) fn json(&self, percents: &[u32]) -> Value {
        percentiles(percents, |percent| self.percentile(percent))
    }
}

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut millis: Vec<f64> = times.into_iter().map(|time| time.as_secs_f64() * 1e3).collect();
        millis.sort_by(f64::total_cmp);
        Self(millis)
    }
}

/// Figures by percentile.
pub(super) fn percentiles(percents: &[u32], figure: impl Fn(u32) -> f64) -> Value {
    percents.iter().map(|percent| (format!("p{percent}"), json!(figure(*percent)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times: Times = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!([50, 90, 99, 100].map(|p| times.percentile(p).round()), [50.0, 90.0, 99.0, 100.0]);
        let mut one = Times::default();
        one.add(Duration::from_millis(7));
        assert_eq!([50, 99].map(|p| one.percentile(p).round()), [7.0, 7.0]);
    }
}
