//! The way of one request that cannot be answered from memory: look, wait, look again.
//!
//! Each round subscribes to changes first and looks then, so that no change falls between; and looks again every
//! second, so that nothing depends on a message.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bivouac_protocol::{PortLabel, Route, SessionId};
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::at_fence::STUCK;
use super::look::{Look, Woken};
use super::{Inner, progress};
use crate::activity::entry::Entry;
use crate::activity::table::{AtFence, Entered, Open};
use crate::hold::Hold;
use crate::host::Target;
use crate::refusal::Refusal;

/// Whoever waits looks again this often.
pub(super) const RECHECK: Duration = Duration::from_secs(1);
/// Whoever waits at a fence, or asks a replica, does so together with all others of its session.
pub(super) const ONCE_IN: Duration = Duration::from_millis(900);
/// First wait for a record that lags behind its route.
const SHORT: Duration = Duration::from_millis(10);
/// Looks in a row without a pause, if each one has learned something.
const AGAIN_AT_ONCE: u32 = 4;
/// What a client is told that has waited long enough.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// One request. The order of the fields is the order in which they are dropped: the guard goes last, so that it can
/// take an entry with it that nobody needs.
pub(super) struct Visit<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) id: SessionId,
    /// The port that it wants; `None`: the default one.
    pub(super) port: Option<PortLabel>,
    hold: Option<Hold>,
    at_fence: Option<AtFence>,
    open: Option<Open>,
    deadline: Instant,
    pub(super) backoff: Duration,
    pub(super) woken: Option<Woken>,
    pub(super) wakes: u32,
    pub(super) asked: bool,
    pub(super) only_if_never_ready: bool,
    /// The last look failed because nobody could be asked.
    pub(super) unreachable: bool,
}

impl<'a> Visit<'a> {
    pub(super) fn new(inner: &'a Arc<Inner>, target: &Target, entered: Entered) -> Self {
        let (open, at_fence) = match entered {
            Entered::Open(open) => (Some(open), None),
            Entered::Held(at_fence) => (None, Some(at_fence)),
        };
        Self {
            inner,
            id: target.session.clone(),
            port: target.port.clone(),
            hold: None,
            at_fence,
            open,
            deadline: Instant::now() + inner.parts.hold_timeout,
            backoff: SHORT,
            woken: None,
            wakes: 0,
            asked: false,
            only_if_never_ready: false,
            unreachable: false,
        }
    }

    pub(super) fn until(self, deadline: Instant) -> Self {
        Self { deadline, ..self }
    }

    /// A backend that was ready once and refuses connections is not starting: waiting does not help.
    pub(super) fn only_if_never_ready(self) -> Self {
        Self { only_if_never_ready: true, ..self }
    }

    pub(super) async fn run(mut self) -> Result<(Open, Arc<Route>), Refusal> {
        let mut again = 0;
        loop {
            let Some(entry) = self.enter() else {
                self.wait_at_fence().await?;
                continue;
            };
            let changed = entry.changed();
            match self.look(&entry).await? {
                Look::Go(route) => {
                    if let Some(open) = self.open.take() {
                        self.inner.parts.table.mark_existing(&entry, route.generation);
                        return Ok((open, route));
                    }
                }
                // Whatever contradicts itself must not be asked as fast as it answers.
                Look::Again if again < AGAIN_AT_ONCE => again += 1,
                Look::Again => {
                    let pause = self.longer();
                    self.wait(&entry, changed, pause).await?;
                }
                Look::Wait(pause) => self.wait(&entry, changed, pause).await?,
            }
        }
    }

    /// The entry at which this request is counted in, unless it has to wait at a fence.
    fn enter(&mut self) -> Option<Arc<Entry>> {
        if self.open.is_none() && self.at_fence.is_none() {
            match self.inner.parts.table.enter(&self.id) {
                Entered::Open(open) => self.open = Some(open),
                Entered::Held(at_fence) => self.at_fence = Some(at_fence),
            }
        }
        self.open.as_ref().map(|open| open.entry().clone())
    }

    /// Waits, within the bounds, until something changes or the pause is over.
    async fn wait(
        &mut self,
        entry: &Arc<Entry>,
        changed: Notified<'_>,
        pause: Duration,
    ) -> Result<(), Refusal> {
        self.take_hold(entry)?;
        let until = (Instant::now() + pause).min(self.deadline);
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep_until(until) => {}
        }
        if self.inner.closed.load(Ordering::SeqCst) {
            return Err(Refusal::Draining);
        }
        if Instant::now() < self.deadline {
            return Ok(());
        }
        Err(if self.unreachable {
            Refusal::Unresolvable
        } else {
            Refusal::StillStarting { retry_after: RETRY_AFTER, progress: progress(&entry.lock()) }
        })
    }

    /// Waits like [`Visit::wait`] before the first look.
    pub(super) async fn pause(&mut self, pause: Duration) -> Result<(), Refusal> {
        let Some(entry) = self.enter() else { return Ok(()) };
        self.wait(&entry, entry.changed(), pause).await
    }

    pub(super) fn take_hold(&mut self, entry: &Arc<Entry>) -> Result<(), Refusal> {
        if self.hold.is_none() {
            self.hold = Some(self.inner.parts.holds.take(entry)?);
        }
        Ok(())
    }

    /// Waits for the outcome of a stop. Its answer may get lost, so the record is read every second.
    async fn wait_at_fence(&mut self) -> Result<(), Refusal> {
        let Some(at_fence) = self.at_fence.take() else { return Ok(()) };
        let entry = at_fence.entry.clone();
        let since = Instant::now();
        let fenced = || entry.lock().gate.fenced() == Some(at_fence.fenced);
        loop {
            let changed = entry.changed();
            if !fenced() {
                return Ok(());
            }
            self.wait(&entry, changed, RECHECK).await?;
            if fenced() {
                self.inner.check_stop(&entry, at_fence.fenced, since.elapsed() >= STUCK).await;
            }
        }
    }

    /// The next, longer pause.
    pub(super) fn longer(&mut self) -> Duration {
        let pause = self.backoff;
        self.backoff = (2 * pause).min(RECHECK);
        pause
    }
}
