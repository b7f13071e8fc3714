//! The ledger of the embedded mode: one process's memory, with the semantics that [`crate::conformance`] writes down.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bivouac_protocol::Nonce;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::{Entry, Error, Index, Ledger, LockSession, Op, Transaction};

/// A ledger that lives and dies with this process.
#[derive(Debug)]
pub struct MemoryLedger {
    state: Mutex<State>,
    /// The newest index: whoever watches looks again when it rises.
    changed: watch::Sender<Index>,
}

/// What a [`MemoryLedger`] held at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot(BTreeMap<String, Stored>);

#[derive(Debug, Default)]
struct State {
    index: Index,
    keys: BTreeMap<String, Stored>,
    sessions: HashMap<LockSession, Live>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stored {
    value: Vec<u8>,
    index: Index,
    holder: Option<LockSession>,
}

#[derive(Debug, Clone, Copy)]
struct Live {
    ttl: Duration,
    ends: Instant,
}

/// What a transaction has come to so far: each operation sees those before it, the ledger none of them.
struct Draft<'a> {
    state: &'a State,
    /// The index of whatever it changes.
    index: Index,
    touched: BTreeMap<String, Option<Stored>>,
}

impl Default for MemoryLedger {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl MemoryLedger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All keys as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.with(|state| state.keys.clone()))
    }

    /// Brings back all keys as they were, with the indices that they had, as `consul snapshot restore` does. Whatever is
    /// written from then on has higher indices than anything before.
    pub fn restore(&self, snapshot: Snapshot) {
        self.with(|state| {
            state.index += 1;
            state.keys = snapshot.0;
        });
    }

    /// Every look at the state goes through here, so that a session is over when its time is, although nothing runs
    /// in the background.
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        state.end_expired(Instant::now());
        let result = act(&mut state);
        let index = state.index;
        drop(state);
        self.changed.send_if_modified(|newest| std::mem::replace(newest, index) != index);
        result
    }
}

impl State {
    fn entry(&self, key: &str) -> Option<Entry> {
        let Stored { value, index, holder } = self.keys.get(key)?.clone();
        Some(Entry { key: key.to_owned(), value, index, holder })
    }

    fn end_expired(&mut self, now: Instant) {
        let expired = self.sessions.iter().filter(|(_, live)| live.ends <= now);
        let expired: Vec<_> = expired.map(|(session, _)| session.clone()).collect();
        for session in expired {
            self.end(&session);
        }
    }

    /// Ends a session; its locks are free at once, and their keys stay.
    fn end(&mut self, session: &LockSession) {
        if self.sessions.remove(session).is_none() {
            return;
        }
        let held = self.keys.values_mut().filter(|stored| stored.holder.as_ref() == Some(session));
        let index = self.index + 1;
        for stored in held {
            stored.holder = None;
            stored.index = index;
            self.index = index;
        }
    }

    /// When a session will end if nobody renews it.
    fn next_end(&self) -> Option<Instant> {
        self.sessions.values().map(|live| live.ends).min()
    }

    fn transact(&mut self, ops: Vec<Op>) -> Transaction {
        let mut draft = Draft { state: self, index: self.index + 1, touched: BTreeMap::new() };
        let mut written = 0;
        for (number, op) in ops.into_iter().enumerate() {
            match draft.apply(op) {
                Some(index) => written = written.max(index),
                None => return Transaction::Refused(number),
            }
        }
        let Draft { index, touched, .. } = draft;
        for (key, after) in touched {
            let unchanged = match after {
                Some(after) => {
                    let unchanged = after.index != index;
                    self.keys.insert(key, after);
                    unchanged
                }
                None => self.keys.remove(&key).is_none(),
            };
            self.index = if unchanged { self.index } else { index };
        }
        Transaction::Applied(written)
    }
}

impl Draft<'_> {
    fn get(&self, key: &str) -> Option<&Stored> {
        match self.touched.get(key) {
            Some(touched) => touched.as_ref(),
            None => self.state.keys.get(key),
        }
    }

    fn index_of(&self, key: &str) -> Index {
        self.get(key).map_or(0, |stored| stored.index)
    }

    /// `None`: it does not hold. Otherwise the index of what it wrote, 0 where it wrote nothing.
    fn apply(&mut self, op: Op) -> Option<Index> {
        match op {
            Op::Check { key, index } => (self.index_of(&key) == index).then_some(0),
            Op::CheckHolder { key, session } => {
                (self.get(&key)?.holder.as_ref() == Some(&session)).then_some(0)
            }
            Op::Put { key, value, index } => {
                let holder = self.get(&key).and_then(|stored| stored.holder.clone());
                (self.index_of(&key) == index).then(|| self.write(key, value, holder))
            }
            Op::Delete { key, index } => {
                let is = self.index_of(&key);
                if is != 0 && is == index {
                    self.touched.insert(key, None);
                }
                // A key that is gone already is as it should be, as in Consul.
                (is == 0 || is == index).then_some(0)
            }
            Op::Lock { key, value, session } => {
                let holder = self.get(&key).and_then(|stored| stored.holder.as_ref());
                let free = holder.is_none_or(|holder| *holder == session);
                (free && self.state.sessions.contains_key(&session))
                    .then(|| self.write(key, value, Some(session)))
            }
        }
    }

    /// A write that changes nothing leaves the index alone, as in Consul: whoever relies on an index to move must
    /// find out here, not there.
    fn write(&mut self, key: String, value: Vec<u8>, holder: Option<LockSession>) -> Index {
        let next = Stored { value, index: self.index, holder };
        match self.get(&key) {
            Some(now) if (&now.value, &now.holder) == (&next.value, &next.holder) => now.index,
            _ => {
                self.touched.insert(key, Some(next));
                self.index
            }
        }
    }
}

#[async_trait::async_trait]
impl Ledger for MemoryLedger {
    async fn read(&self, key: &str) -> Result<Option<Entry>, Error> {
        Ok(self.with(|state| state.entry(key)))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        Ok(self.with(|state| {
            let from = state.keys.range(prefix.to_owned()..).map(|(key, _)| key);
            from.take_while(|key| key.starts_with(prefix)).filter_map(|key| state.entry(key)).collect()
        }))
    }

    async fn transact(&self, ops: Vec<Op>) -> Result<Transaction, Error> {
        Ok(self.with(|state| state.transact(ops)))
    }

    async fn watch(&self, key: &str, index: Index, wait: Duration) -> Result<Option<Entry>, Error> {
        let deadline = Instant::now() + wait;
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let (entry, next_end) = self.with(|state| (state.entry(key), state.next_end()));
            let differs = entry.as_ref().map_or(0, |entry| entry.index) != index;
            if index == 0 || differs || Instant::now() >= deadline {
                return Ok(entry);
            }
            tokio::select! {
                // The sender lives in `self`: this never fails.
                _ = changed.changed() => {}
                () = sleep_until(next_end.map_or(deadline, |end| end.min(deadline))) => {}
            }
        }
    }

    async fn open_session(&self, _name: &str, ttl: Duration) -> Result<LockSession, Error> {
        let session = LockSession(format!("local-{}", Nonce::random()));
        let live = Live { ttl, ends: Instant::now() + ttl };
        self.with(|state| state.sessions.insert(session.clone(), live));
        Ok(session)
    }

    async fn renew_session(&self, session: &LockSession) -> Result<bool, Error> {
        Ok(self.with(|state| {
            let live = state.sessions.get_mut(session);
            live.map(|live| live.ends = Instant::now() + live.ttl).is_some()
        }))
    }

    async fn close_session(&self, session: &LockSession) -> Result<(), Error> {
        self.with(|state| state.end(session));
        Ok(())
    }

    async fn session_lives(&self, session: &LockSession) -> Result<bool, Error> {
        Ok(self.with(|state| state.sessions.contains_key(session)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    #[tokio::test]
    async fn it_keeps_the_rules() {
        conformance::rules(&MemoryLedger::new(), &Nonce::random()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_end_when_they_are_not_renewed() {
        conformance::expiry(&MemoryLedger::new(), &Nonce::random(), Duration::from_secs(10)).await.unwrap();
    }

    #[tokio::test]
    async fn of_many_that_create_a_key_one_wins() {
        conformance::contention(std::sync::Arc::new(MemoryLedger::new()), &Nonce::random()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_lives_for_its_ttl_and_no_longer() {
        let ledger = MemoryLedger::new();
        let session = ledger.open_session("s", Duration::from_secs(10)).await.unwrap();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(ledger.renew_session(&session).await.unwrap());
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(ledger.session_lives(&session).await.unwrap());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!ledger.session_lives(&session).await.unwrap());
        assert!(!ledger.renew_session(&session).await.unwrap());
    }
}
