//! The cookie that a link is swapped for.
//!
//! A URL leaks more easily than a cookie: so the ticket of a link alone is no cookie. The proxies tag it with a key that
//! they share, and only what bears the tag is let in.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bivouac_protocol::proof::LinkSecrets;
use bivouac_protocol::ticket::Claims;
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// Its name without TLS.
const PLAIN: &str = "bivouac";
/// Its name with TLS: a browser takes it from this very host alone, and never from a page of another session.
const SECURE: &str = "__Host-bivouac";
/// Between ticket and tag; no part of a ticket.
const SEPARATOR: char = '~';

/// Our cookie's name.
pub(super) fn name(secure: bool) -> &'static str {
    if secure { SECURE } else { PLAIN }
}

/// The keys of tags: those of all link secrets that are in force, the first one makes them.
pub(super) struct Tags(Vec<Hmac<Sha256>>);

/// Why a cookie is not one that we made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Untagged {
    /// It has no tag: a ticket that was made for another way in.
    Without,
    /// Its tag is wrong.
    Wrong,
}

impl Tags {
    pub(super) fn new(secrets: &LinkSecrets) -> Self {
        Self(secrets.all().filter_map(key).collect())
    }

    /// The whole value of `Set-Cookie` for this ticket.
    pub(super) fn set_cookie(&self, text: &str, claims: &Claims, secure: bool, now: Timestamp) -> String {
        let tag = self.0.first().map(|key| URL_SAFE_NO_PAD.encode(tagged(key, text).finalize().into_bytes()));
        let (name, tag) = (name(secure), tag.unwrap_or_default());
        let lifetime = claims.exp.saturating_sub(now.as_second()).max(0);
        let flag = if secure { " Secure;" } else { "" };
        format!("{name}={text}{SEPARATOR}{tag}; Path=/;{flag} HttpOnly; SameSite=Lax; Max-Age={lifetime}")
    }

    /// The ticket in a cookie's value.
    pub(super) fn ticket<'a>(&self, value: &'a str) -> Result<&'a str, Untagged> {
        let (text, tag) = value.split_once(SEPARATOR).ok_or(Untagged::Without)?;
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| Untagged::Wrong)?;
        // In constant time.
        let known = self.0.iter().any(|key| tagged(key, text).verify_slice(&tag).is_ok());
        if known { Ok(text) } else { Err(Untagged::Wrong) }
    }
}

fn key(secret: &SecretString) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).ok()?;
    mac.update(b"bivouac cookie");
    Hmac::new_from_slice(&mac.finalize().into_bytes()).ok()
}

fn tagged(key: &Hmac<Sha256>, text: &str) -> Hmac<Sha256> {
    let mut mac = key.clone();
    mac.update(text.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use bivouac_protocol::Span;
    use bivouac_protocol::ticket::Use;

    use super::*;

    fn tags(secrets: &str) -> Tags {
        Tags::new(&LinkSecrets::of_text(secrets).unwrap())
    }

    fn made(tags: &Tags, secure: bool) -> String {
        let now = Timestamp::from_second(1000).unwrap();
        let claims = Claims::new(&"a".repeat(20).parse().unwrap(), Use::Enter, now, Span::seconds(60));
        tags.set_cookie("a.b.c", &claims, secure, now)
    }

    fn value(set_cookie: &str) -> &str {
        set_cookie.split([';']).next().unwrap().split_once('=').unwrap().1
    }

    #[test]
    fn what_was_set_is_known_again_by_whoever_shares_a_secret() {
        let cookie = made(&tags("old"), false);
        assert_eq!(tags("new\nold").ticket(value(&cookie)), Ok("a.b.c"));
        assert_eq!(tags("new").ticket(value(&cookie)), Err(Untagged::Wrong));
    }

    #[test]
    fn a_ticket_alone_is_no_cookie() {
        let tags = tags("secret");
        assert_eq!(tags.ticket("a.b.c"), Err(Untagged::Without));
        for wrong in ["a.b.c~", "a.b.c~AAAA", "a.b.c~~", "~"] {
            assert_eq!(tags.ticket(wrong), Err(Untagged::Wrong), "{wrong}");
        }
        let other = made(&tags, false).replace("a.b.c", "a.b.d");
        assert_eq!(tags.ticket(value(&other)), Err(Untagged::Wrong));
    }

    #[test]
    fn with_tls_it_belongs_to_its_host_alone() {
        let cookie = made(&tags("secret"), true);
        assert!(cookie.starts_with("__Host-bivouac=a.b.c~"), "{cookie}");
        assert!(cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=60"), "{cookie}");
        let plain = made(&tags("secret"), false);
        assert!(plain.starts_with("bivouac=") && !plain.contains("Secure"), "{plain}");
    }
}
