//! Names: what a caller may write. The only place that knows these grammars.

mod made;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use made::cluster_fingerprint;

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
