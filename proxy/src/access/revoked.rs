//! Which tickets were revoked: what the ledger listed and what replicas have said since. It only grows, until no ticket
//! that it could concern is good any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bivouac_ledger::revoked::{Revocation, Revocations};
use bivouac_protocol::SessionId;
use jiff::Timestamp;
use parking_lot::RwLock;

use super::verified::header_text;
use crate::activity::table::Table;

/// Pause between two lists of all revocations, while there was none yet.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Pause between two lists afterwards: for what was written while no replica could tell.
const LIST_EVERY: Duration = Duration::from_secs(60);

/// Until when tickets are refused: of users, as backends are told their names, and of everybody.
#[derive(Debug, Default)]
struct OfSession {
    users: HashMap<Box<str>, u64>,
    everybody: u64,
}

/// The revocations.
pub(crate) struct Revoked {
    table: Arc<Table>,
    revocations: Revocations,
    sessions: RwLock<HashMap<SessionId, OfSession>>,
    /// They were read once: what is not among them was not revoked before this proxy began.
    read: AtomicBool,
}

impl Revoked {
    pub(super) fn new(table: Arc<Table>, revocations: Revocations) -> Self {
        Self { table, revocations, sessions: RwLock::default(), read: AtomicBool::new(false) }
    }

    /// Whether they were read: before that no ticket can be believed.
    pub(super) fn is_read(&self) -> bool {
        self.read.load(Ordering::Relaxed)
    }

    /// Whether a ticket of this user (as backends are told their name), issued then, was revoked.
    pub(super) fn contains(&self, session: &SessionId, user: Option<&str>, issued_ms: u64) -> bool {
        let sessions = self.sessions.read();
        let Some(of) = sessions.get(session) else { return false };
        let own = user.and_then(|user| of.users.get(user).copied()).unwrap_or(0);
        of.everybody.max(own) >= issued_ms
    }

    /// Takes a revocation in, and lets whatever it concerns look again.
    pub(super) fn take_in(&self, revocation: &Revocation) {
        {
            let mut sessions = self.sessions.write();
            let of = sessions.entry(revocation.session.clone()).or_default();
            let until = match &revocation.user {
                Some(user) => of.users.entry(header_text(user).into()).or_default(),
                None => &mut of.everybody,
            };
            if *until >= revocation.until_ms {
                return;
            }
            *until = revocation.until_ms;
        }
        self.table.peek(&revocation.session, |entry, _| entry.announce());
    }

    /// Reads them all, until that has succeeded once.
    pub(super) async fn learn(&self) {
        while !self.list().await {
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Reads them again now and then, and forgets those that are over.
    pub(super) async fn follow(&self) {
        self.learn().await;
        loop {
            tokio::time::sleep(LIST_EVERY).await;
            self.list().await;
            self.forget(Timestamp::now());
        }
    }

    async fn list(&self) -> bool {
        match self.revocations.list().await {
            // To a token that is refused every list is empty.
            Ok(listed) if listed.is_empty() && self.is_refused() => false,
            Ok(listed) => {
                listed.iter().for_each(|revocation| self.take_in(revocation));
                self.read.store(true, Ordering::Relaxed);
                true
            }
            Err(error) => {
                tracing::debug!(%error, "The revoked tickets cannot be read.");
                false
            }
        }
    }

    fn is_refused(&self) -> bool {
        self.revocations.access().is_some_and(|access| access.problem().is_some())
    }

    fn forget(&self, now: Timestamp) {
        let is_over = |session: &SessionId, until_ms| {
            Revocation { session: session.clone(), user: None, until_ms }.is_over(now)
        };
        self.sessions.write().retain(|session, of| {
            of.users.retain(|_, until| !is_over(session, *until));
            !of.users.is_empty() || !is_over(session, of.everybody)
        });
    }
}
