//! What a session's template says about who may enter: its route has it; while it has none, its record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bivouac_protocol::{Access, SessionId};
use moka::future::Cache;

use crate::activity::table::Table;
use crate::refusal::Refusal;
use crate::routes::resolve::{Resolver, Unreachable};

/// How long an answer is good for those who ask again.
const REMEMBER: Duration = Duration::from_secs(1);
/// Reads of one unknown id in that time. Below this every request reads, so that one that follows a spawn sees it.
const ABSENT_READS: u32 = 16;
const CAPACITY: u64 = 10_000;

/// Looks rules up.
pub(super) struct Rules {
    table: Arc<Table>,
    resolver: Arc<Resolver>,
    reads: Cache<SessionId, Option<Access>>,
    /// Apart from the others, so that a flood of unknown ids never evicts live ones.
    absent: Cache<SessionId, Arc<AtomicU32>>,
}

impl Rules {
    pub(super) fn new(table: Arc<Table>, resolver: Arc<Resolver>) -> Self {
        let reads = Cache::builder().max_capacity(CAPACITY).time_to_live(REMEMBER).build();
        let absent = Cache::builder().max_capacity(CAPACITY).time_to_live(REMEMBER).build();
        Self { table, resolver, reads, absent }
    }

    /// Who may enter.
    ///
    /// # Errors
    /// When there is no such session, or nobody can say.
    pub(super) async fn access(&self, session: &SessionId) -> Result<Access, Refusal> {
        let routed = self.table.peek(session, |_, state| state.known.route().map(|route| route.rules.access));
        if let Some(access) = routed.flatten() {
            return Ok(access);
        }
        let spent = self.absent.get(session).await;
        if spent.is_some_and(|reads| reads.load(Ordering::Relaxed) >= ABSENT_READS) {
            return Err(Refusal::UnknownSession);
        }
        match self.recorded(session).await {
            Ok(Some(access)) => Ok(access),
            Ok(None) => {
                let reads = self.absent.get_with(session.clone(), async { Arc::default() }).await;
                reads.fetch_add(1, Ordering::Relaxed);
                Err(Refusal::UnknownSession)
            }
            Err(error) => {
                tracing::debug!(session.id = %session, %error, "Who may enter a session cannot be read.");
                Err(Refusal::Unresolvable)
            }
        }
    }

    /// As the record says. Those who ask at the same time share a read.
    async fn recorded(&self, session: &SessionId) -> Result<Option<Access>, Arc<Unreachable>> {
        let mine = AtomicBool::new(false);
        let read = async {
            mine.store(true, Ordering::Relaxed);
            let record = self.resolver.record_apart(session).await?;
            Ok(record.map(|record| record.policy.rules.access))
        };
        let access = self.reads.try_get_with_by_ref(session, read).await?;
        if access.is_some() || mine.load(Ordering::Relaxed) {
            if access.is_none() {
                self.reads.invalidate(session).await;
            }
            return Ok(access);
        }
        // That read may have begun before the spawn that this request follows.
        let record = self.resolver.record_apart(session).await?;
        Ok(record.map(|record| record.policy.rules.access))
    }
}
