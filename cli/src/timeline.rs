//! A session's timeline for people: milliseconds since the claim, not times of day.

use std::time::Duration;

use bivouac_protocol::Timeline;
use jiff::Timestamp;

use crate::output::between;

/// What was seen, in the order in which it was seen, with the time since the claim.
pub(crate) fn steps(timeline: &Timeline) -> Vec<(&'static str, Duration)> {
    let Some(claimed) = timeline.claimed else { return Vec::new() };
    let seen = |name, at: Option<Timestamp>| Some((name, between(claimed, at?)));
    let mut steps: Vec<_> = [
        seen("claimed", timeline.claimed),
        seen("registered", timeline.registered),
        seen("placed", timeline.placed),
        seen("started", timeline.started),
        seen("port open", timeline.port_open),
        seen("ready", timeline.ready),
        seen("first byte", timeline.first_byte),
        seen("stopping", timeline.stopping),
        seen("ended", timeline.ended),
    ]
    .into_iter()
    .flatten()
    .collect();
    // Several observers' clocks: stable, so that what was seen at once stays in the order of events.
    steps.sort_by_key(|(_, after)| *after);
    steps
}

/// From the claim to ready.
pub(crate) fn start_took(timeline: &Timeline) -> Option<Duration> {
    Some(between(timeline.claimed?, timeline.ready?))
}

/// "+12 ms", and from ten seconds on whole seconds and more.
pub(crate) fn offset(after: Duration) -> String {
    if after < Duration::from_secs(10) {
        format!("+{} ms", after.as_millis())
    } else {
        format!("+{}", crate::output::roughly(after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_relative_to_the_claim_and_in_the_order_seen() {
        let at = |ms: i64| Some(Timestamp::from_millisecond(1_000_000 + ms).unwrap());
        let timeline = Timeline {
            claimed: at(0),
            registered: at(5),
            placed: at(3),
            ready: at(20),
            ..Timeline::default()
        };
        let steps: Vec<_> = steps(&timeline).into_iter().map(|(name, after)| (name, offset(after))).collect();
        let expected =
            [("claimed", "+0 ms"), ("placed", "+3 ms"), ("registered", "+5 ms"), ("ready", "+20 ms")];
        assert_eq!(steps, expected.map(|(name, after)| (name, after.to_owned())));
        assert_eq!(start_took(&timeline), Some(Duration::from_millis(20)));
    }

    #[test]
    fn nothing_is_said_before_the_claim_is_known() {
        assert!(steps(&Timeline::default()).is_empty());
    }
}
