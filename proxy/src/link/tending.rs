//! One replica's link: dialled, kept, and dialled again when it is lost, less and less often while nobody answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::directory::Replica;
use rand::Rng;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::Parts;
use super::session::{self, LinkError};

/// First pause before a replica is dialled again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A replica that the directory does not name any more is dialled for so long: an expired token's lists are empty, too.
const LINGER: Duration = Duration::from_secs(60);

/// The replicas that the directory names. By address: a replica that was killed and started again is registered twice
/// for a while, and two links to one process would each hold half of what is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Catalogue(BTreeMap<SocketAddr, BTreeSet<String>>);

impl FromIterator<Replica> for Catalogue {
    fn from_iter<I: IntoIterator<Item = Replica>>(replicas: I) -> Self {
        let mut named = BTreeMap::<_, BTreeSet<_>>::new();
        for Replica { id, address } in replicas {
            named.entry(address).or_default().insert(id);
        }
        Self(named)
    }
}

impl Catalogue {
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.keys().copied()
    }

    fn names(&self, address: &SocketAddr) -> bool {
        self.0.contains_key(address)
    }
}

/// Keeps the link to one address, for as long as the directory names it, and a little longer. A change in the
/// directory makes it dial at once: it may be this replica that is back.
pub(super) async fn tend(
    parts: Arc<Parts>,
    address: SocketAddr,
    mut catalogue: watch::Receiver<Catalogue>,
) -> SocketAddr {
    let mut membership = parts.membership.clone();
    let mut pauses = Pauses::default();
    let mut complaint = None;
    let mut named_at = Instant::now();
    loop {
        // A proxy that is no member has nothing to say.
        let joined = membership.wait_for(|membership| membership.boot().is_some()).await;
        let Some(boot) = joined.ok().and_then(|membership| membership.boot().cloned()) else {
            return address;
        };
        catalogue.mark_unchanged();
        let (was_up, error) = session::run(&parts, address, &boot).await;
        parts.table.metrics.links_up(parts.table.outbox.up());
        tell(address, was_up, &error, &mut complaint);
        if was_up {
            pauses = Pauses::default();
            named_at = Instant::now();
        }
        tokio::select! {
            () = sleep(pauses.next()) => {}
            changed = catalogue.changed() => match changed {
                Ok(()) => pauses = Pauses::default(),
                Err(_) => return address,
            }
        }
        if catalogue.borrow().names(&address) {
            named_at = Instant::now();
        } else if named_at.elapsed() >= LINGER {
            return address;
        }
    }
}

/// A complaint is logged once, not as often as the replica is dialled.
fn tell(address: SocketAddr, was_up: bool, error: &LinkError, complaint: &mut Option<String>) {
    let refused = matches!(error, LinkError::Refused(_) | LinkError::Secret | LinkError::Unexpected(_));
    if was_up {
        tracing::info!(%address, %error, "A link was lost.");
    } else if refused && complaint.as_ref() != Some(&error.to_string()) {
        tracing::warn!(%address, %error, "A replica refuses the link.");
    } else {
        tracing::debug!(%address, %error, "A replica cannot be linked.");
    }
    *complaint = refused.then(|| error.to_string());
}

/// The pauses between one failure and the next: twice as long each time, and never the same for two proxies.
#[derive(Debug, Default)]
struct Pauses {
    failures: u32,
}

impl Pauses {
    fn next(&mut self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        pause.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_replica_is_dialled_less_and_less_often() {
        let mut pauses = Pauses::default();
        let told: Vec<_> = (0..40).map(|_| pauses.next()).collect();
        assert!(told[0] <= FIRST_PAUSE && told[0] >= FIRST_PAUSE / 2);
        assert!(told[5..].iter().all(|pause| *pause >= LONGEST_PAUSE / 2 && *pause <= LONGEST_PAUSE));
        assert!(told[5..].windows(2).any(|pair| pair[0] != pair[1]), "not in step with the other proxies");
    }

    #[test]
    fn two_registrations_of_one_address_are_one_replica_and_a_new_one_is_a_change() {
        let replica = |id: &str| Replica { id: id.to_owned(), address: "127.0.0.1:7071".parse().unwrap() };
        let one: Catalogue = [replica("first life")].into_iter().collect();
        let two: Catalogue = [replica("first life"), replica("second life")].into_iter().collect();
        assert_eq!(two.addresses().count(), 1);
        assert_ne!(one, two);
    }
}
