//! The public keys by which tickets are checked: read before the proxy listens, and followed from then on. While the
//! ledger is away, those that were known stay good.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bivouac_ledger::records::Versioned;
use bivouac_ledger::tickets::{Keys as Listed, Tickets};
use bivouac_protocol::ticket::KeyRing;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::verified::Memory;

/// Longest blocking read.
const WAIT: Duration = Duration::from_secs(30);
/// Pause before the ledger is asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest wait for the keys on a request's way, and between two such reads.
const NOW: Duration = Duration::from_secs(1);

/// The keys.
pub(super) struct Keys {
    tickets: Tickets,
    ring: ArcSwap<KeyRing>,
    /// Index of the list that the ring was made of: its revision begins anew when an operator deletes it.
    index: AtomicU64,
    memory: Arc<Memory>,
    /// When a request last had them read.
    asked: Mutex<Option<Instant>>,
}

impl Keys {
    pub(super) fn new(tickets: Tickets, memory: Arc<Memory>) -> Self {
        let ring = ArcSwap::from_pointee(KeyRing::default());
        Self { tickets, ring, index: AtomicU64::new(0), memory, asked: Mutex::new(None) }
    }

    /// Those that are in force.
    pub(super) fn ring(&self) -> arc_swap::Guard<Arc<KeyRing>> {
        self.ring.load()
    }

    /// Reads them, until there is an answer.
    pub(super) async fn learn(&self) {
        while !self.read().await {
            sleep(PAUSE).await;
        }
    }

    /// A ticket names a key that is not known here: it may be a new one. At most once a second, for anybody can say so.
    pub(super) async fn ask_now(&self) -> bool {
        {
            let mut asked = self.asked.lock();
            if asked.is_some_and(|at| at.elapsed() < NOW) {
                return false;
            }
            *asked = Some(Instant::now());
        }
        timeout(NOW, self.read()).await.unwrap_or(false)
    }

    /// Follows the list, for ever.
    pub(super) async fn follow(&self) {
        let mut index = 0;
        loop {
            match self.tickets.watch_keys(index, WAIT).await {
                Ok(Some(listed)) => {
                    index = listed.index;
                    self.take_in(&listed);
                }
                // Nobody has vouched for a key yet.
                Ok(None) => sleep(PAUSE).await,
                Err(error) => {
                    tracing::debug!(%error, "The ticket keys cannot be read.");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn read(&self) -> bool {
        match self.tickets.keys().await {
            Ok(listed) => {
                if let Some(listed) = listed {
                    self.take_in(&listed);
                }
                true
            }
            Err(error) => {
                tracing::debug!(%error, "The ticket keys cannot be read.");
                false
            }
        }
    }

    fn take_in(&self, listed: &Versioned<Listed>) {
        if self.index.swap(listed.index, Ordering::SeqCst) != listed.index {
            self.ring.store(Arc::new(listed.value.ring()));
            self.memory.clear();
        }
    }
}
