//! The one way in which the API says no: RFC 9457 problem documents with a stable code.

mod code;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::session::view::View;
use crate::session::{CommandError, LeaseRefusal};
use crate::spec::request::RequestError;
pub(crate) use code::Code;

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

    /// A mistake of ours.
    pub(crate) fn internal(cause: impl ToString) -> Self {
        Self::new(Code::Internal, "Try again; if it happens again, report the request id.").because(cause)
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
