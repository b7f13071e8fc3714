//! How both ends of a link show that they know the link secret without saying it.

use hmac::Mac;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::mac;

/// A random text that the other end has to answer with its [`Proof`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Challenge(pub String);

impl Challenge {
    /// 160 random bits.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0u8; 20];
        rand::RngCore::fill_bytes(&mut rand::rng(), &mut bytes);
        Self(data_encoding::BASE32_NOPAD.encode(&bytes))
    }
}

/// Which end proves. Part of the digest, so that an end's own proof cannot be reflected at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The proxy.
    Proxy,
    /// The service replica.
    Service,
}

/// HMAC-SHA256 over the other end's challenge and one's own.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Proof(String);

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proof(…)")
    }
}

impl Proof {
    /// What `end` answers, given both challenges.
    #[must_use]
    pub fn make(secret: &SecretString, end: End, proxys: &Challenge, services: &Challenge) -> Self {
        let mut mac = mac::keyed(secret);
        let role = match end {
            End::Proxy => "bivouac link proxy",
            End::Service => "bivouac link service",
        };
        for part in [role, &proxys.0, &services.0] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        Self(data_encoding::BASE32_NOPAD.encode(&mac.finalize().into_bytes()))
    }

    /// Whether this is the expected proof, compared in constant time.
    #[must_use]
    pub fn is(&self, expected: &Proof) -> bool {
        self.0.as_bytes().ct_eq(expected.0.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_one_end_one_secret_and_one_pair_of_challenges() {
        let (a, b) = (Challenge::random(), Challenge::random());
        let (good, bad) = (SecretString::from("good"), SecretString::from("bad"));
        let proof = Proof::make(&good, End::Proxy, &a, &b);
        assert!(proof.is(&Proof::make(&good, End::Proxy, &a, &b)));
        assert!(!proof.is(&Proof::make(&bad, End::Proxy, &a, &b)), "another secret");
        assert!(!proof.is(&Proof::make(&good, End::Service, &a, &b)), "reflected");
        assert!(!proof.is(&Proof::make(&good, End::Proxy, &b, &a)), "challenges swapped");
    }
}
