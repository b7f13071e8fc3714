//! What the doctor found: one line each, with what to do about it.

use std::io::{self, Write};

use owo_colors::{OwoColorize, Style};
use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// It was not looked at.
    Skipped,
    /// All is well.
    Ok,
    /// It works, and should be looked at.
    Warning,
    /// It does not work, or will not when it matters.
    Error,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// A stable name: "consul.write".
    pub(crate) check: String,
    /// How bad it is.
    pub(crate) level: Level,
    /// What was found.
    pub(crate) found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fix: Option<String>,
}

impl Finding {
    fn new(check: impl Into<String>, level: Level, found: impl Into<String>) -> Self {
        Self { check: check.into(), level, found: found.into(), fix: None }
    }

    pub(crate) fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(check, Level::Ok, found)
    }

    pub(crate) fn skipped(check: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(check, Level::Skipped, why)
    }

    pub(crate) fn warning(
        check: impl Into<String>,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { fix: Some(fix.into()), ..Self::new(check, Level::Warning, found) }
    }

    pub(crate) fn error(check: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..Self::new(check, Level::Error, found) }
    }
}

/// All findings, in the order in which they were made.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    findings: Vec<Finding>,
}

impl Report {
    pub(crate) fn add(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings);
    }

    /// How many are of this level.
    pub(crate) fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }

    /// For programs: the findings, and how many of each level.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "findings": self.findings,
            "errors": self.count(Level::Error),
            "warnings": self.count(Level::Warning),
        })
    }

    /// For people.
    pub(crate) fn print(&self) -> io::Result<()> {
        let mut out = anstream::stdout().lock();
        let width = self.findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
        for finding in &self.findings {
            let (word, style) = painted(finding.level);
            writeln!(out, "{:<8}{:width$}  {}", word.style(style), finding.check, finding.found)?;
            if let Some(fix) = &finding.fix {
                writeln!(out, "{:8}{:width$}  {} {fix}", "", "", "→".dimmed())?;
            }
        }
        let (errors, warnings) = (self.count(Level::Error), self.count(Level::Warning));
        writeln!(out, "\n{}, {}", counted(errors, "error"), counted(warnings, "warning"))
    }
}

fn painted(level: Level) -> (&'static str, Style) {
    match level {
        Level::Skipped => ("skipped", Style::new().dimmed()),
        Level::Ok => ("ok", Style::new().green()),
        Level::Warning => ("warning", Style::new().yellow().bold()),
        Level::Error => ("error", Style::new().red().bold()),
    }
}

fn counted(number: usize, what: &str) -> String {
    match number {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_how_many_of_each() {
        let mut report = Report::default();
        report.add([Finding::ok("a", "well"), Finding::warning("b", "late", "look")]);
        report.add([Finding::error("c", "gone", "bring it back"), Finding::skipped("d", "not asked for")]);
        let json = report.json();
        assert_eq!((&json["errors"], &json["warnings"]), (&1.into(), &1.into()));
        assert_eq!(json["findings"][2]["level"], "error");
        assert_eq!(json["findings"][0].get("fix"), None);
        assert_eq!(counted(2, "error"), "2 errors");
    }
}
