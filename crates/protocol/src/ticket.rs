//! Tickets: who a user is, for one session and until when. The service signs them, proxies know the public keys alone.
//!
//! A ticket is a JWT with an Ed25519 signature. There are two kinds: a *bearer* ticket is shown with every request, until
//! it expires; a *link* stands in a URL, where it is good once and for a minute, for a cookie.

mod keys;
mod provider;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::id::{Nonce, SessionId};
use crate::span::Span;
pub use keys::{InvalidKey, KeyRing, PublicKey, SigningKey};

/// The longest text that is looked at, in bytes. With everything at its longest a ticket has less.
pub const MAX_TEXT: usize = 4096;
/// Longest time that a ticket may be good for.
pub const LONGEST: Span = Span::seconds(24 * 3600);
/// The most bytes that an application's claims may have, as compact JSON.
pub const MAX_CLAIMS: usize = 2048;
/// A link is good for so long after it was issued.
pub const LINK_WITHIN: SignedDuration = SignedDuration::from_secs(60);
/// Clocks that differ by more are broken.
const AHEAD_AT_MOST: SignedDuration = SignedDuration::from_secs(30);
/// Who issues tickets.
const ISSUER: &str = "bivouac";
/// Tells a ticket from the application's own tokens, whatever else is wrong with it.
const TYPE: &str = "bivouac+jwt";
/// The longest first part of a text that is looked at to find out whether it is a ticket.
const MAX_HEADER: usize = 512;

/// What a ticket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// To be shown with every request.
    Bearer,
    /// To stand in a URL, once.
    Enter,
}

/// What a ticket says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Always "bivouac".
    pub iss: String,
    /// The session that it opens, and no other.
    pub aud: SessionId,
    /// The user, as the application names them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// Its own name, by which a link is known to be used.
    pub jti: String,
    /// When it was issued: seconds of Unix time.
    pub iat: i64,
    /// The same in milliseconds: a revocation names a time.
    pub iat_ms: u64,
    /// From when on it opens nothing: seconds of Unix time.
    pub exp: i64,
    /// What it is for.
    #[serde(rename = "use")]
    pub kind: Use,
    /// What the application says about the user; handed to the backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Map<String, Value>>,
}

/// Why a text is no ticket that opens this session now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It does not have the form of one.
    #[error("the ticket does not have the form of one")]
    Malformed,
    /// It is not signed in the one way in which tickets are.
    #[error("the ticket is not signed with EdDSA")]
    Algorithm,
    /// It names a key that is none of ours.
    #[error("the ticket was not signed by a key of this installation")]
    UnknownKey,
    /// Its signature is not right.
    #[error("the ticket's signature is not right")]
    Signature,
    /// It opens another session.
    #[error("the ticket is for another session")]
    WrongSession,
    /// Its time is over.
    #[error("the ticket has expired")]
    Expired,
    /// It was issued in the future: one of two clocks is wrong.
    #[error("the ticket was issued in the future: compare the clocks of service and proxy")]
    NotYet,
}

/// A ticket could not be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a ticket cannot be signed: {0}")]
pub struct SignError(String);

impl Claims {
    /// What a new ticket says that is good from `now` on for `ttl`, rounded up to whole seconds.
    #[must_use]
    pub fn new(session: &SessionId, kind: Use, now: Timestamp, ttl: Span) -> Self {
        let ttl = SignedDuration::try_from(ttl.get()).unwrap_or(SignedDuration::MAX);
        let end = now.checked_add(ttl).unwrap_or(Timestamp::MAX).as_millisecond();
        Self {
            iss: ISSUER.to_owned(),
            aud: session.clone(),
            sub: None,
            jti: Nonce::random().to_string(),
            iat: now.as_second(),
            iat_ms: millis(now),
            exp: end.saturating_add(999).div_euclid(1000),
            kind,
            claims: None,
        }
    }

    /// Whether it opens this session now. Its signature was checked when it was opened.
    ///
    /// # Errors
    /// When it does not, with the reason.
    pub fn admit(&self, session: &SessionId, now: Timestamp) -> Result<(), TicketError> {
        if self.aud != *session {
            return Err(TicketError::WrongSession);
        }
        if self.exp <= now.as_second() {
            return Err(TicketError::Expired);
        }
        let latest = millis(now.checked_add(AHEAD_AT_MOST).unwrap_or(Timestamp::MAX));
        if self.iat_ms > latest { Err(TicketError::NotYet) } else { Ok(()) }
    }

    /// Whether it is a link that is still fresh enough to be swapped for a cookie.
    #[must_use]
    pub fn is_fresh_link(&self, now: Timestamp) -> bool {
        let age = millis(now).saturating_sub(self.iat_ms);
        self.kind == Use::Enter && u128::from(age) <= LINK_WITHIN.as_millis().unsigned_abs()
    }

    /// When it expires.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        Timestamp::from_second(self.exp).unwrap_or(Timestamp::MAX)
    }
}

/// Milliseconds of Unix time; 0 before 1970.
#[must_use]
pub fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}

/// Signs a ticket.
///
/// # Errors
/// When its claims cannot be written.
pub fn sign(claims: &Claims, key: &SigningKey) -> Result<SecretString, SignError> {
    provider::install();
    let header = Header {
        typ: Some(TYPE.to_owned()),
        kid: Some(key.id().to_owned()),
        ..Header::new(Algorithm::EdDSA)
    };
    let signed = jsonwebtoken::encode(&header, claims, key.encoding());
    signed.map(SecretString::from).map_err(|error| SignError(error.to_string()))
}

/// Reads a ticket and checks its signature, and nothing that changes with time: what it says may be remembered.
///
/// # Errors
/// When no key of the ring has signed it.
pub fn open(text: &str, ring: &KeyRing) -> Result<Claims, TicketError> {
    if text.len() > MAX_TEXT {
        return Err(TicketError::Malformed);
    }
    let marks = Marks::of(text).ok_or(TicketError::Malformed)?;
    if marks.alg != "EdDSA" {
        return Err(TicketError::Algorithm);
    }
    let key = marks.kid.and_then(|kid| ring.get(&kid)).ok_or(TicketError::UnknownKey)?;
    provider::install();
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.required_spec_claims.clear();
    // Both read the clock, or know no session: `Claims::admit` does it.
    (validation.validate_exp, validation.validate_aud) = (false, false);
    let opened = jsonwebtoken::decode::<Claims>(text, key, &validation);
    let claims = opened.map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature => TicketError::Signature,
        ErrorKind::InvalidAlgorithm => TicketError::Algorithm,
        _ => TicketError::Malformed,
    })?;
    if claims.claims.iss == ISSUER && claims.header.typ.as_deref() == Some(TYPE) {
        Ok(claims.claims)
    } else {
        Err(TicketError::Malformed)
    }
}

/// Reads a ticket that has to open this session now.
///
/// # Errors
/// When it does not, with the reason.
pub fn verify(
    text: &str,
    ring: &KeyRing,
    session: &SessionId,
    now: Timestamp,
) -> Result<Claims, TicketError> {
    let claims = open(text, ring)?;
    claims.admit(session, now)?;
    Ok(claims)
}

/// Whether a text wants to be a ticket, be it a bad one: then it is judged as one and never handed to a backend. An
/// application's own tokens do not look like that.
#[must_use]
pub fn looks_like_ours(text: &str, ring: &KeyRing) -> bool {
    Marks::of(text).is_some_and(|marks| {
        marks.typ.as_deref() == Some(TYPE) || marks.kid.is_some_and(|kid| ring.get(&kid).is_some())
    })
}

/// What a JWT says about itself.
#[derive(Deserialize)]
struct Marks {
    #[serde(default)]
    alg: String,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    kid: Option<String>,
}

impl Marks {
    fn of(text: &str) -> Option<Self> {
        let header = text.split('.').next().filter(|header| header.len() <= MAX_HEADER)?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()
    }
}

#[cfg(test)]
mod tests;
