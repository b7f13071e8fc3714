//! The queues of all links. Whatever the proxy has to say goes through here, in order, on every link.
//!
//! Lock order: a session's entry first, then the outbox. So what is said about one session leaves in the order in which
//! it happened.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bivouac_protocol::link::FromProxy;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Messages that may wait for one link's socket. A replica that falls behind by more starts over with the full state.
const QUEUE: usize = 16_384;

/// One connection to one replica; a reconnect is another link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LinkId(u64);

/// A link's end of its queue.
pub(crate) struct Queue {
    pub(crate) id: LinkId,
    pub(crate) messages: mpsc::Receiver<FromProxy>,
    /// The link has to end: its queue is full, or the proxy is another boot now.
    pub(crate) closed: CancellationToken,
}

struct Sender {
    id: LinkId,
    messages: mpsc::Sender<FromProxy>,
    closed: CancellationToken,
    /// Its replica has told its full state.
    synced: bool,
}

/// All links' queues, and when any replica was last heard.
#[derive(Default)]
pub(crate) struct Outbox {
    senders: Mutex<Vec<Sender>>,
    next: AtomicU64,
    /// Milliseconds of the boot clock, plus one; 0: never.
    heard: AtomicU64,
}

impl Outbox {
    /// Opens a queue: everything that is said from now on goes there too.
    pub(crate) fn open(&self) -> Queue {
        let id = LinkId(self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, messages) = mpsc::channel(QUEUE);
        let closed = CancellationToken::new();
        self.senders.lock().push(Sender { id, messages: sender, closed: closed.clone(), synced: false });
        Queue { id, messages, closed }
    }

    /// Forgets a link that has ended.
    pub(crate) fn remove(&self, id: LinkId) {
        self.senders.lock().retain(|sender| sender.id != id);
    }

    /// Ends all links: what they were told was told by another boot.
    pub(crate) fn close_all(&self) {
        for sender in self.senders.lock().drain(..) {
            sender.closed.cancel();
        }
        self.heard.store(0, Ordering::Relaxed);
    }

    /// Notes that the replica's full state has arrived.
    pub(crate) fn synced(&self, id: LinkId) {
        for sender in self.senders.lock().iter_mut().filter(|sender| sender.id == id) {
            sender.synced = true;
        }
    }

    /// Links whose replica has told its full state.
    pub(crate) fn up(&self) -> usize {
        self.senders.lock().iter().filter(|sender| sender.synced).count()
    }

    /// Says it on every link.
    pub(crate) fn broadcast(&self, message: &FromProxy) {
        self.deliver(message, |_| true);
    }

    /// Says it on one link, if it is still there.
    pub(crate) fn send(&self, to: LinkId, message: &FromProxy) {
        self.deliver(message, |sender| sender.id == to);
    }

    /// Says it to one replica, another one with each `turn`. `false`: none can be reached.
    pub(crate) fn ask(&self, turn: usize, message: &FromProxy) -> bool {
        let to = {
            let senders = self.senders.lock();
            let synced: Vec<_> = senders.iter().filter(|sender| sender.synced).collect();
            synced.get(turn % synced.len().max(1)).map(|sender| sender.id)
        };
        if let Some(to) = to {
            self.send(to, message);
        }
        to.is_some()
    }

    fn deliver(&self, message: &FromProxy, to: impl Fn(&Sender) -> bool) {
        self.senders.lock().retain(|sender| {
            if !to(sender) || sender.messages.try_send(message.clone()).is_ok() {
                return true;
            }
            // Never drop a message from within: the replica would believe a state that is not so.
            tracing::warn!("A link's queue is full: the link is closed.");
            sender.closed.cancel();
            false
        });
    }

    /// Notes that a replica whose full state is known here has been heard.
    pub(crate) fn hear(&self, now: Duration) {
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.heard.fetch_max(millis.saturating_add(1), Ordering::Relaxed);
    }

    /// Whether any was heard within this time.
    pub(crate) fn heard_within(&self, limit: Duration, now: Duration) -> bool {
        match self.heard.load(Ordering::Relaxed) {
            0 => false,
            heard => now.saturating_sub(Duration::from_millis(heard - 1)) <= limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_closes_its_link_and_no_other() {
        let outbox = Outbox::default();
        let slow = outbox.open();
        for _ in 0..QUEUE {
            outbox.broadcast(&FromProxy::Ping);
        }
        let mut quick = outbox.open();
        outbox.broadcast(&FromProxy::Goodbye);
        assert!(slow.closed.is_cancelled());
        assert!(!quick.closed.is_cancelled());
        assert_eq!(quick.messages.recv().await, Some(FromProxy::Goodbye));
    }

    #[tokio::test]
    async fn only_a_replica_that_told_its_state_is_asked() {
        let outbox = Outbox::default();
        let _unsynced = outbox.open();
        assert!(!outbox.ask(0, &FromProxy::Ping));
        let mut synced = outbox.open();
        outbox.synced(synced.id);
        assert!(outbox.ask(7, &FromProxy::Ping));
        assert_eq!(synced.messages.recv().await, Some(FromProxy::Ping));
    }

    #[test]
    fn being_heard_grows_old() {
        let outbox = Outbox::default();
        let second = Duration::from_secs(1);
        assert!(!outbox.heard_within(second, Duration::ZERO));
        outbox.hear(Duration::ZERO);
        assert!(outbox.heard_within(second, second));
        assert!(!outbox.heard_within(second, 2 * second));
    }
}
