//! Tickets: signed here, for whoever may ask for them, and checked by proxies.
//!
//! The private keys follow from secrets in a file and are nowhere else; of the ledger's list of public keys this replica
//! vouches for its own.

mod secrets;

use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::Ledger;
use bivouac_ledger::tickets::Tickets;
use bivouac_protocol::ticket::{Claims, LINK_WITHIN, SignError, Use, sign};
use bivouac_protocol::{SessionId, Span};
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Map, Value};

pub use secrets::{TicketSecretError, TicketSecrets};

/// How often the list of public keys is looked at: it is written a few times an hour.
const VOUCH_EVERY: Duration = Duration::from_secs(30);
/// Pause after the ledger did not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// How often used links are swept up.
const SWEEP_EVERY: u32 = 20;

/// Signs tickets.
pub struct Issuer {
    secrets: TicketSecrets,
    tickets: Tickets,
}

/// For whom a ticket is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holder {
    pub(crate) user: Option<String>,
    pub(crate) claims: Option<Map<String, Value>>,
}

/// What was issued: two tickets of the same user for the same session.
pub(crate) struct Issued {
    /// To be shown with every request.
    pub(crate) ticket: SecretString,
    pub(crate) expires_at: Timestamp,
    /// To stand in a URL, once.
    pub(crate) link: SecretString,
    pub(crate) link_until: Timestamp,
}

impl Issuer {
    /// Signs with the first of these secrets.
    #[must_use]
    pub fn new(secrets: TicketSecrets, ledger: Arc<dyn Ledger>) -> Self {
        Self { secrets, tickets: Tickets::new(ledger) }
    }

    /// A ticket and a link that are good for `ttl`.
    pub(crate) fn issue(
        &self,
        session: &SessionId,
        holder: &Holder,
        ttl: Span,
        now: Timestamp,
    ) -> Result<Issued, SignError> {
        let made = |kind| Claims {
            sub: holder.user.clone(),
            claims: holder.claims.clone(),
            ..Claims::new(session, kind, now, ttl)
        };
        let (bearer, link) = (made(Use::Bearer), made(Use::Enter));
        let key = self.secrets.signing();
        let fresh = now.checked_add(LINK_WITHIN).unwrap_or(Timestamp::MAX);
        Ok(Issued {
            ticket: sign(&bearer, &key)?,
            expires_at: bearer.expires_at(),
            link: sign(&link, &key)?,
            link_until: fresh.min(link.expires_at()),
        })
    }

    /// Follows the secrets, vouches for their public keys, and sweeps up used links, for ever.
    pub(crate) async fn keep(&self) {
        tokio::join!(self.secrets.follow(), self.vouch());
    }

    async fn vouch(&self) {
        let mut rounds = 0u32;
        loop {
            let changed = self.secrets.changed();
            let done = self.round(rounds.is_multiple_of(SWEEP_EVERY)).await;
            rounds = rounds.wrapping_add(u32::from(done));
            let pause = if done { VOUCH_EVERY.mul_f64(rand::random_range(0.75..1.25)) } else { PAUSE };
            let _ = tokio::time::timeout(pause, changed).await;
        }
    }

    async fn round(&self, sweeps: bool) -> bool {
        let now = Timestamp::now();
        let vouched = self.tickets.vouch(&self.secrets.public(), now).await;
        let swept = if sweeps { self.tickets.sweep(now).await } else { Ok(()) };
        match vouched.and(swept) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "This replica's ticket keys are not vouched for yet.");
                false
            }
        }
    }
}
