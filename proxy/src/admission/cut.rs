//! What ends an admitted use before its time.

use bivouac_protocol::Reason;

use crate::refusal::{Refusal, close_code};

/// Why whatever is open has to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Its generation is over.
    Over(Reason),
    /// The ticket that let it in was revoked.
    Revoked,
    /// This proxy has to end.
    Draining,
}

impl Cut {
    /// How a WebSocket is closed: close code and reason text.
    pub(crate) fn close(&self) -> (u16, &'static str) {
        match self {
            Self::Over(reason) => close_code(Some(reason)),
            Self::Revoked => Refusal::TicketRevoked.close(),
            Self::Draining => close_code(None),
        }
    }

    /// What a request is told that has had no answer yet.
    pub(crate) fn refusal(self) -> Refusal {
        match self {
            Self::Over(reason) => Refusal::Ended(Some(reason)),
            Self::Revoked => Refusal::TicketRevoked,
            Self::Draining => Refusal::Draining,
        }
    }
}
