//! The keys of tickets: one that signs follows from a secret, and those that verify are for everybody.

use std::collections::HashMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use jsonwebtoken::{DecodingKey, EncodingKey};
use ring::signature::{Ed25519KeyPair, KeyPair};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::mac;

/// Bytes of a key's digest that name it: 16 characters.
const ID_BYTES: usize = 10;
/// The fewest characters of a secret that keys are made of.
const SHORTEST_SECRET: usize = 32;

/// Signs tickets.
pub struct SigningKey {
    id: String,
    public: PublicKey,
    encoding: EncodingKey,
}

/// Text that is not a key, or a secret that is too short to make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Not a public key.
    #[error("must be 43 characters of base64url")]
    Form,
    /// Whoever has a ticket could try secrets out.
    #[error("a ticket secret must have at least {SHORTEST_SECRET} characters")]
    ShortSecret,
}

impl SigningKey {
    /// The key that follows from a secret: the same wherever the secret is the same.
    ///
    /// # Errors
    /// When the secret is too short.
    pub fn of_secret(secret: &SecretString) -> Result<Self, InvalidKey> {
        if secret.expose_secret().chars().count() < SHORTEST_SECRET {
            return Err(InvalidKey::ShortSecret);
        }
        let mut seed = mac::keyed(secret);
        seed.update(b"bivouac ticket key");
        let seed = seed.finalize().into_bytes();
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| InvalidKey::Form)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| InvalidKey::Form)?;
        let public = PublicKey(public);
        Ok(Self { id: public.id(), public, encoding: EncodingKey::from_ed_der(&seed) })
    }

    /// The `kid` of what it signs.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What its signatures are checked with.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(super) fn encoding(&self) -> &EncodingKey {
        &self.encoding
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

/// Checks signatures; opens nothing. In JSON its text in base64url.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Its name, which follows from it.
    #[must_use]
    pub fn id(&self) -> String {
        let digest = Sha256::digest(self.0);
        data_encoding::BASE32_NOPAD.encode(&digest[..ID_BYTES]).to_ascii_lowercase()
    }
}

impl TryFrom<String> for PublicKey {
    type Error = InvalidKey;
    fn try_from(text: String) -> Result<Self, InvalidKey> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidKey::Form)?;
        bytes.try_into().map(Self).map_err(|_| InvalidKey::Form)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        URL_SAFE_NO_PAD.encode(key.0)
    }
}

/// All keys whose tickets are good.
#[derive(Default)]
pub struct KeyRing(HashMap<String, DecodingKey>);

impl KeyRing {
    /// Whether there is none: no ticket can be checked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, id: &str) -> Option<&DecodingKey> {
        self.0.get(id)
    }
}

impl<'a> FromIterator<&'a PublicKey> for KeyRing {
    fn from_iter<I: IntoIterator<Item = &'a PublicKey>>(keys: I) -> Self {
        Self(keys.into_iter().map(|key| (key.id(), DecodingKey::from_ed_der(&key.0))).collect())
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
