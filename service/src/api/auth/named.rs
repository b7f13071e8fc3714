//! Named tokens, as this replica knows them: read from the ledger, and believed for a moment.
//!
//! Whoever shows what is not known to be right costs one consistent read, whether the name does not exist, the secret is
//! wrong, or both are right and new: neither the answer nor its time tells which names there are. Such reads have few
//! lanes of their own, so that a crowd of strangers takes none from callers who were known a moment ago.

use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::records::Versioned;
use bivouac_ledger::tokens::Tokens as Documents;
use bivouac_ledger::{Error, Ledger};
use bivouac_protocol::TokenName;
use bivouac_protocol::token::{Digest, TokenDocument};
use jiff::{SignedDuration, Timestamp};
use moka::sync::Cache;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// How long what was read is believed: how late a revocation arrives.
const FRESH: Duration = Duration::from_secs(1);
/// Reads at a time for callers who were known a moment ago, and for all others.
const LANES: usize = 8;
/// Longest wait for a lane and an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How exactly the last use is known.
const NOTE_EVERY: Duration = Duration::from_secs(300);
/// Tokens that are remembered.
const KNOWN: u64 = 10_000;
/// A token that nobody shows is forgotten after this time.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The named tokens.
pub(crate) struct Named {
    documents: Documents,
    known: Cache<TokenName, Known>,
    friends: Semaphore,
    strangers: Semaphore,
    /// Uses that this replica noted, or tried to, less than [`NOTE_EVERY`] ago.
    noted: Cache<TokenName, ()>,
}

/// A document, and when its read began.
#[derive(Clone)]
struct Known {
    document: Arc<Versioned<TokenDocument>>,
    at: Instant,
}

impl Known {
    fn admits(&self, digest: &Digest) -> bool {
        self.document.value.admits(digest, Timestamp::now())
    }

    fn is_fresh(&self) -> bool {
        self.at.elapsed() < FRESH
    }
}

impl Named {
    pub(super) fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self {
            documents: Documents::new(ledger),
            known: Cache::builder().max_capacity(KNOWN).time_to_idle(REMEMBERED).build(),
            friends: Semaphore::new(LANES),
            strangers: Semaphore::new(LANES),
            noted: Cache::builder().max_capacity(KNOWN).time_to_live(NOTE_EVERY).build(),
        }
    }

    /// The documents, to be listed and changed.
    pub(crate) fn documents(&self) -> &Documents {
        &self.documents
    }

    /// Forgets what is known of a token: it was changed through this replica.
    pub(crate) fn forget(&self, name: &TokenName) {
        self.known.invalidate(name);
    }

    /// The token's document, if a secret of this digest opens the API now.
    pub(super) async fn admit(
        &self,
        name: &TokenName,
        digest: &Digest,
    ) -> Result<Option<Arc<Versioned<TokenDocument>>>, Error> {
        let known = self.known.get(name).filter(|known| known.admits(digest));
        let found = match known {
            Some(known) if known.is_fresh() => Some(known),
            known => {
                let lane = if known.is_some() { &self.friends } else { &self.strangers };
                let read = timeout(PATIENCE, self.read(name, digest, lane)).await;
                read.map_err(|_elapsed| Error::Unavailable("no answer in time".to_owned()))??
            }
        };
        let Some(found) = found.filter(|found| found.admits(digest)) else { return Ok(None) };
        self.note_use(name, &found.document);
        Ok(Some(found.document))
    }

    async fn read(
        &self,
        name: &TokenName,
        digest: &Digest,
        lane: &Semaphore,
    ) -> Result<Option<Known>, Error> {
        let _lane = lane.acquire().await;
        // Somebody else with the same token may have been in front.
        if let Some(known) = self.known.get(name).filter(|known| known.is_fresh() && known.admits(digest)) {
            return Ok(Some(known));
        }
        let at = Instant::now();
        match self.documents.read(name).await {
            Ok(Some(document)) => {
                let known = Known { document: Arc::new(document), at };
                self.known.insert(name.clone(), known.clone());
                Ok(Some(known))
            }
            Ok(None) => {
                self.known.invalidate(name);
                Ok(None)
            }
            Err(error) if error.is_final() => {
                tracing::error!(token = %name, %error, "A token is refused because its document cannot be read.");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Notes the use of a token, coarsely, and in nobody's way.
    fn note_use(&self, name: &TokenName, found: &Arc<Versioned<TokenDocument>>) {
        let now = Timestamp::now();
        let due = found.value.last_used_at.is_none_or(|last| {
            now.duration_since(last) >= SignedDuration::try_from(NOTE_EVERY).unwrap_or(SignedDuration::MAX)
        });
        if !due || !self.noted.entry_by_ref(name).or_insert(()).is_fresh() {
            return;
        }
        let (documents, name, found) = (self.documents.clone(), name.clone(), Arc::clone(found));
        tokio::spawn(async move {
            if let Err(error) = documents.note_use(&name, &found, now).await {
                tracing::debug!(token = %name, %error, "A token's last use is not noted.");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use bivouac_ledger::memory::MemoryLedger;
    use bivouac_protocol::token::{Scope, Token};

    use super::*;

    async fn new(name: &str) -> (Named, Token) {
        let named = Named::new(Arc::new(MemoryLedger::new()));
        let token = Token::random(name.parse().unwrap());
        let document = TokenDocument {
            revision: 1,
            digest: token.digest(),
            previous: None,
            scope: Scope::all(),
            created_at: Timestamp::now(),
            created_by: super::super::bootstrap::name(),
            expires_at: None,
            rotated_at: None,
            last_used_at: None,
        };
        assert!(named.documents.create(&token.name, &document).await.unwrap());
        (named, token)
    }

    async fn admits(named: &Named, token: &Token) -> bool {
        named.admit(&token.name, &token.digest()).await.unwrap().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn a_revocation_elsewhere_is_known_a_second_later() {
        let (named, token) = new("ci").await;
        assert!(admits(&named, &token).await);
        named.documents.revoke(&token.name, |_| true).await.unwrap();
        assert!(admits(&named, &token).await, "what was read is believed for a moment");
        tokio::time::advance(FRESH).await;
        assert!(!admits(&named, &token).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_revocation_here_is_known_at_once() {
        let (named, token) = new("ci").await;
        assert!(admits(&named, &token).await);
        named.documents.revoke(&token.name, |_| true).await.unwrap();
        named.forget(&token.name);
        assert!(!admits(&named, &token).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_is_looked_up_again() {
        let (named, token) = new("ci").await;
        let next = Token::random(token.name.clone());
        assert!(admits(&named, &token).await && !admits(&named, &next).await);
        let now = Timestamp::now();
        let rotation = bivouac_ledger::tokens::Rotation {
            digest: next.digest(),
            overlap_until: now,
            expires_at: None,
            at: now,
        };
        named.documents.rotate(&token.name, &rotation, |_| true).await.unwrap();
        assert!(admits(&named, &next).await, "a new secret works at once");
        assert!(!admits(&named, &token).await, "and the old one not any more");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_use_is_noted_once_in_a_while() {
        let (named, token) = new("ci").await;
        for _ in 0..3 {
            assert!(admits(&named, &token).await);
            tokio::time::advance(FRESH).await;
            tokio::task::yield_now().await;
        }
        let document = named.documents.read(&token.name).await.unwrap().unwrap().value;
        assert_eq!(document.revision, 2);
        assert!(document.last_used_at.is_some());
    }
}
