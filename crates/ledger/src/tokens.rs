//! API tokens: one document each, changed by check-and-set. What stands in the ledger opens nothing: it has digests only.

use std::sync::Arc;

use bivouac_protocol::TokenName;
use bivouac_protocol::token::{Digest, Previous, TokenDocument};
use jiff::Timestamp;

use crate::document::{Versioned, decode, encode};
use crate::{Error, Ledger, Op, Transaction};

/// Where the documents live, below the ledger's prefix.
pub const PREFIX: &str = "tokens/";

/// The tokens of this ledger.
#[derive(Clone)]
pub struct Tokens {
    ledger: Arc<dyn Ledger>,
}

/// The key of a token's document.
#[must_use]
pub fn key(name: &TokenName) -> String {
    format!("{PREFIX}{name}")
}

/// What a rotation puts in place of what was.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Digest of the new secret.
    pub digest: Digest,
    /// Until when the old secret is accepted.
    pub overlap_until: Timestamp,
    /// A new end, if the token is to have another one.
    pub expires_at: Option<Timestamp>,
    /// Now.
    pub at: Timestamp,
}

impl Tokens {
    /// The tokens of this ledger.
    #[must_use]
    pub fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger }
    }

    /// A consistent read.
    ///
    /// # Errors
    /// When the ledger does not answer, or the document cannot be read.
    pub async fn read(&self, name: &TokenName) -> Result<Option<Versioned<TokenDocument>>, Error> {
        self.ledger.read(&key(name)).await?.map(|entry| decode(&entry)).transpose()
    }

    /// All tokens whose documents can be read, by name. Lists only add: nothing follows from a token's absence.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn list(&self) -> Result<Vec<(TokenName, TokenDocument)>, Error> {
        let mut tokens = Vec::new();
        for entry in self.ledger.list(PREFIX).await? {
            let name = entry.key.strip_prefix(PREFIX).and_then(|name| name.parse().ok());
            match (name, decode::<TokenDocument>(&entry)) {
                (Some(name), Ok(document)) => tokens.push((name, document.value)),
                (_, Err(error)) => tracing::error!(%error, "A token is left out of the list."),
                (None, _) => {}
            }
        }
        Ok(tokens)
    }

    /// Writes a new token. `false`: there is one of this name.
    ///
    /// # Errors
    /// When the ledger does not answer; it may have been written or not.
    pub async fn create(&self, name: &TokenName, document: &TokenDocument) -> Result<bool, Error> {
        let key = key(name);
        let put = Op::Put { value: encode(&key, document)?, key, index: 0 };
        Ok(matches!(self.ledger.transact(vec![put]).await?, Transaction::Applied(_)))
    }

    /// Gives a token another secret, if it is still as `may` says it has to be. `None`: there is none, or it is not.
    ///
    /// # Errors
    /// When the ledger does not answer; it may have been written or not.
    pub async fn rotate(
        &self,
        name: &TokenName,
        rotation: &Rotation,
        may: impl Fn(&TokenDocument) -> bool,
    ) -> Result<Option<TokenDocument>, Error> {
        let key = key(name);
        loop {
            let Some(found) = self.read(name).await?.filter(|found| may(&found.value)) else {
                return Ok(None);
            };
            let next = rotated(&found.value, rotation);
            let put = Op::Put { key: key.clone(), value: encode(&key, &next)?, index: found.index };
            if let Transaction::Applied(_) = self.ledger.transact(vec![put]).await? {
                return Ok(Some(next));
            }
        }
    }

    /// Removes a token, if it is as `may` says it has to be. `false`: there is none, or it is not.
    ///
    /// # Errors
    /// When the ledger does not answer; it may have been removed or not.
    pub async fn revoke(
        &self,
        name: &TokenName,
        may: impl Fn(&TokenDocument) -> bool,
    ) -> Result<bool, Error> {
        loop {
            let Some(found) = self.read(name).await?.filter(|found| may(&found.value)) else {
                return Ok(false);
            };
            let delete = Op::Delete { key: key(name), index: found.index };
            if let Transaction::Applied(_) = self.ledger.transact(vec![delete]).await? {
                return Ok(true);
            }
        }
    }

    /// Notes that a token was shown. One attempt: if somebody changed it meanwhile, or revoked it, the next use notes it.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn note_use(
        &self,
        name: &TokenName,
        found: &Versioned<TokenDocument>,
        at: Timestamp,
    ) -> Result<(), Error> {
        let key = key(name);
        let next = TokenDocument {
            revision: found.value.revision + 1,
            last_used_at: Some(at),
            ..found.value.clone()
        };
        let put = Op::Put { value: encode(&key, &next)?, key, index: found.index };
        self.ledger.transact(vec![put]).await.map(drop)
    }
}

/// The document with another secret; the one before is accepted for a while longer, and none before that.
fn rotated(document: &TokenDocument, rotation: &Rotation) -> TokenDocument {
    let previous = (rotation.overlap_until > rotation.at)
        .then_some(Previous { digest: document.digest, until: rotation.overlap_until });
    TokenDocument {
        revision: document.revision + 1,
        digest: rotation.digest,
        previous,
        rotated_at: Some(rotation.at),
        expires_at: rotation.expires_at.or(document.expires_at),
        ..document.clone()
    }
}

#[cfg(test)]
mod tests {
    use bivouac_protocol::token::{Scope, Token};

    use super::*;
    use crate::memory::MemoryLedger;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn new() -> (Tokens, Token, TokenDocument) {
        let token = Token::random("ci".parse().unwrap());
        let document = TokenDocument {
            revision: 1,
            digest: token.digest(),
            previous: None,
            scope: Scope::all(),
            created_at: at(0),
            created_by: "bootstrap".parse().unwrap(),
            expires_at: Some(at(100)),
            rotated_at: None,
            last_used_at: None,
        };
        (Tokens::new(Arc::new(MemoryLedger::new())), token, document)
    }

    #[tokio::test]
    async fn a_name_is_given_once_and_free_again_after_a_revocation() {
        let (tokens, token, document) = new();
        assert!(tokens.create(&token.name, &document).await.unwrap());
        assert!(!tokens.create(&token.name, &document).await.unwrap());
        assert_eq!(tokens.list().await.unwrap(), [(token.name.clone(), document.clone())]);
        assert!(!tokens.revoke(&token.name, |_| false).await.unwrap());
        assert!(tokens.revoke(&token.name, |_| true).await.unwrap());
        assert!(!tokens.revoke(&token.name, |_| true).await.unwrap());
        assert!(tokens.create(&token.name, &document).await.unwrap());
    }

    #[tokio::test]
    async fn a_rotation_keeps_one_secret_more_for_a_while() {
        let (tokens, first, document) = new();
        tokens.create(&first.name, &document).await.unwrap();
        let (second, third) = (Token::random(first.name.clone()), Token::random(first.name.clone()));
        let rotate = async |token: &Token, overlap_until, expires_at| {
            let rotation = Rotation { digest: token.digest(), overlap_until, expires_at, at: at(10) };
            tokens.rotate(&token.name, &rotation, |_| true).await.unwrap().unwrap()
        };
        let once = rotate(&second, at(20), None).await;
        assert!(once.admits(&first.digest(), at(19)) && once.admits(&second.digest(), at(19)));
        assert_eq!((once.revision, once.expires_at), (2, Some(at(100))));
        let twice = rotate(&third, at(10), Some(at(200))).await;
        assert!(!twice.admits(&first.digest(), at(11)) && !twice.admits(&second.digest(), at(11)));
        assert!(twice.admits(&third.digest(), at(199)));
    }

    #[tokio::test]
    async fn a_use_noted_late_brings_no_revoked_token_back() {
        let (tokens, token, document) = new();
        tokens.create(&token.name, &document).await.unwrap();
        let found = tokens.read(&token.name).await.unwrap().unwrap();
        tokens.note_use(&token.name, &found, at(5)).await.unwrap();
        let noted = tokens.read(&token.name).await.unwrap().unwrap();
        assert_eq!((noted.value.last_used_at, noted.value.revision), (Some(at(5)), 2));
        tokens.note_use(&token.name, &found, at(6)).await.unwrap();
        assert_eq!(tokens.read(&token.name).await.unwrap().unwrap(), noted, "the older copy changes nothing");
        tokens.revoke(&token.name, |_| true).await.unwrap();
        tokens.note_use(&token.name, &noted, at(7)).await.unwrap();
        assert_eq!(tokens.read(&token.name).await.unwrap(), None);
    }
}
