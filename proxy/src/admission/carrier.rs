//! The bytes of one admitted use, in sessions that end when their connections fall silent. Where there is no
//! `quiet_timeout`, nothing of this costs more than a look at the route.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::visit::RECHECK;
use super::{Admitted, Inner};
use crate::activity::table::{AtFence, Open};
use crate::activity::{Direction, Passed};
use crate::refusal::flushes;

/// One direction of an admitted use. Whoever moves bytes asks before each piece, and says when it was taken:
///
/// ```text
/// carrier.passes().await;  outlet.send(piece).await?;  …  outlet.flush().await?;  carrier.hush();
/// ```
#[derive(Clone, Copy)]
pub(crate) struct Carrier<'a> {
    admitted: &'a Admitted,
    /// `None`: the session has no quiet timeout.
    open: Option<&'a Open>,
    direction: Direction,
}

/// Bytes that wait for the outcome of a stop; resolves when it is worth asking again.
pub(crate) type Held = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Admitted {
    /// What moves one way.
    pub(crate) fn carrier(&self, direction: Direction) -> Carrier<'_> {
        let open = self.open.as_ref().filter(|_| self.route.quiet);
        Carrier { admitted: self, open, direction }
    }

    /// The use is one of those paths that its template ignores: it says nothing about whether the session is quiet.
    pub(crate) fn disregard(&self, path: &str) {
        if self.route.quiet
            && let Some(open) = &self.open
            && self.route.rules.ignore_paths.iter().any(|pattern| matches(pattern, path))
        {
            open.ignore();
        }
    }
}

impl Carrier<'_> {
    /// The response's head is out, or the connection was upgraded: from now on this use is a carrier, and only what moves
    /// on it keeps the session.
    pub(crate) fn begin(&self) {
        if let Some(open) = self.open {
            open.carry();
        }
    }

    /// Whether anything of this has to be done at all.
    pub(crate) fn is_watched(&self) -> bool {
        self.open.is_some()
    }

    /// Asks to pass application bytes on. `None`: they may go, and until [`Carrier::hush`] the session is in use.
    pub(crate) fn pass(&self) -> Option<Held> {
        let admitted = self.admitted;
        match self.open?.pass(self.direction, admitted.route.generation) {
            Passed::Go => None,
            Passed::Held(at_fence) => Some(Box::pin(wait(admitted.inner.clone(), at_fence))),
            // What a backend said before it exited is still delivered; whoever was stopped gets nothing more.
            Passed::Over if admitted.over().is_some_and(|reason| flushes(&reason)) => None,
            // It is cut in a moment. Should the ledger have gone back to its generation, it will go on.
            Passed::Over => Some(Box::pin(tokio::time::sleep(RECHECK))),
        }
    }

    /// Waits until application bytes may pass.
    pub(crate) async fn passes(&self) {
        while let Some(held) = self.pass() {
            held.await;
        }
    }

    /// Everything that was passed this way has been taken.
    pub(crate) fn hush(&self) {
        if let Some(open) = self.open {
            open.hush(self.direction);
        }
    }
}

async fn wait(inner: Arc<Inner>, at_fence: AtFence) {
    inner.outcome_of_stop(&at_fence).await;
}

/// Whether a template's pattern, an exact path or a prefix that ends in `*`, means this path.
fn matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == pattern,
    }
}

#[cfg(test)]
mod tests;
