//! What handlers take from a request, with problems in place of a framework's own rejections.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use bivouac_protocol::{BootId, IdempotencyKey, InvalidId, Key, LeaseName, Namespace, SessionId, TokenName};
use tokio::time::timeout;

use super::Control;
use super::problem::{Code, Problem, unknown_session};
use super::tokens::unknown_token;
use crate::spec::request::BODY_LIMIT;

/// The id in a path. One of the wrong form names no session.
pub(crate) struct Id(pub(crate) SessionId);

impl FromRequestParts<Arc<Control>> for Id {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &Arc<Control>) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.ok().and_then(|Path(id)| id.parse().ok()).map(Self).ok_or_else(unknown_session)
    }
}

/// The session and the lease in a path.
pub(crate) struct Leased(pub(crate) SessionId, pub(crate) LeaseName);

impl FromRequestParts<Arc<Control>> for Leased {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &Arc<Control>) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((id, name)) = path.map_err(|_| unknown_session())?;
        let id = id.parse().map_err(|_| unknown_session())?;
        let name = name.parse().map_err(|why: InvalidId| invalid(why.what, why.rule))?;
        Ok(Self(id, name))
    }
}

/// The proxy in a path.
pub(crate) struct Boot(pub(crate) BootId);

impl FromRequestParts<Arc<Control>> for Boot {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &Arc<Control>) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.ok().and_then(|Path(boot)| boot.parse().ok()).map(Self).ok_or_else(unknown_member)
    }
}

pub(crate) fn unknown_member() -> Problem {
    Problem::new(Code::NotFound, "No proxy of this boot id is a member; GET /v1/members lists them.")
}

/// The token in a path.
pub(crate) struct TokenNamed(pub(crate) TokenName);

impl FromRequestParts<Arc<Control>> for TokenNamed {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &Arc<Control>) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.ok().and_then(|Path(name)| name.parse().ok()).map(Self).ok_or_else(unknown_token)
    }
}

/// The namespace and key in a path.
pub(crate) struct Named(pub(crate) Namespace, pub(crate) Key);

impl FromRequestParts<Arc<Control>> for Named {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &Arc<Control>) -> Result<Self, Problem> {
        let Path((namespace, key)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::new(Code::InvalidField, "key: must be text in UTF-8, percent-encoded"))?;
        let invalid = |invalid: InvalidId| Problem::new(Code::InvalidField, invalid.to_string());
        Ok(Self(namespace.parse().map_err(invalid)?, key.parse().map_err(invalid)?))
    }
}

/// A JSON body, not parsed yet.
pub(crate) struct Json(pub(crate) Bytes);

impl FromRequest<Arc<Control>> for Json {
    type Rejection = Problem;
    async fn from_request(request: Request, _: &Arc<Control>) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(Code::NotJson, "Send the body with `Content-Type: application/json`."));
        }
        let too_large = || {
            Problem::new(
                Code::BodyTooLarge,
                format!("The body of a request must be at most {BODY_LIMIT} bytes."),
            )
        };
        let announced =
            request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > BODY_LIMIT as u64) {
            return Err(too_large());
        }
        // Fails on a body without a length that grows too large, and on a connection that breaks: then nobody reads this.
        match timeout(BODY_DEADLINE, axum::body::to_bytes(request.into_body(), BODY_LIMIT)).await {
            Ok(read) => read.map(Self).map_err(|_| too_large()),
            Err(_elapsed) => Err(Problem::new(
                Code::RequestTimeout,
                format!("The whole body must arrive within {} seconds.", BODY_DEADLINE.as_secs()),
            )),
        }
    }
}

/// Time that a caller has for the whole body: at 64 KiB even a slow line takes a fraction of it.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The key that makes an un-keyed spawn safe to repeat, if the caller sent one.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(invalid("Idempotency-Key", "must be sent once")),
        (Some(value), None) => {
            let text = value.to_str().unwrap_or_default();
            text.parse().map(Some).map_err(|why: InvalidId| invalid("Idempotency-Key", why.rule))
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json"
}

/// The parameters of a query; unknown ones are refused.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
        match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(Self(pairs)),
            Some((name, _)) => {
                let name: String = name.chars().take(64).collect();
                let expected = match known {
                    [] => "there are none here".to_owned(),
                    known => format!("expected one of {}", known.join(", ")),
                };
                Err(Problem::new(Code::UnknownField, format!("unknown query parameter {name:?}: {expected}")))
            }
        }
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that may be given once.
    pub(crate) fn one<'a>(&'a self, name: &'a str) -> Result<Option<&'a str>, Problem> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(invalid(name, "must be given once")),
            (value, None) => Ok(value),
        }
    }

    /// A parameter that is true if it is given without a value.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.one(name)? {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(_) => Err(invalid(name, "must be true or false")),
        }
    }

    /// As [`Query::one`], read as something.
    pub(crate) fn parsed<T: std::str::FromStr>(&self, name: &str, rule: &str) -> Result<Option<T>, Problem> {
        self.one(name)?.map(|text| text.parse().map_err(|_| invalid(name, rule))).transpose()
    }
}

pub(crate) fn invalid(field: &str, rule: &str) -> Problem {
    Problem::new(Code::InvalidField, format!("{field}: {rule}"))
}
