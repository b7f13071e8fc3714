//! The one way in which the API says no: RFC 9457 problem documents with a stable code.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::session::view::View;
use crate::session::{CommandError, LeaseRefusal};
use crate::spec::request::RequestError;

/// The closed list of codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Unauthenticated,
    Forbidden,
    TokenExists,
    ForbiddenOrigin,
    HostNotAllowed,
    NotJson,
    BodyTooLarge,
    InvalidJson,
    UnknownField,
    InvalidField,
    UnsupportedField,
    UnknownTemplate,
    TemplateDisabled,
    TemplateMismatch,
    SessionUnknown,
    SessionEnded,
    SessionStopping,
    SessionUnreachable,
    SessionReachable,
    TooManyLeases,
    IdempotencyKeyReused,
    RequestTimeout,
    TooManyFollowers,
    LogsGone,
    NotFound,
    MethodNotAllowed,
    LedgerUnavailable,
    ClusterUnavailable,
    SessionEnding,
    WaitTimeout,
    StartFailed,
    Internal,
}

impl Code {
    /// Status, stable code and title.
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Unauthenticated => {
                (StatusCode::UNAUTHORIZED, "unauthenticated", "A valid API token is needed")
            }
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "The token does not permit this"),
            Self::TokenExists => (StatusCode::CONFLICT, "token_exists", "There is a token of this name"),
            Self::ForbiddenOrigin => {
                (StatusCode::FORBIDDEN, "forbidden_origin", "This origin may not use the API")
            }
            Self::HostNotAllowed => {
                (StatusCode::MISDIRECTED_REQUEST, "host_not_allowed", "This host name is not the API's")
            }
            Self::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", "The body must be JSON"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large"),
            Self::InvalidJson => (StatusCode::BAD_REQUEST, "invalid_json", "The body is not valid JSON"),
            Self::UnknownField => (StatusCode::UNPROCESSABLE_ENTITY, "unknown_field", "A field is unknown"),
            Self::InvalidField => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", "A field is not valid"),
            Self::UnsupportedField => {
                (StatusCode::UNPROCESSABLE_ENTITY, "unsupported_field", "A field is not supported yet")
            }
            Self::UnknownTemplate => (StatusCode::NOT_FOUND, "unknown_template", "There is no such template"),
            Self::TemplateDisabled => (StatusCode::CONFLICT, "template_disabled", "The template is disabled"),
            Self::TemplateMismatch => (
                StatusCode::CONFLICT,
                "template_mismatch",
                "The key's session was made from another template",
            ),
            Self::SessionUnknown => (StatusCode::NOT_FOUND, "session_unknown", "There is no such session"),
            Self::SessionEnded => (StatusCode::GONE, "session_ended", "The session has ended"),
            Self::SessionStopping => {
                (StatusCode::CONFLICT, "session_stopping", "The session is being stopped")
            }
            Self::SessionUnreachable => {
                (StatusCode::CONFLICT, "session_unreachable", "The session's node is unreachable")
            }
            Self::SessionReachable => {
                (StatusCode::CONFLICT, "session_reachable", "The session's node is reachable")
            }
            Self::TooManyLeases => {
                (StatusCode::CONFLICT, "too_many_leases", "The session has too many leases")
            }
            Self::IdempotencyKeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "The idempotency key was used for another request",
            ),
            Self::RequestTimeout => {
                (StatusCode::REQUEST_TIMEOUT, "request_timeout", "The request did not arrive in time")
            }
            Self::TooManyFollowers => {
                (StatusCode::TOO_MANY_REQUESTS, "too_many_followers", "Too many logs are being read")
            }
            Self::LogsGone => (StatusCode::GONE, "logs_gone", "The logs are gone"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", "There is nothing here"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "The method is not one of this resource",
            ),
            Self::SessionEnding => {
                (StatusCode::SERVICE_UNAVAILABLE, "session_ending", "The session is still ending")
            }
            Self::LedgerUnavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "ledger_unavailable", "The ledger does not answer")
            }
            Self::ClusterUnavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "cluster_unavailable", "The cluster does not answer")
            }
            Self::WaitTimeout => {
                (StatusCode::GATEWAY_TIMEOUT, "wait_timeout", "The session is not ready yet")
            }
            Self::StartFailed => (StatusCode::BAD_GATEWAY, "start_failed", "The session did not start"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The service made a mistake"),
        }
    }
}

/// A refusal. Becomes a response without a body; [`Problem::render`] writes it where the request's id is known.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    /// For the log, never for the caller.
    cause: Option<String>,
    more: Map<String, Value>,
}

impl Problem {
    /// `detail` says what is wrong in this case and what to do.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), cause: None, more: Map::new() }
    }

    /// Keeps what went wrong inside, for the log.
    pub(crate) fn because(self, cause: impl ToString) -> Self {
        Self { cause: Some(cause.to_string()), ..self }
    }

    /// Adds a member of its own to the document.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        self.more.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn code(&self) -> &'static str {
        self.code.parts().1
    }

    pub(crate) fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// The document, in place of whatever body the response has.
    pub(crate) fn render(self, mut response: Response, request_id: &str) -> Response {
        let (status, code, title) = self.code.parts();
        let mut document = json!({
            "type": "about:blank", "title": title, "status": status.as_u16(), "code": code, "detail": self.detail,
            "request_id": request_id,
        });
        if let Some(document) = document.as_object_mut() {
            document.extend(self.more);
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.remove(header::CONTENT_LENGTH);
        *response.body_mut() = Body::from(document.to_string());
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.parts().0.into_response();
        let headers = response.headers_mut();
        match self.code {
            Code::Unauthenticated => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Code::LedgerUnavailable | Code::ClusterUnavailable | Code::SessionEnding => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Code::RequestTimeout => {
                // The rest of the body may still come: it is not the next request.
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Code::TooManyFollowers => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        let code = match &error {
            RequestError::InvalidJson(_) => Code::InvalidJson,
            RequestError::UnknownField(_) => Code::UnknownField,
            RequestError::InvalidField(_) => Code::InvalidField,
            RequestError::UnsupportedField { .. } => Code::UnsupportedField,
            RequestError::UnknownTemplate(_) => Code::UnknownTemplate,
            RequestError::TemplateDisabled { .. } => Code::TemplateDisabled,
            RequestError::TemplatePending { .. } => Code::ClusterUnavailable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Unavailable(cause) => Self::new(
                Code::LedgerUnavailable,
                "The ledger that decides about sessions does not answer in time; running sessions are not affected. Try \
                 again in a moment.",
            )
            .because(cause),
            CommandError::ClusterAway(cause) => Self::new(
                Code::ClusterUnavailable,
                "The cluster that runs sessions does not answer; running sessions are not affected. Try again in a moment.",
            )
            .because(cause),
            CommandError::OtherTemplate(other) => Self::new(
                Code::TemplateMismatch,
                format!("The key's session was made from template {other}: spawn that, use another key, or stop the session first."),
            ),
            CommandError::StillEnding => Self::new(
                Code::SessionEnding,
                "The key's last session has not ended yet; try again in a moment. If its node is not reachable, it ends \
                 once the node is back.",
            ),
            CommandError::Unreachable(view) => unreachable(&view),
            CommandError::Reachable => Self::new(
                Code::SessionReachable,
                "Only a session whose node is unreachable can be given up: stop this one.",
            ),
            CommandError::Unknown => unknown_session(),
            CommandError::TemplateDisabled(detail) => Self::new(Code::TemplateDisabled, detail),
            CommandError::LeaseRefused(refusal) => refusal.into(),
            CommandError::IdempotencyKeyReused => Self::new(
                Code::IdempotencyKeyReused,
                "A session was spawned with this Idempotency-Key and another body: repeat that body, or send another key.",
            ),
        }
    }
}

impl From<LeaseRefusal> for Problem {
    fn from(refusal: LeaseRefusal) -> Self {
        match refusal {
            LeaseRefusal::OutOfBounds { .. } => Self::new(Code::InvalidField, refusal.to_string()),
            LeaseRefusal::TooMany => {
                Self::new(Code::TooManyLeases, format!("{refusal}: renew one of them, or release one first."))
            }
            LeaseRefusal::Stopping => Self::new(
                Code::SessionStopping,
                "The session is being stopped, which cannot be undone; if it has a key, spawn it again.",
            ),
            LeaseRefusal::Ended => {
                Self::new(Code::SessionEnded, "The session has ended; if it has a key, spawn it again.")
            }
        }
    }
}

impl From<bivouac_ledger::Error> for Problem {
    fn from(error: bivouac_ledger::Error) -> Self {
        CommandError::from(error).into()
    }
}

/// The key belongs to a session that nobody hears from.
fn unreachable(view: &View) -> Problem {
    let node = view.node.as_deref().unwrap_or("a node");
    let then = match view.unreachable.and_then(|away| away.given_up_at) {
        Some(at) => format!("It is given up at {at} if it stays away"),
        None => format!("It is waited for: spawn again when {node} is back"),
    };
    let detail = format!(
        "The key's session is on {node}, which is unreachable, and it may still run there. {then}; to give it up now, \
         and risk that two run for a while: DELETE /v1/sessions/{}?abandon=true, or bivouac stop --abandon {}.",
        view.id, view.id
    );
    Problem::new(Code::SessionUnreachable, detail)
        .with("session", json!(view.id))
        .with("unreachable", json!(view.unreachable))
}

/// No session of this id, or none any more.
pub(crate) fn unknown_session() -> Problem {
    Problem::new(
        Code::SessionUnknown,
        "No session has this id or key, or it ended so long ago that its record is gone.",
    )
}
