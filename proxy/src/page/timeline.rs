//! How far a start has come, for a person who waits for it. Pure: what is known was put together where time is told.

use std::time::Duration;

use bivouac_protocol::Timeline;
use jiff::Timestamp;

/// How far a start is known to have come. Everything in it is for display: it is told by two machines' wall clocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Its record was claimed this long ago.
    claimed: Option<Duration>,
    /// Its allocation was placed this long ago; `None` inside: it was, nobody has said when.
    placed: Option<Option<Duration>>,
}

impl Progress {
    /// What a record's timeline tells at this time. `placed`: there is a route already, whatever the record says.
    pub(crate) fn of(timeline: &Timeline, placed: bool, now: Timestamp) -> Self {
        // A clock may be behind the other one.
        let age = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
        let since = timeline.placed.map(age);
        Self { claimed: timeline.claimed.map(age), placed: (placed || since.is_some()).then_some(since) }
    }
}

/// How one step fares.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Done,
    Now,
    Ahead,
}

/// The steps as a list in HTML. Nothing in it was written by anybody else.
pub(crate) fn shown(progress: &Progress) -> String {
    let Progress { claimed, placed } = *progress;
    let waited = match (claimed, placed.flatten()) {
        (Some(claimed), Some(placed)) => Some(claimed.saturating_sub(placed)),
        _ => None,
    };
    let steps = match (claimed, placed) {
        (None, None) => [
            (Standing::Now, "Asked for", None),
            (Standing::Ahead, "Placed on a host", None),
            (Standing::Ahead, "Started", None),
        ],
        (_, None) => [
            (Standing::Done, "Asked for", None),
            (Standing::Now, "Looking for a host", claimed),
            (Standing::Ahead, "Started", None),
        ],
        (_, Some(since)) => [
            (Standing::Done, "Asked for", None),
            (Standing::Done, "Placed on a host", waited),
            (Standing::Now, "Starting", since),
        ],
    };
    let mut list = "<ol role=\"status\" aria-live=\"polite\">\n".to_owned();
    for (standing, words, took) in steps.into_iter().chain([(Standing::Ahead, "Ready", None)]) {
        let mark = match standing {
            Standing::Done => " class=\"done\"",
            Standing::Now => " class=\"now\" aria-current=\"step\"",
            Standing::Ahead => "",
        };
        let took = took.map(|took| format!(" <span>{} s</span>", seconds(took))).unwrap_or_default();
        list += &format!("<li{mark}>{words}{took}</li>\n");
    }
    list + "</ol>"
}

/// Tenths while they matter.
fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1}", time.as_secs_f64()),
        seconds => seconds.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn told(claimed: Option<i64>, placed: Option<i64>, routed: bool, now: i64) -> String {
        let timeline = Timeline { claimed: claimed.map(at), placed: placed.map(at), ..Timeline::default() };
        shown(&Progress::of(&timeline, routed, at(now)))
    }

    #[test]
    fn each_step_is_told_with_its_time() {
        let asked = told(None, None, false, 5);
        assert!(asked.contains("<li class=\"now\" aria-current=\"step\">Asked for</li>"), "{asked}");
        let queued = told(Some(0), None, false, 12);
        assert!(queued.contains("Looking for a host <span>12 s</span>"), "{queued}");
        let placed = told(Some(0), Some(2), true, 5);
        assert!(placed.contains("<li class=\"done\">Placed on a host <span>2.0 s</span>"), "{placed}");
        assert!(
            placed.contains("Starting <span>3.0 s</span>") && placed.contains("<li>Ready</li>"),
            "{placed}"
        );
        let routed = told(Some(0), None, true, 5);
        assert!(routed.contains("<li class=\"done\">Placed on a host</li>"), "{routed}");
    }

    proptest! {
        #[test]
        fn one_step_is_under_way_whatever_the_clocks_say(
            claimed in prop::option::of(-1_000_000i64..1_000_000),
            placed in prop::option::of(-1_000_000i64..1_000_000),
            routed: bool,
            now in -1_000_000i64..1_000_000,
        ) {
            let list = told(claimed, placed, routed, now);
            prop_assert_eq!(list.matches("aria-current").count(), 1);
            prop_assert_eq!(list.matches("<li").count(), 4);
        }
    }
}
