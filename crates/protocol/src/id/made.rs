//! Ids that are made here, drawn at random or derived from a secret, and the names that follow from them.

use hmac::Mac;
use secrecy::SecretString;

use super::{AllocationId, BootId, Generation, IdempotencyKey, Key, Namespace, Nonce, SessionId};
use crate::mac;

impl SessionId {
    /// Characters in an id; a hostname is parsed as "the last 20 characters of the first label".
    pub const LENGTH: usize = 20;

    /// A new id for a session without a key: 100 random bits.
    #[must_use]
    pub fn random() -> Self {
        Self(random_token(104)[..Self::LENGTH].into())
    }

    /// The permanent id of a key: stable, and not guessable without the cluster secret.
    #[must_use]
    pub fn keyed(secret: &SecretString, namespace: &Namespace, key: &Key) -> Self {
        let digest = keyed_digest(secret, &["key", namespace.as_str(), key.as_str()]);
        Self(base32_lower(&digest)[..Self::LENGTH].into())
    }

    /// The id of an un-keyed session that was spawned with an idempotency key: the same for each repetition by the same
    /// caller (the name of its token), and another one for anybody else.
    #[must_use]
    pub fn idempotent(
        secret: &SecretString,
        caller: &str,
        namespace: &Namespace,
        key: &IdempotencyKey,
    ) -> Self {
        let digest = keyed_digest(secret, &["idem", caller, namespace.as_str(), key.as_str()]);
        Self(base32_lower(&digest)[..Self::LENGTH].into())
    }

    /// Name of this session's services in Consul.
    #[must_use]
    pub fn service_name(&self) -> String {
        format!("session-{self}")
    }

    /// Nomad job id of one generation. It carries the generation so that a late registration or deletion by a
    /// paused replica can never touch a successor.
    #[must_use]
    pub fn job_id(&self, generation: Generation) -> String {
        format!("session-{self}-{generation}")
    }

    /// The reverse of [`SessionId::job_id`]; `None` for any other job.
    #[must_use]
    pub fn from_job_id(job_id: &str) -> Option<(Self, Generation)> {
        let (id, generation) = job_id.strip_prefix("session-")?.split_once('-')?;
        Some((id.parse().ok()?, generation.parse().ok()?))
    }
}

/// A fingerprint of the cluster secret that is safe to show: it marks the jobs, and the ledger, of one installation.
#[must_use]
pub fn cluster_fingerprint(secret: &SecretString) -> String {
    base32_lower(&keyed_digest(secret, &["cluster"]))[..12].to_owned()
}

fn keyed_digest(secret: &SecretString, parts: &[&str]) -> [u8; 32] {
    let mut mac = mac::keyed(secret);
    for (n, part) in parts.iter().enumerate() {
        if n > 0 {
            mac.update(&[0]);
        }
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().into()
}

impl BootId {
    /// A new boot: 60 random bits.
    #[must_use]
    pub fn random() -> Self {
        Self(random_token(64)[..12].into())
    }
}

impl Nonce {
    /// A new nonce: 80 random bits.
    #[must_use]
    pub fn random() -> Self {
        Self(random_token(80).into())
    }
}

impl AllocationId {
    /// An id for a child process of the embedded mode.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("local-{}", &random_token(64)[..12]).into())
    }
}

fn base32_lower(bytes: &[u8]) -> String {
    data_encoding::BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

fn random_token(bits: usize) -> String {
    let mut bytes = vec![0u8; bits.div_ceil(8)];
    rand::RngCore::fill_bytes(&mut rand::rng(), &mut bytes);
    base32_lower(&bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(text: &str) -> SecretString {
        text.to_owned().into()
    }

    #[test]
    fn a_key_always_leads_to_the_same_id_and_only_in_its_namespace() {
        let (a, b): (Namespace, Namespace) = ("a".parse().unwrap(), "b".parse().unwrap());
        let key: Key = "doc-42".parse().unwrap();
        let id = SessionId::keyed(&secret("s"), &a, &key);
        assert_eq!(id, SessionId::keyed(&secret("s"), &a, &key));
        assert_ne!(id, SessionId::keyed(&secret("s"), &b, &key));
        assert_ne!(id, SessionId::keyed(&secret("t"), &a, &key));
    }

    #[test]
    fn an_idempotency_key_leads_to_one_id_for_each_caller_and_namespace() {
        let (a, b): (Namespace, Namespace) = ("a".parse().unwrap(), "b".parse().unwrap());
        let key: IdempotencyKey = "order-42".parse().unwrap();
        let id = SessionId::idempotent(&secret("s"), "ci", &a, &key);
        assert_eq!(id, SessionId::idempotent(&secret("s"), "ci", &a, &key));
        assert_ne!(id, SessionId::idempotent(&secret("s"), "cd", &a, &key));
        assert_ne!(id, SessionId::idempotent(&secret("s"), "ci", &b, &key));
        assert_ne!(id, SessionId::keyed(&secret("s"), &a, &"order-42".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn a_random_id_survives_its_job_id(generation in 1u64..) {
            let id = SessionId::random();
            let job = id.job_id(Generation(generation));
            prop_assert_eq!(SessionId::from_job_id(&job), Some((id, Generation(generation))));
        }
    }
}
