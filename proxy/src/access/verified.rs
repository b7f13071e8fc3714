//! Tickets whose signature was checked a moment ago: checking it again would cost more than all the rest of a request.
//! What changes with time (expiry, revocation) is looked at every time.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bivouac_protocol::ticket::{Claims, KeyRing, TicketError, open};
use moka::sync::Cache;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// So many tickets are remembered.
const CAPACITY: u64 = 10_000;
/// For so long, for keys are taken back.
const REMEMBER: Duration = Duration::from_secs(60);

/// A ticket with a good signature, and what a backend is told of it.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) claims: Claims,
    pub(super) user: Option<Arc<str>>,
    pub(super) more: Option<Arc<str>>,
}

/// The tickets, by the digests of their texts.
pub(super) struct Memory(Cache<[u8; 32], Arc<Verified>>);

impl Default for Memory {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(CAPACITY).time_to_live(REMEMBER).build())
    }
}

impl Memory {
    /// The ticket that this text is, by this ring.
    pub(super) fn open(&self, text: &str, ring: &KeyRing) -> Result<Arc<Verified>, TicketError> {
        let digest = Sha256::digest(text).into();
        if let Some(known) = self.0.get(&digest) {
            return Ok(known);
        }
        let claims = open(text, ring)?;
        let verified = Arc::new(Verified {
            user: claims.sub.as_deref().map(|user| header_text(user).into()),
            more: claims.claims.as_ref().map(|claims| ascii_json(claims).into()),
            claims,
        });
        self.0.insert(digest, verified.clone());
        Ok(verified)
    }

    /// Forgets all: another ring is in force.
    pub(super) fn clear(&self) {
        self.0.invalidate_all();
    }
}

/// A user's name as a field's value: whatever is not visible ASCII is percent-encoded, and so is `%`.
pub(super) fn header_text(user: &str) -> String {
    let mut text = String::with_capacity(user.len());
    for byte in user.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Compact JSON with nothing but visible ASCII and spaces in it.
fn ascii_json(claims: &Map<String, Value>) -> String {
    let json = serde_json::to_string(claims).unwrap_or_default();
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(c, ' '..='~') {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_written_so_that_no_two_are_the_same() {
        assert_eq!(header_text("ann@example.com"), "ann@example.com");
        assert_eq!(header_text("a b%20é\n"), "a%20b%2520%C3%A9%0A");
    }

    proptest! {
        #[test]
        fn claims_are_the_same_json_in_ascii(text in "\\PC{0,20}") {
            let claims = json!({ "name": text, "\u{1f3d5}": [1, null] });
            let written = ascii_json(claims.as_object().unwrap());
            prop_assert!(written.bytes().all(|b| (b' '..=b'~').contains(&b)));
            prop_assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), claims);
        }

        #[test]
        fn arbitrary_names_are_safe_in_a_field(name in "\\PC{0,40}", other in "\\PC{0,40}") {
            prop_assert!(header_text(&name).bytes().all(|b| b.is_ascii_graphic()));
            prop_assert_eq!(name == other, header_text(&name) == header_text(&other));
        }
    }
}
