//! What the proxies have said about their use of sessions. Lives and dies with their links: a link that is lost takes
//! its evidence along, the next one tells its full state anew.

use std::collections::HashMap;
use std::time::Duration;

use bivouac_protocol::link::Activity;
use bivouac_protocol::{BootId, SessionId};
use tokio::time::Instant;

use super::idle::Word;

/// A link, numbered in the order of their coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LinkId(pub(crate) u64);

/// What one proxy has said on its current link.
#[derive(Debug)]
struct Told {
    link: LinkId,
    /// Its full state has been told: what was not in it was never used there.
    complete: bool,
    uses: HashMap<SessionId, Use>,
}

/// One session on one proxy.
#[derive(Debug, Clone, Copy)]
struct Use {
    seq: u64,
    open: u32,
    carriers: u32,
    last_use: Instant,
    last_noise: Instant,
}

/// All evidence.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    told: HashMap<BootId, Told>,
}

impl Evidence {
    /// A proxy has linked; it has said nothing yet. A newer link of the same boot replaces the older.
    pub(crate) fn linked(&mut self, boot: BootId, link: LinkId) {
        // Two links of one boot may be told in the wrong order.
        if self.told.get(&boot).is_none_or(|told| told.link < link) {
            self.told.insert(boot, Told { link, complete: false, uses: HashMap::new() });
        }
    }

    /// A link is lost: its boot is silent, unless a newer link of it is up.
    pub(crate) fn lost(&mut self, boot: &BootId, link: LinkId) {
        if self.told.get(boot).is_some_and(|told| told.link == link) {
            self.told.remove(boot);
        }
    }

    /// The full state has been told.
    pub(crate) fn complete(&mut self, boot: &BootId, link: LinkId) {
        if let Some(told) = self.told.get_mut(boot).filter(|told| told.link == link) {
            told.complete = true;
        }
    }

    /// One session's activity. An older message never overwrites a newer one.
    pub(crate) fn activity(&mut self, boot: &BootId, link: LinkId, activity: &Activity, now: Instant) {
        let Some(told) = self.told.get_mut(boot).filter(|told| told.link == link) else { return };
        // A use before this process's clock began is as old as the clock can say; idle_timeout is counted from later
        // events in any case.
        let ago = |ms| now.checked_sub(Duration::from_millis(ms)).unwrap_or(now);
        let heard = Use {
            seq: activity.seq,
            open: activity.open,
            carriers: activity.carriers,
            last_use: ago(activity.idle_ms),
            last_noise: ago(activity.quiet_ms.unwrap_or(activity.idle_ms)),
        };
        let known = told.uses.entry(activity.session.clone()).or_insert(heard);
        if known.seq <= activity.seq {
            *known = heard;
        }
    }

    /// What `boot` says of `session`.
    pub(crate) fn word(&self, boot: &BootId, session: &SessionId) -> Word {
        let Some(told) = self.told.get(boot).filter(|told| told.complete) else { return Word::Silent };
        match told.uses.get(session) {
            Some(&Use { open, carriers, last_use, last_noise, .. }) => {
                Word::Used { open, carriers, last_use, last_noise }
            }
            None => Word::Unused,
        }
    }

    /// Forgets a session whose record is gone for good.
    pub(crate) fn forget(&mut self, session: &SessionId) {
        for told in self.told.values_mut() {
            told.uses.remove(session);
        }
    }

    /// Whether `boot` has a link on which its full state was told.
    pub(crate) fn is_heard(&self, boot: &BootId) -> bool {
        self.told.get(boot).is_some_and(|told| told.complete)
    }
}

#[cfg(test)]
mod tests {
    use bivouac_protocol::Generation;

    use super::*;

    fn activity(session: &SessionId, seq: u64, open: u32) -> Activity {
        let (session, generation) = (session.clone(), Some(Generation(1)));
        Activity { seq, session, generation, open, idle_ms: 0, carriers: 0, quiet_ms: None }
    }

    #[test]
    fn a_proxy_is_silent_until_its_full_state_is_told_and_again_when_its_link_is_lost() {
        let (mut evidence, boot, session) = (Evidence::default(), BootId::random(), SessionId::random());
        assert_eq!(evidence.word(&boot, &session), Word::Silent);
        evidence.linked(boot.clone(), LinkId(1));
        assert_eq!(evidence.word(&boot, &session), Word::Silent);
        evidence.complete(&boot, LinkId(1));
        assert_eq!(evidence.word(&boot, &session), Word::Unused);
        evidence.linked(boot.clone(), LinkId(2));
        evidence.complete(&boot, LinkId(2));
        evidence.lost(&boot, LinkId(1));
        assert_eq!(evidence.word(&boot, &session), Word::Unused, "only an older link was lost");
        evidence.lost(&boot, LinkId(2));
        assert_eq!(evidence.word(&boot, &session), Word::Silent);
    }

    #[test]
    fn an_older_message_never_overwrites_a_newer_one() {
        let (mut evidence, boot, session) = (Evidence::default(), BootId::random(), SessionId::random());
        let now = Instant::now();
        evidence.linked(boot.clone(), LinkId(1));
        evidence.complete(&boot, LinkId(1));
        evidence.activity(&boot, LinkId(1), &activity(&session, 2, 0), now);
        evidence.activity(&boot, LinkId(1), &activity(&session, 1, 5), now);
        let word = Word::Used { open: 0, carriers: 0, last_use: now, last_noise: now };
        assert_eq!(evidence.word(&boot, &session), word);
    }

    #[test]
    fn a_use_of_which_nothing_more_is_told_is_noise() {
        let (mut evidence, boot, session) = (Evidence::default(), BootId::random(), SessionId::random());
        let now = Instant::now() + Duration::from_secs(10);
        evidence.linked(boot.clone(), LinkId(1));
        evidence.complete(&boot, LinkId(1));
        let mut told = Activity { idle_ms: 1_000, ..activity(&session, 1, 0) };
        evidence.activity(&boot, LinkId(1), &told, now);
        let ago = |seconds| now - Duration::from_secs(seconds);
        let word = Word::Used { open: 0, carriers: 0, last_use: ago(1), last_noise: ago(1) };
        assert_eq!(evidence.word(&boot, &session), word);
        told = Activity { seq: 2, open: 2, idle_ms: 0, carriers: 2, quiet_ms: Some(5_000), ..told };
        evidence.activity(&boot, LinkId(1), &told, now);
        let word = Word::Used { open: 2, carriers: 2, last_use: now, last_noise: ago(5) };
        assert_eq!(evidence.word(&boot, &session), word);
    }
}
