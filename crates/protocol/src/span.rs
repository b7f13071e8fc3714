//! Durations as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, SpanRelativeTo};
use serde::{Deserialize, Serialize};

/// A length of time that is not negative, written "90s", "5m", "1h 30m" or "90d". At most 100 years, so that adding one to a
/// time of today never overflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(Duration);

/// Text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a duration such as \"90s\", \"5m\" or \"1h 30m\", between 0 and 100 years")]
pub struct InvalidSpan;

impl Span {
    /// The longest span there is.
    pub const MAX: Span = Span(Duration::from_secs(100 * 365 * 24 * 3600));

    /// A span of whole seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A span of milliseconds.
    #[must_use]
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// The same as the standard library's type.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Duration {
        span.0
    }
}

impl FromStr for Span {
    type Err = InvalidSpan;
    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        if text.len() > 64 {
            return Err(InvalidSpan);
        }
        // Days are what people mean by them: 24 hours.
        let written: jiff::Span = text.parse().map_err(|_| InvalidSpan)?;
        let signed = written.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| InvalidSpan)?;
        let span = Span(Duration::try_from(signed).map_err(|_| InvalidSpan)?);
        if span > Self::MAX { Err(InvalidSpan) } else { Ok(span) }
    }
}

impl TryFrom<String> for Span {
    type Error = InvalidSpan;
    fn try_from(text: String) -> Result<Self, InvalidSpan> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SignedDuration::try_from(self.0) {
            Ok(signed) => write!(f, "{signed:#}"),
            Err(_) => write!(f, "{}s", self.0.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        for (text, seconds) in [("90s", 90), ("5m", 300), ("1h 30m", 5400), ("90d", 7_776_000), ("0s", 0)] {
            assert_eq!(text.parse::<Span>().unwrap(), Span::seconds(seconds), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_duration() {
        for text in ["", "5", "-5m", "soon", "101 years", "1e9h", "999999999999999999999h"] {
            assert!(text.parse::<Span>().is_err(), "{text:?} must be refused");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_can_be_read_again(millis in 0u64..=3_153_600_000_000) {
            let span = Span::millis(millis);
            prop_assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,80}") {
            let _ = text.parse::<Span>();
        }
    }
}
