//! This proxy among the members whose evidence is needed before a session is stopped.
//!
//! It joins before its listener opens. Should it find itself removed, whatever it knows was decided without it: it
//! drops links and confirmations, and joins again as another boot.

mod lockfile;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::members::{self, Members};
use bivouac_ledger::{Entry, Error, Ledger, LockSession, Op, Transaction};
use bivouac_protocol::BootId;
use bivouac_protocol::member::{Member, RemovalCause};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::activity::table::Table;
use lockfile::BootLock;

/// Life of the session that shows operators and replicas that this proxy lives.
const SESSION_TTL: Duration = Duration::from_secs(15);
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// Longest wait for a change of the documents that this proxy watches.
const WATCH: Duration = Duration::from_secs(60);
/// Pause before the ledger is asked again that did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether this proxy is a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Membership {
    /// It is joining.
    Joining,
    /// It is no member, and the ledger cannot be reached.
    Alone,
    /// It has left for good.
    Left,
    /// It has joined.
    Joined {
        /// As which boot.
        boot: BootId,
        /// Rises with each time that it joins.
        epoch: u64,
    },
}

impl Membership {
    pub(crate) fn is_joining(&self) -> bool {
        *self == Self::Joining
    }

    pub(crate) fn epoch(&self) -> Option<u64> {
        if let Self::Joined { epoch, .. } = self { Some(*epoch) } else { None }
    }

    pub(crate) fn boot(&self) -> Option<&BootId> {
        if let Self::Joined { boot, .. } = self { Some(boot) } else { None }
    }
}

/// Who this proxy is, apart from its boot.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) host: String,
    pub(crate) listen: String,
    pub(crate) allocation: Option<String>,
    /// Where the lock files of all boots on this host are kept.
    pub(crate) boots: PathBuf,
}

/// Keeps this proxy a member.
pub(crate) struct Keeper {
    ledger: Arc<dyn Ledger>,
    members: Members,
    identity: Identity,
    table: Arc<Table>,
    state: watch::Sender<Membership>,
    /// Since when an operator has this proxy drained. It stays so whatever boot it is: the order is to the process.
    drained: watch::Sender<Option<Timestamp>>,
    seat: Mutex<Option<Seat>>,
}

/// One boot's membership.
struct Seat {
    lock: BootLock,
    session: LockSession,
}

impl Keeper {
    pub(crate) fn new(ledger: Arc<dyn Ledger>, identity: Identity, table: Arc<Table>) -> Self {
        let members = Members::new(ledger.clone());
        let state = watch::Sender::new(Membership::Joining);
        let drained = watch::Sender::new(None);
        Self { ledger, members, identity, table, state, drained, seat: Mutex::default() }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Membership> {
        self.state.subscribe()
    }

    /// Joins as a new boot, and removes in the same transaction what is known to be dead: boots whose lock this process
    /// could take, and its own earlier one. Tries until the ledger answers.
    ///
    /// # Errors
    /// When the data directory cannot be used.
    pub(crate) async fn join(&self) -> io::Result<()> {
        let dead = BootLock::take_dead(&self.identity.boots)?;
        let lock = BootLock::create(&self.identity.boots, &BootId::random())?;
        let earlier = self.seat.lock().take();
        let gone: Vec<_> =
            dead.iter().chain(earlier.iter().map(|seat| &seat.lock)).map(|lock| lock.boot.clone()).collect();
        let session = loop {
            match self.try_join(&lock.boot, &gone).await {
                Ok(session) => break session,
                Err(error) => {
                    tracing::warn!(%error, "The proxy cannot join the members yet; it tries again.");
                    self.state.send_replace(Membership::Alone);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        let boot = lock.boot.clone();
        dead.into_iter().chain(earlier.map(|seat| seat.lock)).for_each(BootLock::delete);
        *self.seat.lock() = Some(Seat { lock, session });
        tracing::info!(%boot, removed = gone.len(), "The proxy has joined the members.");
        self.admit_as(boot);
        Ok(())
    }

    fn admit_as(&self, boot: BootId) {
        let epoch = self.table.begin_epoch();
        self.state.send_replace(Membership::Joined { boot, epoch });
    }

    async fn try_join(&self, boot: &BootId, gone: &[BootId]) -> Result<LockSession, Error> {
        let session = self.open_session(boot).await?;
        self.members.join(&self.document(boot, &session), gone, Timestamp::now()).await?;
        Ok(session)
    }

    async fn open_session(&self, boot: &BootId) -> Result<LockSession, Error> {
        self.ledger.open_session(&format!("bivouac proxy {boot}"), SESSION_TTL).await
    }

    fn document(&self, boot: &BootId, session: &LockSession) -> Member {
        Member {
            boot: boot.clone(),
            host: self.identity.host.clone(),
            listen: self.identity.listen.clone(),
            pid: std::process::id(),
            allocation: self.identity.allocation.clone(),
            session: Some(session.0.clone()),
            vouched_at: None,
            draining_since: *self.drained.borrow(),
            joined_at: Timestamp::now(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Resolves when an operator has this proxy drained.
    pub(crate) async fn told_to_drain(&self) {
        // The sender lives in `self`: this never fails.
        let _ = self.drained.subscribe().wait_for(Option::is_some).await;
    }

    /// Stays a member, for ever.
    pub(crate) async fn keep(&self) {
        loop {
            let boot = self.state.borrow().boot().cloned();
            if let Some(boot) = boot {
                tokio::select! {
                    () = self.removed(&boot) => {}
                    () = self.renew(&boot) => {}
                }
                tracing::warn!(%boot, "This proxy was removed from the members: it joins again as another boot.");
                self.state.send_replace(Membership::Joining);
                self.table.end_epoch();
                self.table.outbox.close_all();
            }
            if let Err(error) = self.join().await {
                tracing::error!(%error, "The proxy cannot join the members: its data directory cannot be used.");
                self.state.send_replace(Membership::Alone);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Resolves when a consistent read says that this boot is no member.
    async fn removed(&self, boot: &BootId) {
        let key = members::key(boot);
        let (mut own_index, mut list_index) = (0, 0);
        loop {
            let seen = tokio::select! {
                own = self.ledger.watch(&key, own_index, WATCH) => own.map(|own| {
                    own.map(|own| {
                        own_index = own.index;
                        self.read_order(&own);
                    }).is_some()
                }),
                list = self.members.watch(list_index, WATCH) => list.map(|list| {
                    let seated = list.as_ref().is_some_and(|list| list.value.boots.contains(boot));
                    list_index = list.map_or(0, |list| list.index);
                    seated
                }),
            };
            match seen {
                Ok(true) => {}
                Ok(false) => match self.is_seated(boot).await {
                    Ok(false) => return,
                    Ok(true) => tokio::time::sleep(PAUSE).await,
                    Err(error) => self.cannot_watch(&error).await,
                },
                Err(error) => self.cannot_watch(&error).await,
            }
        }
    }

    /// Looks whether this proxy's own document says that it is to drain.
    fn read_order(&self, own: &Entry) {
        let since = serde_json::from_slice(&own.value).ok().and_then(|own: Member| own.draining_since);
        if since.is_some() && self.drained.borrow().is_none() {
            tracing::info!("An operator has this proxy drained.");
            self.drained.send_replace(since);
        }
    }

    async fn cannot_watch(&self, error: &Error) {
        tracing::debug!(%error, "The members cannot be watched at the moment.");
        tokio::time::sleep(PAUSE).await;
    }

    async fn is_seated(&self, boot: &BootId) -> Result<bool, Error> {
        let own = self.ledger.read(&members::key(boot)).await?;
        let list = self.members.read().await?;
        Ok(own.is_some() && list.is_some_and(|list| list.value.boots.contains(boot)))
    }

    /// Keeps the session alive; a new one takes its place when the ledger was away for too long.
    async fn renew(&self, boot: &BootId) {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            let Some(session) = self.seat.lock().as_ref().map(|seat| seat.session.clone()) else { continue };
            let renewed = match self.ledger.renew_session(&session).await {
                Ok(true) => Ok(()),
                Ok(false) => self.replace_session(boot).await,
                Err(error) => Err(error),
            };
            if let Err(error) = renewed {
                tracing::debug!(%error, "The proxy's session cannot be renewed at the moment.");
            }
        }
    }

    async fn replace_session(&self, boot: &BootId) -> Result<(), Error> {
        let key = members::key(boot);
        let Some(own) = self.ledger.read(&key).await? else { return Ok(()) };
        let corrupt =
            |error: serde_json::Error| Error::Corrupt { key: key.clone(), detail: error.to_string() };
        let document: Member = serde_json::from_slice(&own.value).map_err(corrupt)?;
        let session = self.open_session(boot).await?;
        let document = Member { session: Some(session.0.clone()), ..document };
        let value = serde_json::to_vec_pretty(&document).map_err(corrupt)?;
        let put = Op::Put { key: key.clone(), value, index: own.index };
        if let Transaction::Refused(_) = self.ledger.transact(vec![put]).await? {
            // Somebody vouched for this proxy meanwhile: the next round tries again.
            return self.ledger.close_session(&session).await;
        }
        if let Some(seat) = self.seat.lock().as_mut() {
            seat.session = session;
        }
        Ok(())
    }

    /// Leaves for good: nothing is open here, and nothing will be.
    pub(crate) async fn leave(&self) {
        let Some(seat) = self.seat.lock().take() else { return };
        if let Err(error) =
            self.members.remove(&seat.lock.boot, RemovalCause::Goodbye, Timestamp::now()).await
        {
            // The lock file stays: the next boot on this host removes this one.
            tracing::warn!(%error, "The proxy could not leave the members.");
            return;
        }
        seat.lock.delete();
        self.state.send_replace(Membership::Left);
        if let Err(error) = self.ledger.close_session(&seat.session).await {
            tracing::debug!(%error, "The proxy's session ends by itself.");
        }
    }
}

#[cfg(test)]
mod tests;
