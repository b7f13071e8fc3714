//! Processor time and rate of a load, beside those of the yardsticks.

use serde_json::{Map, Value, json};

use super::table::Table;
use super::{Figures, median, verdict};
use crate::process::Cpu;

/// Rounds of one load. The last subject is ours, unmeasured ones have no processor time.
#[derive(Debug)]
pub(crate) struct Rounds {
    /// What was asked for.
    pub(crate) title: String,
    /// What is counted.
    pub(crate) unit: &'static str,
    pub(crate) seconds: u64,
    pub(crate) subjects: Vec<Measured>,
    pub(crate) targets: Targets,
}

/// One that was asked, in all rounds.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) rounds: Vec<Round>,
}

/// What the design asks for, in the first yardstick's figures.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Targets {
    /// Processor time, at most.
    pub(crate) cpu: Option<f64>,
    /// Rate, at least.
    pub(crate) rate: Option<f64>,
}

/// One subject in one round.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) count: u64,
    pub(crate) seconds: f64,
    /// What its process used meanwhile, if it was looked at.
    pub(crate) cpu: Option<Cpu>,
}

/// The medians of one subject's rounds. Times in microseconds of a processor for one.
#[derive(Debug, Clone, Copy)]
struct Medians {
    name: &'static str,
    cpu: Option<[f64; 2]>,
    rate: f64,
}

impl Round {
    /// Processor time for one, in microseconds: user and system.
    fn micros(&self) -> Option<[f64; 2]> {
        self.cpu.map(|cpu| [cpu.user, cpu.system].map(|seconds| seconds * 1e6 / self.count as f64))
    }

    /// The same as one figure, for whoever looks on.
    pub(crate) fn told(&self) -> String {
        match self.micros() {
            Some([user, system]) => format!("{:.1} µs", user + system),
            None => format!("{:.0}/s", self.rate()),
        }
    }

    fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }
}

impl Medians {
    fn of(subject: &Measured) -> Self {
        let cpu = |part: usize| -> Option<f64> {
            let figures: Option<Vec<f64>> =
                subject.rounds.iter().map(|round| Some(round.micros()?[part])).collect();
            figures.map(median)
        };
        Self {
            name: subject.name,
            cpu: cpu(0).zip(cpu(1)).map(|(user, system)| [user, system]),
            rate: median(subject.rounds.iter().map(Round::rate).collect()),
        }
    }

    fn micros(&self) -> Option<f64> {
        self.cpu.map(|[user, system]| user + system)
    }
}

impl Rounds {
    /// Ours, and the yardsticks that are compared with it.
    fn medians(&self) -> (Vec<Medians>, Option<Medians>) {
        let mut all: Vec<Medians> = self.subjects.iter().map(Medians::of).collect();
        let ours = all.pop();
        (all, ours)
    }

    /// In each yardstick's figures: processor time and rate.
    fn ratios(&self) -> Vec<(&'static str, f64, f64)> {
        let (others, ours) = self.medians();
        let ratio = |other: &Medians| {
            let ours = ours.as_ref()?;
            Some((other.name, ours.micros()? / other.micros()?, ours.rate / other.rate))
        };
        others.iter().filter_map(ratio).collect()
    }

    fn is_met(&self) -> Option<bool> {
        let Targets { cpu: most, rate: least } = self.targets;
        if most.is_none() && least.is_none() {
            return None;
        }
        let (_, cpu, rate) = self.ratios().into_iter().next()?;
        Some(most.is_none_or(|most| cpu <= most) && least.is_none_or(|least| rate >= least))
    }
}

impl Figures for Rounds {
    fn json(&self) -> Value {
        let (others, ours) = self.medians();
        let figures = |figures: &Medians| {
            let value = json!({
                "cpu_us": figures.micros(),
                "user_us": figures.cpu.map(|[user, _]| user),
                "system_us": figures.cpu.map(|[_, system]| system),
                "per_second": figures.rate,
            });
            (figures.name.to_owned(), value)
        };
        let subjects: Map<String, Value> = others.iter().chain(&ours).map(figures).collect();
        let ratios = self
            .ratios()
            .into_iter()
            .map(|(name, cpu, rate)| (name.to_owned(), json!({ "cpu": cpu, "rate": rate })));
        json!({
            "unit": self.unit,
            "seconds": self.seconds,
            "rounds": self.subjects.first().map_or(0, |subject| subject.rounds.len()),
            "subjects": subjects,
            "ratios": ratios.collect::<Map<String, Value>>(),
            "target": { "cpu": self.targets.cpu, "rate": self.targets.rate },
            "met": self.is_met(),
        })
    }

    fn table(&self) -> String {
        let (others, ours) = self.medians();
        let rounds = self.subjects.first().map_or(0, |subject| subject.rounds.len());
        let title = format!("{}, medians of {rounds} rounds of {} s", self.title, self.seconds);
        let cpu = format!("CPU / {}", self.unit);
        let rate = format!("{}/s", self.unit);
        let mut table = Table::new(&title, 26, &[&cpu, "user", "system", &rate]);
        for figures in others.iter().chain(&ours) {
            let micros =
                |figure: Option<f64>| figure.map_or_else(String::new, |figure| format!("{figure:.1} µs"));
            let [user, system] = figures.cpu.map_or([None; 2], |both| both.map(Some));
            table.row(
                figures.name,
                [micros(figures.micros()), micros(user), micros(system), format!("{:.0}", figures.rate)],
            );
        }
        for (name, cpu, rate) in self.ratios() {
            let cells = [format!("{cpu:.2} ×"), String::new(), String::new(), format!("{rate:.2} ×")];
            table.row(&format!("ratio to {name}"), cells);
        }
        if let Some(met) = self.is_met() {
            let cell = |bound: Option<f64>, sign: &str| {
                bound.map_or_else(String::new, |bound| format!("{sign} {bound:.2} ×"))
            };
            let (cpu, rate) = (cell(self.targets.cpu, "≤"), cell(self.targets.rate, "≥"));
            table.row(&format!("target: {}", verdict(met)), [cpu, String::new(), String::new(), rate]);
        }
        table.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_say_whether_a_target_is_met() {
        let round = |user, count| Round { count, seconds: 1.0, cpu: Some(Cpu { user, system: 0.5 }) };
        let subject = |name, round| Measured { name, rounds: vec![round] };
        let rounds = |ours| Rounds {
            title: "Small requests".to_owned(),
            unit: "request",
            seconds: 1,
            subjects: vec![
                subject("the backend itself", Round { count: 90_000, seconds: 1.0, cpu: None }),
                subject("nginx", round(0.5, 50_000)),
                subject("bivouac", ours),
            ],
            targets: Targets { cpu: Some(1.25), rate: Some(0.9) },
        };
        let met = rounds(round(0.6, 50_000)).table();
        assert!(
            met.contains("target: met") && met.contains("ratio to nginx") && !met.contains("to the backend"),
            "{met}"
        );
        assert!(rounds(round(1.6, 50_000)).table().contains("target: missed"));
        assert_eq!(rounds(round(0.6, 20_000)).json()["met"], false);
        let without = Rounds { targets: Targets::default(), ..rounds(round(1.6, 50_000)) };
        assert!(without.json()["met"].is_null() && !without.table().contains("target"));
    }
}
