//! The figures: what was measured, what follows from it, and how it compares with what the design asks for.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::process::Cpu;

/// A spawn's first byte over the cluster's own floor, in milliseconds, at two percentiles.
const ADDED: [(u32, f64); 2] = [(50, 20.0), (99, 60.0)];
/// The proxy's processor time per request, in nginx's.
const CPU_RATIO: f64 = 1.5;
/// The proxy's requests per second, in nginx's.
const RATE_RATIO: f64 = 0.9;

const PERCENTILES: [u32; 3] = [50, 90, 99];

/// One run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) starts: Option<Starts>,
    pub(crate) cpu: Option<Requests>,
}

/// Start times.
#[derive(Debug)]
pub(crate) struct Starts {
    pub(crate) bare: Times,
    pub(crate) session: Times,
}

/// Times of one kind, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<f64>);

/// Rounds of requests, by target.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    pub(crate) connections: usize,
    pub(crate) seconds: u64,
    pub(crate) direct: Vec<Round>,
    pub(crate) nginx: Vec<Round>,
    pub(crate) bivouac: Vec<Round>,
}

/// One target in one round.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    /// What its process used meanwhile.
    pub(crate) cpu: Cpu,
}

/// The medians of one target's rounds.
struct Medians {
    user: f64,
    system: f64,
    micros: f64,
    rate: f64,
}

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

impl Round {
    /// Processor time per request, in microseconds.
    pub(crate) fn micros(&self) -> f64 {
        self.user() + self.system()
    }

    fn user(&self) -> f64 {
        self.cpu.user * 1e6 / self.requests as f64
    }

    fn system(&self) -> f64 {
        self.cpu.system * 1e6 / self.requests as f64
    }

    fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }
}

impl Medians {
    fn of(rounds: &[Round]) -> Self {
        let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
        Self {
            user: of(Round::user),
            system: of(Round::system),
            micros: of(Round::micros),
            rate: of(Round::rate),
        }
    }

    fn json(&self) -> Value {
        json!({
            "cpu_us_per_request": self.micros,
            "user_us_per_request": self.user,
            "system_us_per_request": self.system,
            "requests_per_second": self.rate,
        })
    }
}

impl Starts {
    fn added(&self, percent: u32) -> f64 {
        self.session.percentile(percent) - self.bare.percentile(percent)
    }

    fn is_met(&self) -> bool {
        ADDED.iter().all(|(percent, most)| self.added(*percent) <= *most)
    }

    fn json(&self) -> Value {
        json!({
            "count": self.session.0.len(),
            "bare_job_ms": self.bare.json(),
            "session_ms": self.session.json(),
            "added_ms": percentiles(|percent| self.added(percent)),
            "target_added_ms": { "p50": ADDED[0].1, "p99": ADDED[1].1 },
            "met": self.is_met(),
        })
    }

    fn table(&self) -> String {
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
        text += &row("added by Bivouac", &|p| format!("{:+.1} ms", self.added(p)));
        text += &row(&format!("target: {}", verdict(self.is_met())), &target);
        text
    }
}

impl Requests {
    fn medians(&self) -> [Medians; 3] {
        [&self.direct, &self.nginx, &self.bivouac].map(|rounds| Medians::of(rounds))
    }

    fn json(&self) -> Value {
        let [direct, nginx, bivouac] = self.medians();
        let (cpu, rate) = (bivouac.micros / nginx.micros, bivouac.rate / nginx.rate);
        json!({
            "connections": self.connections,
            "rounds": self.bivouac.len(),
            "seconds": self.seconds,
            "direct": { "requests_per_second": direct.rate },
            "nginx": nginx.json(),
            "bivouac": bivouac.json(),
            "cpu_ratio": cpu,
            "target_cpu_ratio": CPU_RATIO,
            "rate_ratio": rate,
            "target_rate_ratio": RATE_RATIO,
            "met": cpu <= CPU_RATIO && rate >= RATE_RATIO,
        })
    }

    fn table(&self) -> String {
        let [direct, nginx, bivouac] = self.medians();
        let (cpu, rate) = (bivouac.micros / nginx.micros, bivouac.rate / nginx.rate);
        let row = |name: &str, cells: [String; 4]| {
            let [total, user, system, rate] = cells;
            format!("  {name:<22}{total:>14}{user:>10}{system:>10}{rate:>12}\n")
        };
        let figures = |figures: &Medians| {
            let micros =
                [figures.micros, figures.user, figures.system].map(|figure| format!("{figure:.1} µs"));
            let [total, user, system] = micros;
            [total, user, system, format!("{:.0}", figures.rate)]
        };
        let empty = String::new;
        let mut text = format!(
            "Small requests over {} kept connections, medians of {} rounds of {} s\n",
            self.connections,
            self.bivouac.len(),
            self.seconds
        );
        text += &row("", ["CPU / request", "user", "system", "requests/s"].map(str::to_owned));
        text += &row("the backend itself", [empty(), empty(), empty(), format!("{:.0}", direct.rate)]);
        text += &row("nginx", figures(&nginx));
        text += &row("bivouac proxy", figures(&bivouac));
        text += &row("ratio", [format!("{cpu:.2} ×"), empty(), empty(), format!("{rate:.2} ×")]);
        let met = verdict(cpu <= CPU_RATIO && rate >= RATE_RATIO);
        let targets = [format!("≤ {CPU_RATIO:.2} ×"), empty(), empty(), format!("≥ {RATE_RATIO:.2} ×")];
        text += &row(&format!("target: {met}"), targets);
        text
    }
}

impl Report {
    /// Writes it to standard output.
    pub(crate) fn print(&self, as_json: bool) -> Result<()> {
        let mut text = String::new();
        if as_json {
            let starts = self.starts.as_ref().map(Starts::json);
            let requests = self.cpu.as_ref().map(Requests::json);
            writeln!(text, "{:#}", json!({ "starts": starts, "requests": requests }))?;
        } else {
            let starts = self.starts.as_ref().map(Starts::table);
            let requests = self.cpu.as_ref().map(Requests::table);
            let tables = starts.into_iter().chain(requests).collect::<Vec<_>>();
            write!(text, "\n{}", tables.join("\n"))?;
        }
        Ok(std::io::stdout().write_all(text.as_bytes())?)
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

fn percentiles(figure: impl Fn(u32) -> f64) -> Value {
    PERCENTILES.iter().map(|percent| (format!("p{percent}"), json!(figure(*percent)))).collect()
}

/// The middle one, or the mean of the two in the middle.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.get(middle) {
        None => 0.0,
        Some(upper) if figures.len() % 2 == 1 => *upper,
        Some(upper) => f64::midpoint(figures[middle - 1], *upper),
    }
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

    #[test]
    fn a_median_is_in_the_middle() {
        let of = |figures: &[f64]| median(figures.to_vec()).to_bits();
        assert_eq!(of(&[3.0, 1.0, 2.0]), 2.0_f64.to_bits());
        assert_eq!(of(&[4.0, 1.0]), 2.5_f64.to_bits());
    }

    #[test]
    fn tables_say_whether_a_target_is_met() {
        let round = |user, requests| Round { requests, seconds: 1.0, cpu: Cpu { user, system: 0.5 } };
        let requests = |ours| Requests {
            connections: 64,
            seconds: 1,
            direct: vec![round(0.0, 90_000)],
            nginx: vec![round(0.5, 50_000)],
            bivouac: vec![ours],
        };
        assert!(requests(round(0.6, 50_000)).table().contains("target: met"));
        assert!(requests(round(1.6, 50_000)).table().contains("target: missed"));
        assert_eq!(requests(round(0.6, 20_000)).json()["met"], false);
    }
}
