//! Names: what a caller may write, and what is derived from it. The only place that knows these grammars.

use std::fmt;
use std::str::FromStr;

use hmac::Mac;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::mac;

/// Text that does not have the form of the name it was given for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {rule}")]
pub struct InvalidId {
    /// Which kind of name was expected, as a person would call it.
    pub what: &'static str,
    /// The rule that the text breaks.
    pub rule: &'static str,
}

/// Declares a checked string: parsed once, at the edge, and never invalid afterwards.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The text as it was written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if $check(text) { Ok(Self(text.into())) } else { Err(InvalidId { what: $what, rule: $rule }) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A session's identity: a DNS label of 20 base32 characters (RFC 4648, lower case), 100 bits.
    SessionId,
    "session id",
    "must be 20 characters of a-z and 2-7",
    is_session_id
);
name!(
    /// A name that an application chose for a session ("doc-42"), unique within its [`Namespace`].
    Key,
    "key",
    "must be 1 to 256 characters, begin with a letter or digit and go on with letters, digits or any of . _ : @ / + = ~ -",
    is_key
);
name!(
    /// A tenant of the application: a DNS label. Never a Nomad namespace.
    Namespace,
    "namespace",
    "must be a DNS label: 1 to 63 of a-z, 0-9 and inner hyphens",
    is_dns_label
);
name!(
    /// The name of a template: the folder that holds it.
    TemplateName,
    "template name",
    "must be a DNS label: 1 to 63 of a-z, 0-9 and inner hyphens",
    is_dns_label
);
name!(
    /// The label of a port in a template's job. `xn` is forbidden: `xn--…` is reserved for internationalised names.
    PortLabel,
    "port label",
    "must be 1 to 40 of a-z, 0-9, inner hyphens and underscores, without '--', and not 'xn'",
    is_port_label
);
name!(
    /// Nomad's id of an allocation; in embedded mode the id of a child process.
    AllocationId,
    "allocation id",
    "must be 1 to 64 of a-z, 0-9 and hyphens",
    is_short_token
);
name!(
    /// One life of one proxy process. A proxy that starts again, or joins again, is another boot.
    BootId,
    "boot id",
    "must be 1 to 64 of a-z, 0-9 and hyphens",
    is_short_token
);
name!(
    /// The name of a lease: who asks for a session to be kept alive, or why.
    LeaseName,
    "lease name",
    "must be 1 to 64 characters, begin with a letter or digit and go on with letters, digits or any of . _ -",
    is_lease_name
);
name!(
    /// What a caller sends to make an un-keyed spawn safe to repeat.
    IdempotencyKey,
    "idempotency key",
    "must be 1 to 255 visible ASCII characters",
    is_idempotency_key
);
name!(
    /// The name of an API token: it stands in the token's text, in its document's key and in what it has spawned.
    TokenName,
    "token name",
    "must be a DNS label: 1 to 63 of a-z, 0-9 and inner hyphens",
    is_dns_label
);
name!(
    /// Tells two claims of the same generation apart, should an id ever be claimed twice.
    Nonce,
    "nonce",
    "must be 1 to 64 of a-z, 0-9 and hyphens",
    is_short_token
);

fn is_session_id(text: &str) -> bool {
    text.len() == SessionId::LENGTH && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'))
}

fn is_key(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:@/+=~-".contains(&b);
    (1..=256).contains(&text.len())
        && text.bytes().all(allowed)
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_port_label(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
        && text != "xn"
}

fn is_lease_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

fn is_idempotency_key(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

fn is_short_token(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

fn base32_lower(bytes: &[u8]) -> String {
    data_encoding::BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

fn random_token(bits: usize) -> String {
    let mut bytes = vec![0u8; bits.div_ceil(8)];
    rand::RngCore::fill_bytes(&mut rand::rng(), &mut bytes);
    base32_lower(&bytes)
}

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

/// A fingerprint of the cluster secret that is safe to show: it marks the jobs that belong to one installation.
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

impl Default for Namespace {
    fn default() -> Self {
        Self("default".into())
    }
}

/// Fencing number of a session's current run: from 1, strictly increasing, handed to the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation after both this one and the floor.
    #[must_use]
    pub fn next(previous: Option<Generation>, floor: Generation) -> Self {
        Self(previous.map_or(floor.0, |p| p.0.max(floor.0)) + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Generation {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let canonical = !text.starts_with(['0', '+']);
        text.parse()
            .ok()
            .filter(|_| canonical)
            .map(Generation)
            .ok_or(InvalidId { what: "generation", rule: "must be a whole number from 1" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    #[test]
    fn names_of_leases_and_idempotency_keys_have_a_form() {
        let long = "k".repeat(65);
        for name in ["", "-a", ".", "a/b", "a b", "a\n", "\u{e9}", "${x}", long.as_str()] {
            assert!(name.parse::<LeaseName>().is_err(), "{name:?} must be refused");
        }
        for name in ["deploy", "A.b_c-d", &"k".repeat(64)] {
            assert!(name.parse::<LeaseName>().is_ok(), "{name:?} must be accepted");
        }
        for key in ["", "a b", "a\tb", "\u{e9}", &"k".repeat(256)] {
            assert!(key.parse::<IdempotencyKey>().is_err(), "{key:?} must be refused");
        }
        for key in ["6f1c-\"x\"", "${x}/%{y}", &"k".repeat(255)] {
            assert!(key.parse::<IdempotencyKey>().is_ok(), "{key:?} must be accepted");
        }
    }

    #[test]
    fn hostile_keys_are_refused() {
        let long = "k".repeat(257);
        for key in ["", "../..", "a\0b", "${x}", "%{if}", "-a", "a b", "é", "a\nb", long.as_str()] {
            assert!(key.parse::<Key>().is_err(), "{key:?} must be refused");
        }
        for key in ["doc-42", "a/b:c@d", "A.b_c+d=e~f", &"k".repeat(256)] {
            assert!(key.parse::<Key>().is_ok(), "{key:?} must be accepted");
        }
    }

    #[test]
    fn the_next_generation_is_above_both_the_previous_and_the_floor() {
        assert_eq!(Generation::next(None, Generation(0)), Generation(1));
        assert_eq!(Generation::next(Some(Generation(3)), Generation(7)), Generation(8));
        assert_eq!(Generation::next(Some(Generation(9)), Generation(7)), Generation(10));
    }

    proptest! {
        #[test]
        fn a_random_id_survives_its_job_id(generation in 1u64..) {
            let id = SessionId::random();
            let job = id.job_id(Generation(generation));
            prop_assert_eq!(SessionId::from_job_id(&job), Some((id, Generation(generation))));
        }

        #[test]
        fn arbitrary_text_never_panics_and_never_passes_as_another_name(text in ".{0,80}") {
            if let Ok(id) = text.parse::<SessionId>() {
                prop_assert!(id.as_str().parse::<Namespace>().is_ok(), "every id is a DNS label");
            }
            if let Some((id, generation)) = SessionId::from_job_id(&text) {
                prop_assert_eq!(id.job_id(generation), text);
            }
        }
    }
}
