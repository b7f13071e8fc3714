//! What has to be known of tickets everywhere: the public keys that verify them, and which links were used.
//!
//! What stands here opens nothing. Each replica of the service vouches for the keys of its own secrets; proxies follow the
//! list and go by what they knew while the ledger is away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bivouac_protocol::ticket::{KeyRing, PublicKey};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::document::{Versioned, decode, encode};
use crate::{Error, Index, Ledger, Op, Transaction};

/// The key of the list of public keys, below the ledger's prefix.
pub const KEYS: &str = "tickets/keys";
/// Where used links are noted, each by its own name.
pub const USED: &str = "tickets/used/";
/// A key is vouched for again once the last word for it is as old as this.
const VOUCH_AGAIN: SignedDuration = SignedDuration::from_mins(10);
/// A key for which nobody has vouched for so long is dropped.
const DROPPED_AFTER: SignedDuration = SignedDuration::from_hours(1);
/// A used link is remembered for so long after it expired, for clocks differ.
const USED_FOR: SignedDuration = SignedDuration::from_mins(10);

/// The list of public keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// Raised by every write.
    pub revision: u64,
    /// By their ids.
    pub keys: BTreeMap<String, Vouched>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouched {
    /// The key.
    pub x: PublicKey,
    /// When a replica said last that it signs, or has signed, with it.
    pub vouched_at: Timestamp,
}

/// A link that was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct UsedLink {
    /// When it would have expired.
    expires_at: Timestamp,
}

impl Keys {
    /// What tickets are checked with. (A key's id follows from it: what it is filed under proves nothing.)
    #[must_use]
    pub fn ring(&self) -> KeyRing {
        self.keys.values().map(|vouched| &vouched.x).collect()
    }

    /// The next list, if these keys have to be vouched for now, or nobody has for others.
    fn vouched(&self, own: &[PublicKey], now: Timestamp) -> Option<Self> {
        let mut next = self.clone();
        for key in own {
            let id = key.id();
            let known = self.keys.get(&id).filter(|known| known.x == *key);
            if known.is_none_or(|known| now.duration_since(known.vouched_at).abs() >= VOUCH_AGAIN) {
                next.keys.insert(id, Vouched { x: key.clone(), vouched_at: now });
            }
        }
        next.keys.retain(|_, vouched| now.duration_since(vouched.vouched_at) < DROPPED_AFTER);
        (next.keys != self.keys).then_some(Self { revision: self.revision + 1, ..next })
    }
}

/// The ledger's word on tickets.
#[derive(Clone)]
pub struct Tickets {
    ledger: Arc<dyn Ledger>,
}

impl Tickets {
    /// Those of this ledger.
    #[must_use]
    pub fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger }
    }

    /// The list of keys; `None`: nobody has vouched for any yet.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn keys(&self) -> Result<Option<Versioned<Keys>>, Error> {
        self.ledger.read(KEYS).await?.map(|entry| decode(&entry)).transpose()
    }

    /// Waits for a change of the list since `index`.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn watch_keys(&self, index: Index, wait: Duration) -> Result<Option<Versioned<Keys>>, Error> {
        self.ledger.watch(KEYS, index, wait).await?.map(|entry| decode(&entry)).transpose()
    }

    /// Vouches for one's own keys, if it is time to; those go for which nobody does any more.
    ///
    /// # Errors
    /// When the ledger does not answer. Doing it again is safe.
    pub async fn vouch(&self, own: &[PublicKey], now: Timestamp) -> Result<(), Error> {
        loop {
            let held = self.keys().await?;
            let (known, index) = held.map_or((Keys::default(), 0), |held| (held.value, held.index));
            let Some(next) = known.vouched(own, now) else { return Ok(()) };
            let put = Op::Put { key: KEYS.to_owned(), value: encode(KEYS, &next)?, index };
            if let Transaction::Applied(_) = self.ledger.transact(vec![put]).await? {
                return Ok(());
            }
        }
    }

    /// Notes that a link is used. `false`: it was used before.
    ///
    /// # Errors
    /// When the ledger does not answer; it may have been noted or not.
    pub async fn use_once(&self, jti: &str, expires_at: Timestamp) -> Result<bool, Error> {
        let key = format!("{USED}{jti}");
        let put = Op::Put { value: encode(&key, &UsedLink { expires_at })?, key, index: 0 };
        Ok(matches!(self.ledger.transact(vec![put]).await?, Transaction::Applied(_)))
    }

    /// Forgets used links that have expired: those open nothing any more.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn sweep(&self, now: Timestamp) -> Result<(), Error> {
        for entry in self.ledger.list(USED).await? {
            let over = decode::<UsedLink>(&entry)
                .map_or(true, |used| now.duration_since(used.value.expires_at) > USED_FOR);
            if over {
                let delete = Op::Delete { key: entry.key, index: entry.index };
                self.ledger.transact(vec![delete]).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bivouac_protocol::ticket::SigningKey;

    use super::*;
    use crate::memory::MemoryLedger;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn key(letter: &str) -> PublicKey {
        SigningKey::of_secret(&letter.repeat(40).into()).unwrap().public().clone()
    }

    #[tokio::test]
    async fn keys_are_vouched_for_and_dropped_once_nobody_does() {
        let tickets = Tickets::new(Arc::new(MemoryLedger::new()));
        assert_eq!(tickets.keys().await.unwrap(), None);
        tickets.vouch(&[key("a")], at(0)).await.unwrap();
        tickets.vouch(&[key("b")], at(60)).await.unwrap();
        let both = tickets.keys().await.unwrap().unwrap();
        assert_eq!((both.value.keys.len(), both.value.revision), (2, 2));
        tickets.vouch(&[key("b")], at(120)).await.unwrap();
        assert_eq!(tickets.keys().await.unwrap().unwrap(), both, "it was vouched for a moment ago");
        tickets.vouch(&[key("b")], at(3599)).await.unwrap();
        assert_eq!(tickets.keys().await.unwrap().unwrap().value.keys.len(), 2);
        tickets.vouch(&[key("b")], at(3600)).await.unwrap();
        let left = tickets.keys().await.unwrap().unwrap().value;
        assert_eq!(left.keys.into_keys().collect::<Vec<_>>(), [key("b").id()]);
    }

    #[tokio::test]
    async fn a_link_is_used_once_and_forgotten_when_it_has_expired() {
        let tickets = Tickets::new(Arc::new(MemoryLedger::new()));
        assert!(tickets.use_once("abc", at(100)).await.unwrap());
        assert!(!tickets.use_once("abc", at(100)).await.unwrap());
        assert!(tickets.use_once("abd", at(100)).await.unwrap());
        tickets.sweep(at(700)).await.unwrap();
        assert!(!tickets.use_once("abc", at(100)).await.unwrap());
        tickets.sweep(at(701)).await.unwrap();
        assert!(tickets.use_once("abc", at(100)).await.unwrap());
    }
}
