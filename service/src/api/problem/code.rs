//! The codes of problems, each with its status and title.

use axum::http::StatusCode;

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
    pub(super) fn parts(self) -> (StatusCode, &'static str, &'static str) {
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
