//! Whether a session is in use, from what every member proxy says and what was promised. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use bivouac_protocol::{BootId, LeaseName};
use jiff::Timestamp;
use tokio::time::Instant;

/// What one member says of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Nothing: its link is down, or its full state has not been told yet.
    Silent,
    /// It was never used there.
    Unused,
    /// It is, or was, used there.
    Used {
        /// Requests and connections that are open or held.
        open: u32,
        /// Those of them that are carriers on which nothing moves: connections that stay open, whoever is silent.
        carriers: u32,
        /// End of the last of them.
        last_use: Instant,
        /// End of the last that was no carrier, or of the last move of application bytes on one that is.
        last_noise: Instant,
    },
}

/// What follows from all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Some member has it open.
    Busy {
        /// Since when nothing has moved on whatever is open, nor a lease kept the session (which may be until later than
        /// now). `None` unless all of it is carriers, on every member's word.
        silent_since: Option<Instant>,
    },
    /// No member has, but a lease keeps it alive.
    Leased {
        /// The end of the longest one.
        until: Instant,
    },
    /// No member has, and none had since.
    Idle {
        /// The last use, anywhere, or the end of the last lease.
        since: Instant,
    },
    /// A member is silent, and silence stops nothing.
    Unknown {
        /// Who.
        silent: Vec<BootId>,
    },
}

/// The verdict over all members, now. `floor` is the latest of what counts as a use without any proxy: becoming ready, a
/// join, a member's removal; `leased` is the end of the longest lease, past or future. `Busy` wins over `Unknown`: it is
/// certain. And `Unknown` wins over `Leased`: nothing is stopped either way, but silence is worth knowing.
pub fn verdict<'a>(
    words: impl Iterator<Item = (&'a BootId, Word)>,
    floor: Instant,
    leased: Option<Instant>,
    now: Instant,
) -> Verdict {
    let floor = leased.map_or(floor, |end| end.max(floor));
    let (mut since, mut silent_since) = (floor, floor);
    let (mut busy, mut moving, mut silent) = (false, false, Vec::new());
    for (boot, word) in words {
        match word {
            Word::Silent => silent.push(boot.clone()),
            Word::Unused => {}
            Word::Used { open, carriers, last_use, last_noise } => {
                busy |= open > 0;
                moving |= open > carriers;
                since = since.max(last_use);
                silent_since = silent_since.max(last_noise);
            }
        }
    }
    match leased {
        _ if busy => {
            let certain = !moving && silent.is_empty();
            Verdict::Busy { silent_since: certain.then_some(silent_since) }
        }
        _ if !silent.is_empty() => Verdict::Unknown { silent },
        Some(until) if until > now => Verdict::Leased { until },
        _ => Verdict::Idle { since },
    }
}

/// No lease is longer, whatever somebody wrote into a record by hand; so that a clock can be set to its end.
const LONGEST_LEASE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// When the longest of a record's leases ends, or ended, on this process's own clock, by what the wall clock says now. `None`:
/// there is none, or it ended longer ago than this clock can tell.
///
/// A lease is a promise in wall-clock time. Whoever keeps what this said when the lease was first read, and takes the
/// later of both, breaks none because a wall clock was set forward.
pub(crate) fn lease_ends(
    leases: &BTreeMap<LeaseName, Timestamp>,
    now: Instant,
    wall: Timestamp,
) -> Option<Instant> {
    let until = leases.values().max()?;
    let apart = until.duration_since(wall).unsigned_abs().min(LONGEST_LEASE);
    if *until > wall { now.checked_add(apart) } else { now.checked_sub(apart) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn word() -> impl Strategy<Value = (bool, (u32, u32), (u64, u64))> {
        (prop::bool::weighted(0.2), (0u32..3, 0u32..3), (0u64..1_000, 0u64..1_000))
    }

    proptest! {
        #[test]
        fn idle_is_only_said_on_everybodys_word_and_never_too_early(
            words in prop::collection::vec(word(), 0..6), floor in 0u64..1_000, lease in prop::option::of(0u64..2_000),
            now in 1_000u64..1_500
        ) {
            let start = Instant::now();
            let at = |ms: u64| start + Duration::from_millis(ms);
            let boots: Vec<BootId> = words.iter().map(|_| BootId::random()).collect();
            let said: Vec<(&BootId, Word)> = boots.iter().zip(&words).map(|(boot, &(silent, (open, carriers), last))| {
                let (carriers, last_use, last_noise) = (carriers.min(open), at(last.0), at(last.1));
                (boot, if silent { Word::Silent } else { Word::Used { open, carriers, last_use, last_noise } })
            }).collect();
            let verdict = verdict(said.into_iter(), at(floor), lease.map(at), at(now));
            let anybody_open = words.iter().any(|w| !w.0 && w.1.0 > 0);
            let anybody_moves = words.iter().any(|w| !w.0 && w.1.0 > w.1.1);
            let anybody_silent = words.iter().any(|w| w.0);
            match verdict {
                Verdict::Busy { silent_since } => {
                    prop_assert!(anybody_open);
                    prop_assert_eq!(silent_since.is_none(), anybody_moves || anybody_silent);
                    if let Some(since) = silent_since {
                        prop_assert!(since >= at(floor) && lease.is_none_or(|end| since >= at(end)));
                        prop_assert!(words.iter().all(|w| at(w.2.1) <= since));
                    }
                }
                Verdict::Unknown { silent } => {
                    prop_assert!(anybody_silent && !anybody_open);
                    prop_assert_eq!(silent.len(), words.iter().filter(|w| w.0).count());
                }
                Verdict::Leased { until } => {
                    prop_assert!(!anybody_open && !anybody_silent);
                    prop_assert!(lease.map(at) == Some(until) && until > at(now));
                }
                Verdict::Idle { since } => {
                    prop_assert!(!anybody_open && !anybody_silent);
                    prop_assert!(lease.is_none_or(|end| end <= now && at(end) <= since), "no lease, and none since");
                    prop_assert!(since >= at(floor));
                    prop_assert!(words.iter().all(|w| at(w.2.0) <= since));
                }
            }
        }
    }

    #[test]
    fn a_session_that_was_never_used_is_idle_since_the_floor() {
        let (boot, floor) = (BootId::random(), Instant::now());
        let unused = [(&boot, Word::Unused)];
        assert_eq!(verdict(unused.into_iter(), floor, None, floor), Verdict::Idle { since: floor });
        assert_eq!(verdict(std::iter::empty(), floor, None, floor), Verdict::Idle { since: floor });
    }

    #[test]
    fn the_end_of_a_lease_is_told_on_the_clock_that_decides() {
        let (now, wall) = (Instant::now(), Timestamp::from_second(1_000_000).unwrap());
        let mut leases = BTreeMap::new();
        assert_eq!(lease_ends(&leases, now, wall), None);
        let mut lease = |name: &str, second: i64| {
            leases.insert(name.parse().unwrap(), Timestamp::from_second(second).unwrap());
            lease_ends(&leases, now, wall)
        };
        let second = Duration::from_secs(1);
        assert_eq!(lease("past", 999_999), now.checked_sub(second));
        assert_eq!(lease("soon", 1_000_001), Some(now + second), "the longest counts");
        assert!(lease("for-ever", 200_000_000_000).is_some_and(|end| end > now + 1_000 * second));
    }

    #[test]
    fn a_wall_clock_that_is_set_forward_ends_no_lease_that_was_read_before() {
        let (read, wall) = (Instant::now(), Timestamp::from_second(1_000_000).unwrap());
        let minute = Duration::from_secs(60);
        let leases = [("export".parse().unwrap(), wall + minute)].into();
        let known = lease_ends(&leases, read, wall);
        let later = |seconds: u64, step: i64| {
            let passed = Duration::from_secs(seconds);
            let wall = wall + passed + jiff::SignedDuration::from_secs(step);
            known.max(lease_ends(&leases, read + passed, wall))
        };
        assert_eq!(later(10, 0), Some(read + minute));
        assert_eq!(later(10, 3_600), Some(read + minute), "set forward by an hour: the promise is kept");
        assert_eq!(
            later(10, -3_600),
            Some(read + minute + Duration::from_secs(3_600)),
            "set back: it is longer"
        );
    }
}
