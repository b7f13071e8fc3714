//! Processor time and rate of small requests, beside nginx's.

use serde_json::{Value, json};

use super::{median, verdict};
use crate::process::Cpu;

/// The proxy's processor time per request, in nginx's.
const CPU_RATIO: f64 = 1.5;
/// The proxy's requests per second, in nginx's.
const RATE_RATIO: f64 = 0.9;

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

impl Requests {
    fn medians(&self) -> [Medians; 3] {
        [&self.direct, &self.nginx, &self.bivouac].map(|rounds| Medians::of(rounds))
    }

    pub(super) fn json(&self) -> Value {
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

    pub(super) fn table(&self) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

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
