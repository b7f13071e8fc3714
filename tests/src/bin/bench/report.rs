//! The figures: what was measured, what follows from it, and how it compares with what the design asks for.

mod idle;
mod rounds;
mod spread;
mod starts;
mod table;
mod times;

use std::io::Write as _;

use anyhow::Result;
use serde_json::{Map, Value};

pub(crate) use idle::{Idle, Stages};
pub(crate) use rounds::{Measured, Round, Rounds, Targets};
pub(crate) use spread::Spread;
pub(crate) use starts::Starts;
pub(crate) use times::Times;

/// One part's figures.
pub(crate) trait Figures {
    /// For people.
    fn table(&self) -> String;

    /// For programs.
    fn json(&self) -> Value;
}

/// One run.
#[derive(Default)]
pub(crate) struct Report(Vec<(&'static str, Box<dyn Figures>)>);

impl Report {
    /// Adds a part under its name.
    pub(crate) fn add(&mut self, name: &'static str, figures: impl Figures + 'static) {
        self.0.push((name, Box::new(figures)));
    }

    /// Writes it to standard output.
    pub(crate) fn print(&self, as_json: bool) -> Result<()> {
        let text = if as_json {
            let parts: Map<String, Value> =
                self.0.iter().map(|(name, part)| ((*name).to_owned(), part.json())).collect();
            format!("{:#}\n", Value::from(parts))
        } else {
            self.0.iter().map(|(_, part)| format!("\n{}", part.table())).collect()
        };
        Ok(std::io::stdout().write_all(text.as_bytes())?)
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
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
    fn a_median_is_in_the_middle() {
        let of = |figures: &[f64]| median(figures.to_vec()).to_bits();
        assert_eq!(of(&[3.0, 1.0, 2.0]), 2.0_f64.to_bits());
        assert_eq!(of(&[4.0, 1.0]), 2.5_f64.to_bits());
    }
}
