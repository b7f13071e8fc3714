//! Every way in which the proxy says no: one stable code each, in JSON, in HTML and as a WebSocket close code alike.

use std::time::Duration;

use bivouac_protocol::Reason;
use http::StatusCode;

/// Why a request is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The request itself is malformed; the text says how.
    BadRequest(&'static str),
    /// Its head has more bytes than we read.
    HeadTooLarge,
    /// Its head took longer than we wait.
    HeadTimeout,
    /// CONNECT or TRACE.
    MethodNotAllowed,
    /// No session hostname under our domain.
    UnknownHost,
    /// The hostname has the form of a session's, but there is no such session.
    UnknownSession,
    /// The session is over.
    Ended(Option<Reason>),
    /// It could not be started.
    StartFailed(Option<Reason>),
    /// It is still starting, and the wait is over.
    StillStarting {
        /// When to try again.
        retry_after: Duration,
    },
    /// Too many requests wait for it, or in total.
    TooManyWaiting,
    /// Nothing is known of it and whoever knows cannot be asked.
    Unresolvable,
    /// The host that it runs on cannot be reached.
    SessionUnreachable,
    /// Its backend does not accept connections.
    BackendUnreachable,
    /// Its backend broke the connection, or the protocol.
    BackendFailed,
    /// The proxy is stopping.
    Draining,
}

/// The first second of a start passes in silence; then a browser is shown a page, and asks again this often.
pub(crate) const START_PAGE_REFRESH: Duration = Duration::from_secs(1);

impl Refusal {
    /// All stable codes: whatever is counted by them is there from the start.
    pub(crate) const CODES: [&str; 15] = [
        "bad_request",
        "head_too_large",
        "head_timeout",
        "method_not_allowed",
        "host_unknown",
        "session_unknown",
        "session_ended",
        "start_failed",
        "session_starting",
        "too_many_waiting",
        "session_unresolvable",
        "backend_unreachable",
        "backend_failed",
        "session_unreachable",
        "draining",
    ];

    /// The stable code, the same in JSON, in HTML and in a close frame's reason.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::HeadTooLarge => "head_too_large",
            Self::HeadTimeout => "head_timeout",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UnknownHost => "host_unknown",
            Self::UnknownSession => "session_unknown",
            Self::Ended(_) => "session_ended",
            Self::StartFailed(_) => "start_failed",
            Self::StillStarting { .. } => "session_starting",
            Self::TooManyWaiting => "too_many_waiting",
            Self::Unresolvable => "session_unresolvable",
            Self::SessionUnreachable => "session_unreachable",
            Self::BackendUnreachable => "backend_unreachable",
            Self::BackendFailed => "backend_failed",
            Self::Draining => "draining",
        }
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnknownHost | Self::UnknownSession => StatusCode::NOT_FOUND,
            Self::Ended(_) => StatusCode::GONE,
            Self::StartFailed(_) | Self::BackendUnreachable | Self::BackendFailed => StatusCode::BAD_GATEWAY,
            Self::StillStarting { .. }
            | Self::TooManyWaiting
            | Self::Unresolvable
            | Self::SessionUnreachable
            | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What happened, in a few words.
    pub(crate) fn title(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "This request cannot be read",
            Self::HeadTooLarge => "This request's head is too large",
            Self::HeadTimeout => "This request did not arrive in time",
            Self::MethodNotAllowed => "This method is not served",
            Self::UnknownHost => "No session lives at this address",
            Self::UnknownSession => "There is no such session",
            Self::Ended(_) => "This session has ended",
            Self::StartFailed(_) => "This session could not be started",
            Self::StillStarting { .. } => "This session is starting",
            Self::TooManyWaiting => "Too many requests wait for this session",
            Self::Unresolvable => "This session cannot be found right now",
            Self::SessionUnreachable => "This session is out of reach",
            Self::BackendUnreachable => "This session does not answer",
            Self::BackendFailed => "This session broke off its answer",
            Self::Draining => "This server is restarting",
        }
    }

    /// What to do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::BadRequest(why) => why,
            Self::HeadTooLarge => "Send fewer or shorter header fields.",
            Self::HeadTimeout => "Send the request again, all at once.",
            Self::MethodNotAllowed => "CONNECT and TRACE are never forwarded to a session.",
            Self::UnknownHost => {
                "Check the address: a session's hostname begins with its id of 20 characters."
            }
            Self::UnknownSession => "Open it again from the application it belongs to.",
            Self::Ended(_) => "Open it again from the application it belongs to.",
            Self::StartFailed(_) => {
                "Open it again from the application; if it keeps failing, tell its operator the code."
            }
            Self::StillStarting { .. } => "It will answer as soon as it is ready. Try again in a moment.",
            Self::TooManyWaiting => "Try again in a moment.",
            Self::Unresolvable => {
                "Nothing is known of it yet, and nobody who knows can be asked. Try again in a moment."
            }
            Self::SessionUnreachable => {
                "The host that it runs on cannot be reached; it goes on when the host is back, or is started elsewhere \
                 when it is given up. Try again in a while."
            }
            Self::BackendUnreachable => "Its process may have ended just now. Try again in a moment.",
            Self::BackendFailed => "Its process may have ended just now. Try again in a moment.",
            Self::Draining => "Send the request again: another server will take it.",
        }
    }

    /// Why the session ended, where that is what happened.
    pub(crate) fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Ended(reason) | Self::StartFailed(reason) => reason.as_ref(),
            _ => None,
        }
    }

    /// When to try again, where trying again helps; whole seconds, at least one.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::StillStarting { retry_after } => Some(retry_after.as_secs().max(1)),
            Self::SessionUnreachable => Some(5),
            Self::TooManyWaiting | Self::Unresolvable | Self::BackendUnreachable | Self::Draining => Some(1),
            _ => None,
        }
    }
}

/// How a WebSocket is closed whose backend ended without a word: close code and reason text.
pub(crate) const BACKEND_FAILED: (u16, &str) = (4502, "backend_failed");

/// How a WebSocket is closed under which the session was stopped: close code and reason text. `None`: the proxy itself
/// has to end.
pub(crate) fn close_code(reason: Option<&Reason>) -> (u16, &'static str) {
    const GOING_AWAY: u16 = 1001;
    const ENDED: u16 = 4410;
    match reason.map(|reason| reason.code) {
        None => (GOING_AWAY, "draining"),
        Some(code) if code.is_on_purpose() => (GOING_AWAY, code.as_str()),
        Some(code) => (ENDED, code.as_str()),
    }
}
