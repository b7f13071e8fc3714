//! A session as its caller may see it. The only way from a [`View`] to an answer: whatever a caller did to get it, it is
//! not told what needs another right.

use std::ops::Deref;
use std::sync::Arc;

use bivouac_protocol::Reason;
use bivouac_protocol::token::Verb;
use serde::Serialize;

use super::auth::Caller;
use super::problem::Problem;
use crate::session::view::View;

/// A session without what its caller may not see.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub(crate) struct Seen(Arc<View>);

impl Deref for Seen {
    type Target = View;
    fn deref(&self) -> &View {
        &self.0
    }
}

impl Caller {
    /// What the caller may see of a session that is in its scope: the last lines that it printed are part of its logs.
    pub(crate) fn seen(&self, view: &Arc<View>) -> Seen {
        let printed = view.reason.as_ref().filter(|reason| !reason.log_tail.is_empty());
        match printed {
            Some(reason) if !self.may(Verb::Logs, &view.namespace, &view.template) => {
                let reason = Some(Reason::for_users(reason));
                Seen(Arc::new(View { reason, ..View::clone(view) }))
            }
            _ => Seen(Arc::clone(view)),
        }
    }

    /// The session that a command acted on, or found. Meanwhile its key may have been spawned from a template that is
    /// none of the caller's business: then it is as unknown as before.
    pub(crate) fn answer(&self, verb: Verb, view: &Arc<View>) -> Result<Seen, Problem> {
        self.require_on(verb, view)?;
        Ok(self.seen(view))
    }
}
