//! API tokens: made, listed, given another secret, revoked. Nobody makes a token that permits more than their own.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json as Reply;
use axum::extract::State;
use axum::http::StatusCode;
use bivouac_ledger::Error;
use bivouac_ledger::tokens::{Rotation, Tokens as Documents};
use bivouac_protocol::token::{Glob, Scope, Token, TokenDocument, Verb};
use bivouac_protocol::{Span, TokenName};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::Control;
use super::auth::{self, Caller};
use super::input::{Json, TokenNamed, invalid};
use super::problem::{Code, Problem};
use crate::spec::request::decode;

/// How long an old secret is accepted after a rotation, if nothing is said.
const OVERLAP: Span = Span::seconds(600);
/// The longest that can be asked for.
const LONGEST_OVERLAP: Span = Span::seconds(30 * 24 * 3600);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    namespaces: Option<BTreeSet<Glob>>,
    templates: Option<BTreeSet<Glob>>,
    verbs: Option<BTreeSet<Verb>>,
    expires_in: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NextSecret {
    overlap: Option<String>,
    expires_in: Option<String>,
}

/// A token as it is shown, without anything that opens something.
#[derive(Serialize)]
pub(crate) struct Shown {
    name: TokenName,
    #[serde(flatten)]
    scope: Scope,
    created_at: Timestamp,
    created_by: TokenName,
    expires_at: Option<Timestamp>,
    expired: bool,
    rotated_at: Option<Timestamp>,
    /// Until when the secret before the last rotation is accepted, too.
    previous_until: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
}

/// A token with its secret: said once, and never again.
#[derive(Serialize)]
pub(crate) struct Given {
    token: String,
    #[serde(flatten)]
    shown: Shown,
}

#[derive(Serialize)]
pub(crate) struct Listing {
    tokens: Vec<Shown>,
}

/// Who the caller is.
#[derive(Serialize)]
pub(crate) struct Me {
    name: TokenName,
    #[serde(flatten)]
    scope: Scope,
    expires_at: Option<Timestamp>,
}

impl Shown {
    fn new(name: TokenName, document: TokenDocument, now: Timestamp) -> Self {
        Self {
            expired: document.has_expired(now),
            name,
            scope: document.scope,
            created_at: document.created_at,
            created_by: document.created_by,
            expires_at: document.expires_at,
            rotated_at: document.rotated_at,
            previous_until: document.previous.map(|previous| previous.until).filter(|until| *until > now),
            last_used_at: document.last_used_at,
        }
    }
}

/// `GET /v1/caller`
pub(crate) async fn caller(caller: Caller) -> Reply<Me> {
    Reply(Me { name: caller.name().clone(), scope: caller.scope().clone(), expires_at: caller.expires_at() })
}

/// `GET /v1/tokens`: those that permit no more than the caller's own.
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    caller: Caller,
) -> Result<Reply<Listing>, Problem> {
    caller.require_verb(Verb::Tokens)?;
    let now = Timestamp::now();
    let tokens = control.tokens.named().documents().list().await?;
    let tokens = tokens.into_iter().filter(|(_, document)| caller.scope().covers(&document.scope));
    Ok(Reply(Listing { tokens: tokens.map(|(name, document)| Shown::new(name, document, now)).collect() }))
}

/// `POST /v1/tokens`
pub(crate) async fn create(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Json(body): Json,
) -> Result<(StatusCode, Reply<Given>), Problem> {
    caller.require_verb(Verb::Tokens)?;
    let now = Timestamp::now();
    let wanted: Wanted = decode(&body)?;
    let name: TokenName =
        wanted.name.parse().map_err(|why: bivouac_protocol::InvalidId| invalid("name", why.rule))?;
    if name == auth::bootstrap_name() {
        return Err(invalid("name", "must not be \"bootstrap\", which the tokens of the file act as"));
    }
    let any = || BTreeSet::from([Glob::any()]);
    let scope = Scope {
        namespaces: wanted.namespaces.unwrap_or_else(any),
        templates: wanted.templates.unwrap_or_else(any),
        verbs: wanted.verbs.unwrap_or_else(|| BTreeSet::from(Verb::OF_APPLICATIONS)),
    };
    scope.check().map_err(|why| Problem::new(Code::InvalidField, why.to_string()))?;
    caller.require_scope(&scope)?;
    // Who has not said when it ends means: as late as may be.
    let expires_at = end(wanted.expires_in.as_deref(), now)?.or(caller.expires_at());
    caller.require_end(expires_at)?;
    let token = Token::random(name);
    let document = TokenDocument {
        revision: 1,
        digest: token.digest(),
        previous: None,
        scope,
        created_at: now,
        created_by: caller.name().clone(),
        expires_at,
        rotated_at: None,
        last_used_at: None,
    };
    if !written(control.tokens.named().documents(), &token, &document).await? {
        let detail = "There is a token of this name: choose another one, rotate it, or revoke it first.";
        return Err(Problem::new(Code::TokenExists, detail));
    }
    tracing::info!(token = %token.name, by = %caller.name(), "An API token was made.");
    Ok((StatusCode::CREATED, Reply(given(&token, document, now))))
}

/// Writes a new token. An answer that is lost is looked up: whose digest stands there has won.
async fn written(documents: &Documents, token: &Token, document: &TokenDocument) -> Result<bool, Error> {
    match documents.create(&token.name, document).await {
        Ok(true) => Ok(true),
        Ok(false) | Err(Error::Unavailable(_)) => {
            let found = documents.read(&token.name).await?;
            Ok(found.is_some_and(|found| found.value.digest == token.digest()))
        }
        Err(error) => Err(error),
    }
}

/// `POST /v1/tokens/{name}/rotate`
pub(crate) async fn rotate(
    State(control): State<Arc<Control>>,
    caller: Caller,
    TokenNamed(name): TokenNamed,
    Json(body): Json,
) -> Result<Reply<Given>, Problem> {
    caller.require_verb(Verb::Tokens)?;
    let now = Timestamp::now();
    let wanted: NextSecret = decode(&body)?;
    let overlap = match wanted.overlap.as_deref() {
        None => OVERLAP,
        Some(text) => span("overlap", text)?,
    };
    if overlap > LONGEST_OVERLAP {
        return Err(invalid("overlap", "must be at most 30 days"));
    }
    let expires_at = end(wanted.expires_in.as_deref(), now)?;
    caller.require_end(expires_at.or(caller.expires_at()))?;
    let token = Token::random(name);
    let overlap_until = later(now, overlap);
    let rotation = Rotation { digest: token.digest(), overlap_until, expires_at, at: now };
    // Whoever gets the secret of a token has all that it permits, for as long as it lasts.
    let may = |document: &TokenDocument| {
        caller.scope().covers(&document.scope) && caller.outlives(expires_at.or(document.expires_at))
    };
    let named = control.tokens.named();
    let Some(document) = named.documents().rotate(&token.name, &rotation, may).await? else {
        return Err(unknown_token());
    };
    named.forget(&token.name);
    tracing::info!(token = %token.name, by = %caller.name(), "An API token has another secret.");
    Ok(Reply(given(&token, document, now)))
}

/// `DELETE /v1/tokens/{name}`
pub(crate) async fn revoke(
    State(control): State<Arc<Control>>,
    caller: Caller,
    TokenNamed(name): TokenNamed,
) -> Result<StatusCode, Problem> {
    caller.require_verb(Verb::Tokens)?;
    let named = control.tokens.named();
    let may = |document: &TokenDocument| caller.scope().covers(&document.scope);
    let revoked = named.documents().revoke(&name, may).await?;
    named.forget(&name);
    if !revoked {
        return Err(unknown_token());
    }
    tracing::info!(token = %name, by = %caller.name(), "An API token was revoked.");
    Ok(StatusCode::NO_CONTENT)
}

fn given(token: &Token, document: TokenDocument, now: Timestamp) -> Given {
    let text = token.text().expose_secret().to_owned();
    Given { token: text, shown: Shown::new(token.name.clone(), document, now) }
}

pub(crate) fn unknown_token() -> Problem {
    let detail =
        "No token has this name, or it permits more than yours; GET /v1/tokens lists what you may change.";
    Problem::new(Code::NotFound, detail)
}

fn span(field: &str, text: &str) -> Result<Span, Problem> {
    text.parse().map_err(|why: bivouac_protocol::span::InvalidSpan| invalid(field, &why.to_string()))
}

/// When a token ends that is to last this long.
fn end(expires_in: Option<&str>, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = expires_in else { return Ok(None) };
    let length = span("expires_in", text)?;
    if length < Span::seconds(1) {
        return Err(invalid(
            "expires_in",
            "must be at least a second; leave it out for a token that does not expire",
        ));
    }
    Ok(Some(later(now, length)))
}

fn later(now: Timestamp, length: Span) -> Timestamp {
    let length = SignedDuration::try_from(length.get()).unwrap_or(SignedDuration::MAX);
    now.checked_add(length).unwrap_or(Timestamp::MAX)
}
