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

/// The secrets of the links: the first is in force, all are accepted. Two of them are a rotation under way.
#[derive(Debug, Clone)]
pub struct LinkSecrets {
    first: SecretString,
    others: Vec<SecretString>,
}

impl LinkSecrets {
    /// One on each line, without the white space around it; `None` if there is none.
    #[must_use]
    pub fn of_text(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(SecretString::from);
        Some(Self { first: lines.next()?, others: lines.collect() })
    }

    /// The one to prove with if nothing is known of what the other end knows.
    #[must_use]
    pub fn first(&self) -> &SecretString {
        &self.first
    }

    /// All that are accepted, the one in force first.
    pub fn all(&self) -> impl Iterator<Item = &SecretString> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The one with which `end` has proved itself, if it knows any of them. Each is compared in constant time, and which
    /// one it was is no secret.
    #[must_use]
    pub fn proved(
        &self,
        proof: &Proof,
        end: End,
        proxys: &Challenge,
        services: &Challenge,
    ) -> Option<&SecretString> {
        self.all().find(|secret| proof.is(&Proof::make(secret, end, proxys, services)))
    }
}

impl From<SecretString> for LinkSecrets {
    fn from(secret: SecretString) -> Self {
        Self { first: secret, others: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn during_a_rotation_either_secret_is_a_proof() {
        let (a, b) = (Challenge::random(), Challenge::random());
        let secrets = LinkSecrets::of_text("new\n\n  old \n").unwrap();
        let proves = |secret: &str| {
            let proof = Proof::make(&SecretString::from(secret), End::Proxy, &a, &b);
            secrets.proved(&proof, End::Proxy, &a, &b).is_some()
        };
        assert_eq!((proves("new"), proves("old"), proves("older")), (true, true, false));
        assert!(proves(secrecy::ExposeSecret::expose_secret(secrets.first())));
        assert!(LinkSecrets::of_text(" \n\n").is_none());
    }

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
