//! API tokens: how one is written, what it permits, and what the ledger keeps of it.
//!
//! A token's text is `bvk_<name>_<43 base64url characters>`: the name finds its document, the rest is 256 random bits,
//! of which the document keeps a SHA-256 digest. Random bits need no slow digest: there is nothing to guess.

mod scope;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};

pub use crate::id::TokenName;
pub use scope::{Glob, InvalidGlob, InvalidScope, InvalidVerb, PATTERNS, Scope, Verb};

/// What every token begins with: secret scanners find it by that.
const PREFIX: &str = "bvk_";
/// Characters of the secret part: 32 bytes in base64url without padding.
const SECRET_LENGTH: usize = 43;

/// A token as its holder has it.
#[derive(Debug, Clone)]
pub struct Token {
    /// Names its document; no secret.
    pub name: TokenName,
    secret: SecretString,
}

/// Text that is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must have the form bvk_NAME_SECRET")]
pub struct InvalidToken;

impl Token {
    /// A new token of this name.
    #[must_use]
    pub fn random(name: TokenName) -> Self {
        let mut bytes = [0u8; 32];
        rand::RngCore::fill_bytes(&mut rand::rng(), &mut bytes);
        Self { name, secret: URL_SAFE_NO_PAD.encode(bytes).into() }
    }

    /// Reads a token's text.
    ///
    /// # Errors
    /// When it does not have the form of one; nothing of it is repeated.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        // A name has no underscore, the secret may have.
        let (name, secret) =
            text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).ok_or(InvalidToken)?;
        let is_secret = secret.len() == SECRET_LENGTH
            && secret.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if !is_secret {
            return Err(InvalidToken);
        }
        Ok(Self { name: name.parse().map_err(|_| InvalidToken)?, secret: secret.to_owned().into() })
    }

    /// Its text, to be given to its holder once and to be kept by nobody else.
    #[must_use]
    pub fn text(&self) -> SecretString {
        format!("{PREFIX}{}_{}", self.name, self.secret.expose_secret()).into()
    }

    /// What the ledger keeps in place of the secret.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.secret.expose_secret())
    }
}

/// SHA-256 of a secret; in JSON its hexadecimal text.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of this text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Compares in a time that does not depend on how much agrees.
    #[must_use]
    pub fn is(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.is(other).into()
    }
}

impl Eq for Digest {}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;
    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| InvalidDigest)?;
        bytes.try_into().map(Self).map_err(|_| InvalidDigest)
    }
}

/// Text that is not a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 64 hexadecimal digits in lower case")]
pub struct InvalidDigest;

/// A token's document in the ledger, `tokens/<name>`. Changed only by check-and-set; every write raises `revision`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenDocument {
    /// Raised by every write.
    pub revision: u64,
    /// Digest of the secret part.
    pub digest: Digest,
    /// The secret before the last rotation, for as long as it is still accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// What it permits.
    #[serde(flatten)]
    pub scope: Scope,
    /// When it was made.
    pub created_at: Timestamp,
    /// The token by which it was made.
    pub created_by: TokenName,
    /// From when on it is refused; never, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When its secret was replaced last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_at: Option<Timestamp>,
    /// When it was shown last, to within some minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
}

/// A secret that is on its way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// Digest of the secret part.
    pub digest: Digest,
    /// Until when it is accepted.
    pub until: Timestamp,
}

impl TokenDocument {
    /// Whether a secret of this digest opens the API now. Looks at all there is, whatever agrees.
    #[must_use]
    pub fn admits(&self, digest: &Digest, now: Timestamp) -> bool {
        let current = self.digest.is(digest);
        let previous = self.previous.as_ref().map_or(Choice::from(0), |previous| {
            previous.digest.is(digest) & Choice::from(u8::from(now < previous.until))
        });
        bool::from(current | previous) && !self.has_expired(now)
    }

    /// Whether its time is over.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

#[cfg(test)]
mod tests;
