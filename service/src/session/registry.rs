//! What the API reads: the last view of each session, written by the supervisor alone.

use std::collections::HashMap;
use std::sync::Arc;

use bivouac_protocol::SessionId;
use parking_lot::RwLock;
use tokio::sync::{broadcast, watch};

use super::view::View;

/// Changes that a slow reader of [`Registry::changes`] may lag behind before it has to start over.
const CHANGES_KEPT: usize = 4096;

/// The views.
#[derive(Debug)]
pub(crate) struct Registry {
    views: RwLock<HashMap<SessionId, watch::Sender<Arc<View>>>>,
    changes: broadcast::Sender<Arc<View>>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { views: RwLock::default(), changes: broadcast::Sender::new(CHANGES_KEPT) }
    }
}

impl Registry {
    /// Shows a session as it is now. Followers are told only if something changed besides the evidence, which moves with
    /// every request.
    pub(crate) fn publish(&self, view: Arc<View>) {
        let known = self.views.read().get(&view.id).cloned();
        match known {
            Some(known) => {
                let news = !known.borrow().is_same_but_for_evidence(&view);
                known.send_if_modified(|current| {
                    *current = Arc::clone(&view);
                    news
                });
                if news {
                    let _ = self.changes.send(view);
                }
            }
            None => {
                self.views.write().insert(view.id.clone(), watch::Sender::new(Arc::clone(&view)));
                let _ = self.changes.send(view);
            }
        }
    }

    /// Removes a session whose record was purged.
    pub(crate) fn remove(&self, id: &SessionId) {
        self.views.write().remove(id);
    }

    pub(crate) fn watch(&self, id: &SessionId) -> Option<watch::Receiver<Arc<View>>> {
        self.views.read().get(id).map(watch::Sender::subscribe)
    }

    pub(crate) fn changes(&self) -> broadcast::Receiver<Arc<View>> {
        self.changes.subscribe()
    }

    /// All of them, newest claim first.
    pub(crate) fn list(&self) -> Vec<Arc<View>> {
        let mut views: Vec<_> = self.views.read().values().map(|view| Arc::clone(&view.borrow())).collect();
        views.sort_by(|a, b| b.timeline.claimed.cmp(&a.timeline.claimed).then_with(|| a.id.cmp(&b.id)));
        views
    }
}
