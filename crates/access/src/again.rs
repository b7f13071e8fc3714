//! Asking again for what was refused. Some things are asked once in a session's life: their refusal would be told long
//! after the right is there, or after a server that had not yet read its own state has read it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::{Response, StatusCode};

use crate::{Connection, Failure, Outcome};

/// Time between two rounds.
const ASK_EVERY: Duration = Duration::from_secs(5);

impl Connection {
    /// Sees to it that one task asks again for what can be asked without changing anything, as long as it is refused.
    pub(crate) fn ask_again(&self) {
        let idle = || self.shared.access.refused_questions().is_empty();
        if idle() || self.shared.again.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::downgrade(&self.shared);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(ASK_EVERY).await;
                // Whoever used this connection may be gone.
                let Some(shared) = shared.upgrade() else { return };
                let connection = Self { shared, optional: false };
                connection.ask_for_all().await;
                if connection.is_done() {
                    return;
                }
            }
        });
    }

    async fn ask_for_all(&self) {
        for url in self.shared.access.refused_questions() {
            let http = self.shared.live.read().http.clone();
            let request = http.get(url).timeout(ASK_EVERY);
            // What comes of it is written down on the way.
            let _answer: Result<(), Told> = self.call(request, Told::read).await;
        }
    }

    /// A refusal between the two looks is either seen by the second, or its caller sees that nobody asks.
    fn is_done(&self) -> bool {
        let nothing = || self.shared.access.refused_questions().is_empty();
        if !nothing() {
            return false;
        }
        self.shared.again.store(false, Ordering::Release);
        nothing() || self.shared.again.swap(true, Ordering::AcqRel)
    }
}

/// Why an answer is not known to be permitted.
enum Told {
    /// It is refused, in the agent's words.
    Denied(String),
    /// There is no answer, or one that says nothing of our rights.
    Nothing,
}

impl Told {
    /// What does not exist was looked for: rights are looked at before.
    async fn read(response: Response) -> Result<(), Self> {
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        if status != StatusCode::FORBIDDEN {
            return Err(Self::Nothing);
        }
        response.text().await.map_or(Err(Self::Nothing), |detail| Err(Self::Denied(detail.trim().to_owned())))
    }
}

impl From<Failure> for Told {
    fn from(_: Failure) -> Self {
        Self::Nothing
    }
}

impl Outcome for Told {
    fn denial(&self) -> Option<&str> {
        if let Self::Denied(detail) = self { Some(detail) } else { None }
    }
}
