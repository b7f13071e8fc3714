//! Tickets: for a user to enter a session, and to throw them out again.

use std::sync::Arc;

use axum::Json as Reply;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use bivouac_protocol::ticket::LONGEST;
use bivouac_protocol::token::Verb;
use bivouac_protocol::{SessionId, Span};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Control;
use super::auth::Caller;
use super::input::{Id, Json, Query, invalid};
use super::problem::Problem;
use super::sessions::{find, to_the_end};
use crate::spec::limits;
use crate::spec::request::{RequestError, decode};
use crate::tickets::Holder;

/// How long a ticket is good, if nothing is said.
pub(super) const USUAL: Span = Span::seconds(3600);
const SHORTEST: Span = Span::seconds(1);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    user: Option<String>,
    claims: Option<Map<String, Value>>,
    ttl: Option<String>,
}

/// What was issued: said once, and kept nowhere.
#[derive(Serialize)]
pub(crate) struct Given {
    ticket: String,
    expires_at: Timestamp,
    url: String,
    url_expires_at: Timestamp,
}

impl Given {
    /// Issues for a session at this URL.
    pub(super) fn issue(
        control: &Control,
        (session, url): (&SessionId, &str),
        holder: &Holder,
        ttl: Span,
    ) -> Result<Self, Problem> {
        let issued =
            control.issuer.issue(session, holder, ttl, Timestamp::now()).map_err(Problem::internal)?;
        Ok(Self {
            ticket: issued.ticket.expose_secret().to_owned(),
            expires_at: issued.expires_at,
            url: format!("{}/?bivouac_ticket={}", url.trim_end_matches('/'), issued.link.expose_secret()),
            url_expires_at: issued.link_until,
        })
    }

    /// Ticket, its end, and the URL, as a spawn's answer has them.
    pub(super) fn into_parts(self) -> (String, Timestamp, String) {
        (self.ticket, self.expires_at, self.url)
    }
}

/// `POST /v1/sessions/{id}/tickets`
pub(crate) async fn issue(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Id(id): Id,
    Json(body): Json,
) -> Result<(StatusCode, Reply<Given>), Problem> {
    let view = find(&control, &caller, Verb::Ticket, &id).await?;
    let wanted: Wanted = decode(&body)?;
    let ttl = ttl(wanted.ttl.as_deref())?;
    let holder = Holder { user: wanted.user, claims: wanted.claims };
    check(&holder)?;
    let given = Given::issue(&control, (&id, &view.url), &holder, ttl)?;
    Ok((StatusCode::CREATED, Reply(given)))
}

/// `DELETE /v1/sessions/{id}/tickets`: of everybody, or of one user.
pub(crate) async fn revoke(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Id(id): Id,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, Problem> {
    find(&control, &caller, Verb::Ticket, &id).await?;
    let user = Query::parse(query.as_deref(), &["user"])?.one("user")?.map(str::to_owned);
    if let Some(user) = &user {
        limits::check_user(user).map_err(RequestError::from)?;
    }
    tracing::info!(session.id = %id, by = %caller.name(), everybody = user.is_none(), "Tickets are revoked.");
    let sessions = control.sessions.clone();
    to_the_end(async move { sessions.revoke(&id, user.as_deref()).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn check(holder: &Holder) -> Result<(), RequestError> {
    if let Some(user) = &holder.user {
        limits::check_user(user)?;
    }
    holder.claims.as_ref().map_or(Ok(()), limits::check_claims)?;
    Ok(())
}

fn ttl(text: Option<&str>) -> Result<Span, Problem> {
    let Some(text) = text else { return Ok(USUAL) };
    let ttl: Span =
        text.parse().map_err(|why: bivouac_protocol::span::InvalidSpan| invalid("ttl", &why.to_string()))?;
    if (SHORTEST..=LONGEST).contains(&ttl) {
        Ok(ttl)
    } else {
        Err(invalid("ttl", &format!("must be between {SHORTEST} and {LONGEST}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_for_a_second_to_a_day() {
        assert_eq!(ttl(None).ok(), Some(USUAL));
        assert_eq!(ttl(Some("1s")).ok(), Some(SHORTEST));
        assert_eq!(ttl(Some("24h")).ok(), Some(LONGEST));
        for text in ["0s", "999ms", "24h 1s", "soon", "-1h", ""] {
            assert!(ttl(Some(text)).is_err(), "{text}");
        }
    }
}
