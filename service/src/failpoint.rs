//! Places at which a test may end or halt the process, to show that nothing is lost there. Only in debug builds.

use std::collections::HashMap;

/// What happens at a failpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// The process aborts, as if killed.
    Abort,
    /// The caller halts for ever.
    Pause,
}

/// The failpoints that are set: `BIVOUAC_FAILPOINTS="claimed=abort,fenced=pause"`.
#[derive(Debug, Clone, Default)]
pub struct Failpoints {
    actions: HashMap<String, Action>,
}

impl Failpoints {
    /// Reads the setting. Unknown actions are ignored; so is everything in a release build.
    #[must_use]
    pub fn parse(setting: &str) -> Self {
        let parse = |pair: &str| {
            let (name, action) = pair.split_once('=')?;
            let action = match action {
                "abort" => Action::Abort,
                "pause" => Action::Pause,
                _ => return None,
            };
            Some((name.trim().to_owned(), action))
        };
        let actions = if cfg!(debug_assertions) {
            setting.split(',').filter_map(parse).collect()
        } else {
            HashMap::new()
        };
        Self { actions }
    }

    /// Passes, or does not, if a test says so.
    pub(crate) async fn pass(&self, name: &str) {
        match self.actions.get(name) {
            None => {}
            Some(Action::Abort) => {
                tracing::warn!(failpoint = name, "The process aborts at a failpoint.");
                std::process::abort();
            }
            Some(Action::Pause) => {
                tracing::warn!(failpoint = name, "The process halts at a failpoint.");
                std::future::pending::<()>().await;
            }
        }
    }
}
