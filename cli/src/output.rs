//! What people see: colour only on a terminal (and never with NO_COLOR), aligned tables, nothing fancy in a pipe.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use bivouac_client::State;
use bivouac_protocol::text::printable;
use jiff::Timestamp;
use owo_colors::{OwoColorize, Style};

/// Writes one line to standard output.
pub(crate) fn line(text: impl fmt::Display) -> io::Result<()> {
    writeln!(anstream::stdout().lock(), "{text}")
}

/// Writes one line to standard error; there is nobody to tell if that fails.
pub(crate) fn error(text: impl fmt::Display) {
    writeln!(anstream::stderr().lock(), "{text}").ok();
}

/// The API's JSON, exactly, on a line of its own.
pub(crate) fn json(text: &str) -> io::Result<()> {
    line(text.trim_end())
}

/// How a state is painted.
pub(crate) fn state(state: State) -> Style {
    match state {
        State::Ready => Style::new().green(),
        State::Queued | State::Placed | State::Starting => Style::new().yellow(),
        State::Fencing | State::Stopping => Style::new().magenta(),
        State::Ended | State::Unknown => Style::new().dimmed(),
    }
}

/// Text of a cell, and how it is painted: padding counts characters of the bare text.
pub(crate) struct Cell {
    text: String,
    style: Style,
}

/// A cell in the terminal's own colour.
pub(crate) fn plain(text: impl fmt::Display) -> Cell {
    painted(text, Style::new())
}

/// A cell in a colour.
pub(crate) fn painted(text: impl fmt::Display, style: Style) -> Cell {
    Cell { text: printable(&text.to_string()), style }
}

/// Prints rows below headings, columns aligned, nothing after the last column's text.
pub(crate) fn table(headings: &[&str], rows: &[Vec<Cell>]) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    let head: Vec<Cell> = headings.iter().map(|text| painted(text, Style::new().bold())).collect();
    let all = || std::iter::once(&head).chain(rows);
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| {
            all().filter_map(|row| row.get(column)).map(|c| c.text.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for row in all() {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let padding = if column + 1 == row.len() { 0 } else { width + 2 - cell.text.chars().count() };
            write!(out, "{}{:padding$}", cell.text.style(cell.style), "")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Prints "name  text" lines with the names aligned; a text does nothing to the terminal.
pub(crate) fn fields(pairs: &[(&str, String)]) -> io::Result<()> {
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut out = anstream::stdout().lock();
    for (name, text) in pairs {
        let padding = width - name.chars().count() + 2;
        writeln!(out, "  {}{:padding$}{}", name.dimmed(), "", printable(text))?;
    }
    Ok(())
}

/// A length of time, in the largest unit that says enough.
pub(crate) fn roughly(length: Duration) -> String {
    match length.as_secs() {
        0..60 if length < Duration::from_secs(10) => format!("{:.1} s", length.as_secs_f64()),
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 0..7_200 => format!("{} min", seconds / 60),
        seconds @ 0..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// From one time to a later one; zero if the clocks disagree.
pub(crate) fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    later.duration_since(earlier).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_said_briefly() {
        let said = |seconds| roughly(Duration::from_secs_f64(seconds));
        assert_eq!(said(1.26), "1.3 s");
        assert_eq!(said(42.0), "42 s");
        assert_eq!(said(119.0), "119 s");
        assert_eq!(said(600.0), "10 min");
        assert_eq!(said(7_300.0), "2 h");
        assert_eq!(said(200_000.0), "2 days");
    }
}
