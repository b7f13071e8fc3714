//! Every way in which the proxy says no: one stable code each, in JSON, in HTML and as a WebSocket close code alike.
//! [`words`] has what people are told of each, [`close`] what a WebSocket is closed with. The whole table, for operators,
//! is `docs/failures.md`.

pub(crate) mod close;
mod words;

use std::time::Duration;

use bivouac_protocol::Reason;
use http::StatusCode;

use crate::page::timeline::Progress;

pub(crate) use close::{BACKEND_FAILED, close_code, flushes};

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
    /// Its body has more bytes than the session's template permits.
    BodyTooLarge,
    /// Its body came more slowly than we wait.
    BodyTimeout,
    /// No session hostname under our domain.
    UnknownHost,
    /// The hostname has the form of a session's, but there is no such session.
    UnknownSession,
    /// The session has no port with the label that the hostname begins with.
    UnknownPort,
    /// The session wants a ticket, and none was shown.
    TicketMissing,
    /// What was shown is no ticket of this installation.
    TicketInvalid,
    /// It was good for a while that is over.
    TicketExpired,
    /// It is good for another session.
    TicketWrongSession,
    /// It was withdrawn.
    TicketRevoked,
    /// It is good for one use, and that was made.
    TicketUsed,
    /// It is not good where it was shown.
    TicketMisplaced,
    /// The page that makes the request may not use the session.
    OriginRefused,
    /// No key is known by which tickets could be checked.
    TicketsUnavailable,
    /// The session is over.
    Ended(Option<Reason>),
    /// It could not be started.
    StartFailed(Option<Reason>),
    /// It is still starting, and the wait is over.
    StillStarting {
        /// When to try again.
        retry_after: Duration,
        /// How far the start is known to have come.
        progress: Progress,
    },
    /// Too many requests wait for it, or in total.
    TooManyWaiting,
    /// As many requests and connections of it are open as its template permits.
    TooManyConnections,
    /// Nothing is known of it and whoever knows cannot be asked.
    Unresolvable,
    /// The host that it runs on cannot be reached.
    SessionUnreachable,
    /// Its backend does not accept connections.
    BackendUnreachable,
    /// Its backend broke the connection, or the protocol.
    BackendFailed,
    /// The port speaks HTTP/2 only, and the connection was to become something else.
    UpgradeUnsupported,
    /// The proxy is stopping.
    Draining,
}

/// The first second of a start passes in silence; then a browser is shown a page, and asks again this often.
pub(crate) const START_PAGE_REFRESH: Duration = Duration::from_secs(1);

impl Refusal {
    /// All stable codes: whatever is counted by them is there from the start.
    pub(crate) const CODES: [&str; 29] = [
        "bad_request",
        "head_too_large",
        "head_timeout",
        "method_not_allowed",
        "body_too_large",
        "body_timeout",
        "host_unknown",
        "session_unknown",
        "port_unknown",
        "ticket_missing",
        "ticket_invalid",
        "ticket_expired",
        "ticket_wrong_session",
        "ticket_revoked",
        "ticket_used",
        "ticket_misplaced",
        "origin_refused",
        "tickets_unavailable",
        "session_ended",
        "start_failed",
        "session_starting",
        "too_many_waiting",
        "too_many_connections",
        "session_unresolvable",
        "session_unreachable",
        "backend_unreachable",
        "backend_failed",
        "upgrade_unsupported",
        "draining",
    ];

    /// The stable code, the same in JSON, in HTML and in a close frame's reason.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::HeadTooLarge => "head_too_large",
            Self::HeadTimeout => "head_timeout",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::UnknownHost => "host_unknown",
            Self::UnknownSession => "session_unknown",
            Self::UnknownPort => "port_unknown",
            Self::TicketMissing => "ticket_missing",
            Self::TicketInvalid => "ticket_invalid",
            Self::TicketExpired => "ticket_expired",
            Self::TicketWrongSession => "ticket_wrong_session",
            Self::TicketRevoked => "ticket_revoked",
            Self::TicketUsed => "ticket_used",
            Self::TicketMisplaced => "ticket_misplaced",
            Self::OriginRefused => "origin_refused",
            Self::TicketsUnavailable => "tickets_unavailable",
            Self::Ended(_) => "session_ended",
            Self::StartFailed(_) => "start_failed",
            Self::StillStarting { .. } => "session_starting",
            Self::TooManyWaiting => "too_many_waiting",
            Self::TooManyConnections => "too_many_connections",
            Self::Unresolvable => "session_unresolvable",
            Self::SessionUnreachable => "session_unreachable",
            Self::BackendUnreachable => "backend_unreachable",
            Self::BackendFailed => "backend_failed",
            Self::UpgradeUnsupported => "upgrade_unsupported",
            Self::Draining => "draining",
        }
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::HeadTimeout | Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnknownHost | Self::UnknownSession | Self::UnknownPort => StatusCode::NOT_FOUND,
            Self::TicketMissing | Self::TicketInvalid | Self::TicketExpired => StatusCode::UNAUTHORIZED,
            Self::TicketWrongSession
            | Self::TicketRevoked
            | Self::TicketUsed
            | Self::TicketMisplaced
            | Self::OriginRefused => StatusCode::FORBIDDEN,
            Self::Ended(_) => StatusCode::GONE,
            Self::StartFailed(_) | Self::BackendUnreachable | Self::BackendFailed => StatusCode::BAD_GATEWAY,
            Self::UpgradeUnsupported => StatusCode::NOT_IMPLEMENTED,
            Self::TicketsUnavailable
            | Self::StillStarting { .. }
            | Self::TooManyWaiting
            | Self::TooManyConnections
            | Self::Unresolvable
            | Self::SessionUnreachable
            | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
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
            Self::StillStarting { retry_after, .. } => Some(retry_after.as_secs().max(1)),
            Self::SessionUnreachable | Self::TicketsUnavailable => Some(5),
            Self::TooManyWaiting
            | Self::TooManyConnections
            | Self::Unresolvable
            | Self::BackendUnreachable
            | Self::Draining => Some(1),
            _ => None,
        }
    }

    /// Whether a valid ticket would be let in where this was said.
    pub(crate) fn asks_for_a_ticket(&self) -> bool {
        matches!(self, Self::TicketMissing | Self::TicketInvalid | Self::TicketExpired)
    }
}
