//! The figures: what was measured, what follows from it, and how it compares with what the design asks for.

mod requests;
mod starts;

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Result;
use serde_json::json;

pub(crate) use requests::{Requests, Round};
pub(crate) use starts::Starts;

/// One run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) starts: Option<Starts>,
    pub(crate) cpu: Option<Requests>,
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
