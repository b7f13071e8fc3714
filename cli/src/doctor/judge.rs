//! What is to be said of whatever several parts are asked for. Asks nobody itself.

use jiff::Timestamp;
use serde_json::Value;

use super::agents::Heard;
use super::report::Finding;

/// Clocks this far apart are worth a warning: leases and lifetimes are promises in wall-clock time.
const CLOCKS_APART: f64 = 2.0;
/// From here on tickets are refused that were issued just now.
const CLOCKS_BROKEN: f64 = 30.0;
/// A token that ends sooner is worth a warning.
const SOON_HOURS: i64 = 1;

/// Whether the servers of `tool` ("consul") are led, by the answer to that question. `meanwhile` is what follows if not.
pub(super) fn leader(tool: &str, heard: &Heard, meanwhile: &str) -> Finding {
    let check = format!("{tool}.leader");
    match heard.json() {
        Value::String(leader) if heard.is_ok() && !leader.is_empty() => {
            Finding::ok(check, format!("its servers are led by {leader}"))
        }
        _ => Finding::error(
            check,
            format!("its servers have no leader ({})", heard.said()),
            format!(
                "See `{tool} operator raft list-peers` and the servers' logs: a majority of them has to run. Until then \
                 sessions go on, and {meanwhile}."
            ),
        ),
    }
}

/// What is to be said of a token that ends.
pub(super) fn expiry(check: &str, end: Timestamp, replace: &str) -> Finding {
    let left = end.duration_since(Timestamp::now());
    if left.is_negative() {
        Finding::error(check, format!("the token has expired at {end}"), replace)
    } else if left.as_hours() < SOON_HOURS {
        Finding::warning(
            check,
            format!("the token expires at {end}"),
            format!("Whoever issues it has to renew it before then. {replace}"),
        )
    } else {
        Finding::ok(check, format!("the token is valid until {end}"))
    }
}

/// What is to be said of a clock that is so many seconds ahead of ours.
pub(super) fn clock(name: &str, ahead: f64) -> Finding {
    let check = format!("{name}.clock");
    let apart = ahead.abs();
    let found = format!(
        "its clock is {apart:.0} s {} ours",
        if ahead.is_sign_negative() { "behind" } else { "ahead of" }
    );
    let fix = "Keep every machine's clock with NTP (chrony): leases, lifetimes and tickets are promises in wall-clock time.";
    if apart > CLOCKS_BROKEN {
        Finding::error(check, found, fix)
    } else if apart > CLOCKS_APART {
        Finding::warning(check, found, fix)
    } else {
        Finding::ok(check, "its clock agrees with ours")
    }
}

/// What is to be said of a version.
pub(super) fn version(
    check: &str,
    name: &str,
    version: &str,
    oldest: (u32, u32),
    needed_for: &str,
) -> Finding {
    let mut numbers = version.split(['.', '-', '+']).map(str::parse::<u32>);
    let (major, minor) = oldest;
    match (numbers.next(), numbers.next()) {
        (Some(Ok(a)), Some(Ok(b))) if (a, b) >= oldest => {
            Finding::ok(check, format!("{name} is of version {version}"))
        }
        (Some(Ok(_)), Some(Ok(_))) => Finding::error(
            check,
            format!("{name} is of version {version}"),
            format!("Install {major}.{minor} or later, for {needed_for}."),
        ),
        _ => {
            Finding::skipped(check, format!("{name} does not tell a version that can be read ({version:?})"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::*;

    #[test]
    fn old_versions_are_errors() {
        let level = |told| version("v", "Nomad", told, (1, 8), "x").level;
        assert_eq!(
            (level("1.8.0"), level("1.11.3"), level("2.0.0-beta.1")),
            (Level::Ok, Level::Ok, Level::Ok)
        );
        assert_eq!(
            (level("1.7.9"), level("0.12.1"), level("new")),
            (Level::Error, Level::Error, Level::Skipped)
        );
    }

    #[test]
    fn clocks_may_differ_a_little() {
        let level = |ahead| clock("nomad", ahead).level;
        assert_eq!((level(0.4), level(-1.9)), (Level::Ok, Level::Ok));
        assert_eq!((level(-5.0), level(31.0)), (Level::Warning, Level::Error));
        assert!(clock("nomad", -5.0).found.contains("5 s behind"));
    }
}
