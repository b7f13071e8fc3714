//! Who may enter a session: judged from the ticket alone where there is a valid one, and from what the session's template
//! says where there is none.
//!
//! A ticket is looked for in four places, and the first in which there is one decides: `Authorization`, a WebSocket's
//! subprotocols, the URL, our cookie. Whatever is ours is taken out of the request, be it good or bad.

mod cookie;
mod credential;
mod grant;
mod keys;
mod origin;
mod revoked;
mod rules;
mod used;
mod verified;

use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::Ledger;
use bivouac_ledger::revoked::{Revocation, Revocations};
use bivouac_ledger::tickets::Tickets;
use bivouac_protocol::proof::LinkSecrets;
use bivouac_protocol::ticket::{TicketError, Use};
use bivouac_protocol::{Access as Rule, Route, SessionId};
use jiff::Timestamp;
use pingora_http::RequestHeader;
use tokio::time::timeout;

use crate::activity::table::Table;
use crate::head::{self, Plan};
use crate::host::Target;
use crate::refusal::Refusal;
use crate::routes::resolve::Resolver;
use crate::visitor::Visitor;
use cookie::{Tags, Untagged};
use credential::{Found, Shown};
pub(crate) use grant::{Grant, Pass, Strip, Swap};
use keys::Keys;
use origin::Page;
use revoked::Revoked;
use rules::Rules;
use used::Used;
use verified::{Memory, Verified};

/// Longest wait for the ledger's word before the proxy listens: it may be long away, and public sessions need none.
const LEARN_WITHIN: Duration = Duration::from_secs(5);

/// What decides who enters needs.
pub(crate) struct Parts {
    pub(crate) table: Arc<Table>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) secrets: LinkSecrets,
    /// Origins whose pages may use sessions, beside each session's own.
    pub(crate) allowed_origins: Vec<String>,
}

/// Decides who enters.
pub(crate) struct Access {
    keys: Keys,
    memory: Arc<Memory>,
    revoked: Revoked,
    used: Used,
    rules: Rules,
    tags: Tags,
    allowed_origins: Vec<String>,
}

/// A request, as it is judged.
struct Asked<'a> {
    session: &'a SessionId,
    head: &'a RequestHeader,
    plan: &'a Plan,
    visitor: &'a Visitor,
    now: Timestamp,
}

impl Access {
    /// Nothing is known yet: see [`Access::learn`].
    pub(crate) fn new(parts: Parts) -> Self {
        let (tickets, memory) = (Tickets::new(parts.ledger.clone()), Arc::new(Memory::default()));
        Self {
            keys: Keys::new(tickets.clone(), memory.clone()),
            memory,
            revoked: Revoked::new(parts.table.clone(), Revocations::new(parts.ledger)),
            used: Used::new(tickets, parts.table.metrics.clone()),
            rules: Rules::new(parts.table, parts.resolver),
            tags: Tags::new(&parts.secrets),
            allowed_origins: parts.allowed_origins,
        }
    }

    /// Reads keys and revocations. To be done before the proxy listens; gives up after a few seconds, and
    /// [`Access::follow`] goes on.
    pub(crate) async fn learn(&self) {
        let learning = async { tokio::join!(self.keys.learn(), self.revoked.learn()) };
        if timeout(LEARN_WITHIN, learning).await.is_err() {
            tracing::warn!(
                "The ticket keys and what was revoked cannot be read yet: no ticket opens a session until then."
            );
        }
    }

    /// Follows both, for ever.
    pub(crate) async fn follow(&self) {
        tokio::join!(self.keys.follow(), self.revoked.follow());
    }

    /// Whether tickets can be checked: some key is known, and what was revoked.
    pub(crate) fn knows_tickets(&self) -> bool {
        self.revoked.is_read() && !self.keys.ring().is_empty()
    }

    /// A replica says what was revoked. What it concerns is cut.
    pub(crate) fn revoke(&self, revocation: &Revocation) {
        self.revoked.take_in(revocation);
    }

    /// Whether the ticket by which somebody was let in was revoked since.
    pub(crate) fn is_revoked(&self, session: &SessionId, grant: &Grant) -> bool {
        grant.ticketed && self.revoked.contains(session, grant.user.as_deref(), grant.issued_ms)
    }

    /// Whether a request that was let in may go where it was led: what its route says is the last word, for the session
    /// may be another run by now, of a template that was public before; and a ticket may be revoked while its request is
    /// held.
    ///
    /// # Errors
    /// When it may not.
    pub(crate) fn lets_in(&self, route: &Route, grant: &Grant) -> Result<(), Refusal> {
        match route.rules.access {
            Rule::Ticket if !grant.ticketed => Err(Refusal::TicketMissing),
            _ if self.is_revoked(&route.session, grant) => Err(Refusal::TicketRevoked),
            _ => Ok(()),
        }
    }

    /// Judges a request before it counts as use, knocks or wakes.
    ///
    /// # Errors
    /// When it is not let in.
    pub(crate) async fn enter(
        &self,
        target: &Target,
        head: &RequestHeader,
        plan: &Plan,
        visitor: &Visitor,
    ) -> Result<Pass, Refusal> {
        let origin_form = head::origin_form(head)?;
        let name = cookie::name(visitor.secure);
        let Found { shown, strip } = credential::find(&head.headers, origin_form, &self.keys.ring(), name);
        let judged = match shown {
            None => Err(Refusal::TicketMissing),
            Some(shown) => {
                let asked = Asked { session: &target.session, head, plan, visitor, now: Timestamp::now() };
                self.judge(&asked, &shown, &strip).await
            }
        };
        match judged {
            Ok(Judged::Enter(ticket)) => Ok(Pass::Enter(Grant {
                user: ticket.user.clone(),
                claims: ticket.more.clone(),
                issued_ms: ticket.claims.iat_ms,
                ticketed: true,
                strip,
            })),
            Ok(Judged::Swap(swap)) => Ok(Pass::Swap(swap)),
            Err(refusal) => match self.rules.access(&target.session).await? {
                Rule::Public => Ok(Pass::Enter(Grant { strip, ..Grant::default() })),
                Rule::Ticket => Err(refusal),
            },
        }
    }

    async fn judge(&self, asked: &Asked<'_>, shown: &Shown<'_>, strip: &Strip) -> Result<Judged, Refusal> {
        if !self.revoked.is_read() || !self.has_keys().await {
            return Err(Refusal::TicketsUnavailable);
        }
        match shown {
            Shown::Bearer(text) => {
                let ticket = self.good(asked, text, Use::Bearer).await?;
                let may = !asked.plan.websocket || asked.page().may_connect(&self.allowed_origins);
                if may { Ok(Judged::Enter(ticket)) } else { Err(Refusal::OriginRefused) }
            }
            Shown::Link(text) => self.swap(asked, text, strip.target.as_deref()).await.map(Judged::Swap),
            Shown::Cookies(values) => {
                let mut refused = None;
                for value in values {
                    match self.cookie(asked, value).await {
                        Ok(ticket) => return Ok(Judged::Enter(ticket)),
                        Err(refusal) => refused = refused.or(Some(refusal)),
                    }
                }
                Err(refused.unwrap_or(Refusal::TicketMissing))
            }
        }
    }

    async fn has_keys(&self) -> bool {
        let has = || !self.keys.ring().is_empty();
        has() || self.keys.ask_now().await && has()
    }

    /// The ticket that this text is, if it opens this session now, and is of this kind.
    async fn good(&self, asked: &Asked<'_>, text: &str, kind: Use) -> Result<Arc<Verified>, Refusal> {
        let opened = self.memory.open(text, &self.keys.ring());
        let opened = match opened {
            Err(TicketError::UnknownKey) if self.keys.ask_now().await => {
                self.memory.open(text, &self.keys.ring())
            }
            opened => opened,
        };
        let ticket = opened.map_err(refusal)?;
        ticket.claims.admit(asked.session, asked.now).map_err(refusal)?;
        if ticket.claims.kind != kind {
            return Err(Refusal::TicketMisplaced);
        }
        if self.revoked.contains(asked.session, ticket.user.as_deref(), ticket.claims.iat_ms) {
            return Err(Refusal::TicketRevoked);
        }
        Ok(ticket)
    }

    async fn cookie(&self, asked: &Asked<'_>, value: &str) -> Result<Arc<Verified>, Refusal> {
        let text = self.tags.ticket(value).map_err(|untagged| match untagged {
            Untagged::Without => Refusal::TicketMisplaced,
            Untagged::Wrong => Refusal::TicketInvalid,
        })?;
        let ticket = self.good(asked, text, Use::Enter).await?;
        if asked.page().may_use_cookies(&self.allowed_origins) {
            Ok(ticket)
        } else {
            Err(Refusal::OriginRefused)
        }
    }

    /// Uses a link up. Whatever is no person's navigation (a preview, a scanner) does not: the person still comes.
    async fn swap(&self, asked: &Asked<'_>, text: &str, rest: Option<&[u8]>) -> Result<Swap, Refusal> {
        if !asked.plan.navigation {
            return Err(Refusal::TicketMisplaced);
        }
        let ticket = self.good(asked, text, Use::Enter).await?;
        if !ticket.claims.is_fresh_link(asked.now) {
            return Err(Refusal::TicketExpired);
        }
        if !self.used.once(&ticket.claims).await {
            return Err(Refusal::TicketUsed);
        }
        let set_cookie = self.tags.set_cookie(text, &ticket.claims, asked.visitor.secure, asked.now);
        Ok(Swap { location: location(rest.unwrap_or(b"/")), set_cookie })
    }
}

/// What a good ticket leads to.
enum Judged {
    Enter(Arc<Verified>),
    Swap(Swap),
}

impl Asked<'_> {
    fn page(&self) -> Page<'_> {
        // By HTTP/2 the authority is no field.
        let named = self.head.uri.authority().map(|authority| authority.as_str().as_bytes());
        Page {
            headers: &self.head.headers,
            host: head::host(&self.head.headers).ok().or(named).unwrap_or_default(),
            secure: self.visitor.secure,
            navigation: self.plan.navigation,
        }
    }
}

fn refusal(error: TicketError) -> Refusal {
    match error {
        TicketError::WrongSession => Refusal::TicketWrongSession,
        TicketError::Expired => Refusal::TicketExpired,
        TicketError::Malformed
        | TicketError::Algorithm
        | TicketError::UnknownKey
        | TicketError::Signature
        | TicketError::NotYet => Refusal::TicketInvalid,
    }
}

/// A target as a `Location` of the same host: a browser takes what begins with two slashes for another one.
fn location(target: &[u8]) -> Vec<u8> {
    match target {
        [b'/', b'/' | b'\\', ..] => [b"/.".as_slice(), target].concat(),
        _ => target.to_vec(),
    }
}

#[cfg(test)]
mod tests;
