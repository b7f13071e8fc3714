//! Whether a session is in use, from what every member proxy says. Pure.

use bivouac_protocol::BootId;
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
        /// End of the last of them.
        last_use: Instant,
    },
}

/// What follows from all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Some member has it open.
    Busy,
    /// No member has, and none had since.
    Idle {
        /// The last use, anywhere.
        since: Instant,
    },
    /// A member is silent, and silence stops nothing.
    Unknown {
        /// Who.
        silent: Vec<BootId>,
    },
}

/// The verdict over all members. `floor` is the latest of what counts as a use without any proxy: becoming ready, a
/// join, a member's removal. `Busy` wins over `Unknown`: it is certain.
pub fn verdict<'a>(words: impl Iterator<Item = (&'a BootId, Word)>, floor: Instant) -> Verdict {
    let mut since = floor;
    let mut silent = Vec::new();
    for (boot, word) in words {
        match word {
            Word::Silent => silent.push(boot.clone()),
            Word::Unused => {}
            Word::Used { open: 0, last_use } => since = since.max(last_use),
            Word::Used { .. } => return Verdict::Busy,
        }
    }
    if silent.is_empty() { Verdict::Idle { since } } else { Verdict::Unknown { silent } }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn word() -> impl Strategy<Value = (bool, u32, u64)> {
        (prop::bool::weighted(0.2), 0u32..3, 0u64..1_000)
    }

    proptest! {
        #[test]
        fn idle_is_only_said_on_everybodys_word_and_never_too_early(
            words in prop::collection::vec(word(), 0..6), floor in 0u64..1_000
        ) {
            let start = Instant::now();
            let at = |ms: u64| start + Duration::from_millis(ms);
            let boots: Vec<BootId> = words.iter().map(|_| BootId::random()).collect();
            let said: Vec<(&BootId, Word)> = boots.iter().zip(&words).map(|(boot, &(silent, open, last))| {
                (boot, if silent { Word::Silent } else { Word::Used { open, last_use: at(last) } })
            }).collect();
            let verdict = verdict(said.into_iter(), at(floor));
            let anybody_open = words.iter().any(|w| !w.0 && w.1 > 0);
            let anybody_silent = words.iter().any(|w| w.0);
            match verdict {
                Verdict::Busy => prop_assert!(anybody_open),
                Verdict::Unknown { silent } => {
                    prop_assert!(anybody_silent && !anybody_open);
                    prop_assert_eq!(silent.len(), words.iter().filter(|w| w.0).count());
                }
                Verdict::Idle { since } => {
                    prop_assert!(!anybody_open && !anybody_silent);
                    prop_assert!(since >= at(floor));
                    prop_assert!(words.iter().all(|w| at(w.2) <= since));
                }
            }
        }
    }

    #[test]
    fn a_session_that_was_never_used_is_idle_since_the_floor() {
        let (boot, floor) = (BootId::random(), Instant::now());
        assert_eq!(verdict([(&boot, Word::Unused)].into_iter(), floor), Verdict::Idle { since: floor });
        assert_eq!(verdict(std::iter::empty(), floor), Verdict::Idle { since: floor });
    }
}
