//! The proxy's own look-ups: the record decides, the directory says where.
//!
//! One look-up per session is under way at a time, whoever waits for it. A look-up's answer is only ever used by those
//! who were counted in before it came: so none of them can be admitted on what was true before a fence.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bivouac_ledger::directory::Directory;
use bivouac_ledger::records::Records;
use bivouac_ledger::{Error, Ledger};
use bivouac_protocol::{Generation, Record, Route, SessionId};
use moka::future::Cache;

use crate::activity::clock::Clock;
use crate::activity::entry::Entry;
use crate::activity::table::Table;

/// Longest wait for one answer of ledger or directory. Requests wait for it.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// After a failure nobody asks again for this long: requests must not queue up behind a dead server.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How long a catalogue entry is believed without asking again.
const BELIEVE_DIRECTORY: Duration = Duration::from_millis(500);
/// An unknown id is answered from memory for this long, once it was asked for too often.
const ABSENT_FOR: Duration = Duration::from_secs(1);
/// Reads of one unknown id in that time. Below this every request reads, so that one that follows a spawn sees it.
const ABSENT_READS: u32 = 16;
/// Sessions whose look-ups are remembered.
const CAPACITY: u64 = 10_000;

/// Reads records and looks up addresses.
pub(crate) struct Resolver {
    table: Arc<Table>,
    records: Records,
    directory: Arc<dyn Directory>,
    reads: Cache<(SessionId, u64), Arc<Option<Record>>>,
    places: Cache<(SessionId, Generation), Arc<Route>>,
    /// Apart from the others, so that a flood of unknown ids never evicts live ones.
    absent: Cache<SessionId, Arc<AtomicU32>>,
    ledger_pause: Pause,
    directory_pause: Pause,
}

/// Nobody could be asked.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Unreachable {
    /// It was asked a moment ago, and did not answer.
    #[error("it did not answer a moment ago")]
    Paused,
    /// The proxy is no member, and cannot join.
    #[error("the proxy is no member at the moment")]
    NoMember,
    /// It did not answer in time.
    #[error("no answer within {} s", ANSWER_WITHIN.as_secs())]
    Late,
    /// It answered with an error.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl Resolver {
    pub(crate) fn new(table: Arc<Table>, ledger: Arc<dyn Ledger>, directory: Arc<dyn Directory>) -> Self {
        let cache = |life: Duration| Cache::builder().max_capacity(CAPACITY).time_to_live(life);
        Self {
            table,
            records: Records::new(ledger),
            directory,
            reads: cache(ANSWER_WITHIN).build(),
            places: Cache::builder().max_capacity(CAPACITY).time_to_live(BELIEVE_DIRECTORY).build(),
            absent: Cache::builder().max_capacity(CAPACITY).time_to_live(ABSENT_FOR).build(),
            ledger_pause: Pause::default(),
            directory_pause: Pause::default(),
        }
    }

    /// A consistent read of the record, begun or awaited by somebody who is counted in at `entry`.
    pub(crate) async fn record(&self, entry: &Entry) -> Result<Arc<Option<Record>>, Unreachable> {
        let unrouted = entry.lock().known.route().is_none();
        if unrouted && self.is_known_absent(&entry.id).await {
            return Ok(Arc::new(None));
        }
        let (mut record, mine) = self.shared_read(entry).await?;
        if !mine && record.as_ref().as_ref().is_none_or(|record| !record.is_live()) {
            // That read may have begun before this request, and so before the spawn that this request follows.
            (record, _) = self.shared_read(entry).await?;
        }
        if record.is_none() {
            self.note_absent(&entry.id).await;
        }
        Ok(record)
    }

    /// A consistent read that is shared with nobody, for those who are not counted in.
    pub(crate) async fn record_apart(&self, session: &SessionId) -> Result<Option<Record>, Unreachable> {
        let read = self.records.read(session);
        let record = self.ledger_pause.guard(self.table.clock, read).await?;
        Ok(record.map(|record| record.value))
    }

    async fn shared_read(&self, entry: &Entry) -> Result<(Arc<Option<Record>>, bool), Unreachable> {
        let mine = AtomicBool::new(false);
        let round = entry.round.load(Ordering::SeqCst);
        let read = async {
            mine.store(true, Ordering::Relaxed);
            let read = self.records.read(&entry.id);
            let answer = self.ledger_pause.guard(self.table.clock, read).await;
            // Before the answer is to be seen: whoever comes now begins another look-up.
            entry.round.store(self.table.next_round(), Ordering::SeqCst);
            answer.map(|record| Arc::new(record.map(|record| record.value)))
        };
        let record = self.reads.try_get_with((entry.id.clone(), round), read).await;
        self.table.metrics.looked_up(record.is_ok());
        Ok((record.map_err(|error| Unreachable::clone(&error))?, mine.load(Ordering::Relaxed)))
    }

    /// Where the directory says that this generation listens.
    pub(crate) async fn place(
        &self,
        session: &SessionId,
        generation: Generation,
    ) -> Result<Option<Arc<Route>>, Unreachable> {
        let look = async {
            let look = self.directory.locate(session, generation);
            match self.directory_pause.guard(self.table.clock, look).await {
                Ok(Some(route)) => Ok(Arc::new(route)),
                Ok(None) => Err(None),
                Err(error) => Err(Some(error)),
            }
        };
        match self.places.try_get_with((session.clone(), generation), look).await {
            Ok(route) => Ok(Some(route)),
            Err(error) => Option::clone(&error).map_or(Ok(None), Err),
        }
    }

    /// The place turned out to be wrong.
    pub(crate) async fn forget_place(&self, route: &Route) {
        self.places.invalidate(&(route.session.clone(), route.generation)).await;
    }

    async fn is_known_absent(&self, session: &SessionId) -> bool {
        match self.absent.get(session).await {
            Some(reads) => reads.load(Ordering::Relaxed) >= ABSENT_READS,
            None => false,
        }
    }

    async fn note_absent(&self, session: &SessionId) {
        let reads = self.absent.get_with(session.clone(), async { Arc::default() }).await;
        reads.fetch_add(1, Ordering::Relaxed);
    }
}

/// Keeps requests from queueing up behind a server that does not answer: after a failure one of them a second tries.
#[derive(Default)]
struct Pause {
    /// Milliseconds of the boot clock until which nobody asks; 0: all is well.
    until: AtomicU64,
}

impl Pause {
    async fn guard<T>(
        &self,
        clock: Clock,
        ask: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Unreachable> {
        let until = self.until.load(Ordering::Relaxed);
        let now = millis(clock.now());
        let first = || {
            let next = now + millis(PAUSE_AFTER_FAILURE);
            self.until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if until != 0 && (now < until || !first()) {
            return Err(Unreachable::Paused);
        }
        let answer = match tokio::time::timeout(ANSWER_WITHIN, ask).await {
            Ok(answer) => answer.map_err(Unreachable::Failed),
            Err(_) => Err(Unreachable::Late),
        };
        match &answer {
            Ok(_) => self.recovered(),
            // A document that cannot be read says nothing about the server.
            Err(error @ Unreachable::Failed(Error::Corrupt { .. })) => {
                tracing::error!(%error, "A request cannot be decided by its record.");
            }
            Err(error) => self.failed(clock, error),
        }
        answer
    }

    fn recovered(&self) {
        if self.until.load(Ordering::Relaxed) != 0 && self.until.swap(0, Ordering::Relaxed) != 0 {
            tracing::info!("Records or addresses of sessions can be looked up again.");
        }
    }

    fn failed(&self, clock: Clock, error: &Unreachable) {
        let next = millis(clock.now() + PAUSE_AFTER_FAILURE);
        if self.until.swap(next, Ordering::Relaxed) == 0 {
            tracing::warn!(%error, "Records or addresses of sessions cannot be looked up: known routes are served on.");
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
