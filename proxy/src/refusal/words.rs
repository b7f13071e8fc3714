//! What people are told of a refusal: what happened, and what to do about it.

use super::Refusal;

/// Where a session, and every way into it, comes from.
const OPEN_AGAIN: &str = "Open it again from the application it belongs to.";
const MAY_HAVE_ENDED: &str = "Its process may have ended just now. Try again in a moment.";

impl Refusal {
    /// What happened, in a few words.
    pub(crate) fn title(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "This request cannot be read",
            Self::HeadTooLarge => "This request's head is too large",
            Self::HeadTimeout | Self::BodyTimeout => "This request did not arrive in time",
            Self::MethodNotAllowed => "This method is not served",
            Self::BodyTooLarge => "This request is too large",
            Self::UnknownHost => "No session lives at this address",
            Self::UnknownSession => "There is no such session",
            Self::UnknownPort => "This session has no such port",
            Self::TicketMissing => "You need an invitation",
            Self::TicketInvalid => "This invitation is not valid",
            Self::TicketExpired => "This invitation has expired",
            Self::TicketWrongSession => "This invitation is for another session",
            Self::TicketRevoked => "This invitation was withdrawn",
            Self::TicketUsed => "This invitation was used already",
            Self::TicketMisplaced => "This invitation cannot be used this way",
            Self::OriginRefused => "This page may not use this session",
            Self::TicketsUnavailable => "Invitations cannot be checked right now",
            Self::Ended(_) => "This session has ended",
            Self::StartFailed(_) => "This session could not be started",
            Self::StillStarting { .. } => "This session is starting",
            Self::TooManyWaiting => "Too many requests wait for this session",
            Self::TooManyConnections => "This session is full",
            Self::Unresolvable => "This session cannot be found right now",
            Self::SessionUnreachable => "This session is out of reach",
            Self::BackendUnreachable => "This session does not answer",
            Self::BackendFailed => "This session broke off its answer",
            Self::UpgradeUnsupported => "This session's port speaks HTTP/2 only",
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
            Self::BodyTooLarge => {
                "Send less at once: the session's template bounds what one request may carry."
            }
            Self::BodyTimeout => {
                "Send the request again, over a connection that carries its body fast enough."
            }
            Self::UnknownHost => {
                "Check the address: a session's hostname begins with its id of 20 characters, or with the label of a \
                 port, two hyphens and the id."
            }
            Self::UnknownPort => {
                "Check the address: in front of the two hyphens stands the label of a port of the session's template."
            }
            Self::TicketRevoked => "Ask whoever invited you.",
            Self::TicketMisplaced => {
                "An invitation's link is opened in a browser, once; a program sends its ticket as a bearer token."
            }
            Self::OriginRefused => {
                "The session's own pages may use it, and those of the origins that its operator has listed."
            }
            Self::TicketsUnavailable => {
                "No key is known here yet by which they could be checked. Try again in a moment."
            }
            Self::StartFailed(_) => {
                "Open it again from the application; if it keeps failing, tell its operator the code."
            }
            Self::StillStarting { .. } => "It will answer as soon as it is ready. Try again in a moment.",
            Self::TooManyWaiting => "Try again in a moment.",
            Self::TooManyConnections => {
                "As many connections are open as its template permits. Close one, or try again in a moment."
            }
            Self::Unresolvable => {
                "Nothing is known of it yet, and nobody who knows can be asked. Try again in a moment."
            }
            Self::SessionUnreachable => {
                "The host that it runs on cannot be reached; it goes on when the host is back, or is started elsewhere \
                 when it is given up. Try again in a while."
            }
            Self::BackendUnreachable | Self::BackendFailed => MAY_HAVE_ENDED,
            Self::UpgradeUnsupported => "WebSockets and other upgrades need a port whose protocol is http.",
            Self::Draining => "Send the request again: another server will take it.",
            Self::UnknownSession
            | Self::TicketMissing
            | Self::TicketInvalid
            | Self::TicketExpired
            | Self::TicketWrongSession
            | Self::TicketUsed
            | Self::Ended(_) => OPEN_AGAIN,
        }
    }
}
