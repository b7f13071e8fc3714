//! What a WebSocket is closed with: 1001 where it goes on purpose and by no fault of the client's, else 4000 and the
//! status that an HTTP request would have got.

use bivouac_protocol::{Reason, ReasonCode};

use super::Refusal;

const GOING_AWAY: u16 = 1001;
const ENDED: u16 = 4410;

/// How a WebSocket is closed whose backend ended without a word: close code and reason text.
pub(crate) const BACKEND_FAILED: (u16, &str) = (4502, "backend_failed");

/// How a WebSocket is closed under which the session was stopped: close code and reason text. `None`: the proxy itself
/// has to end.
pub(crate) fn close_code(reason: Option<&Reason>) -> (u16, &'static str) {
    match reason.map(|reason| reason.code) {
        None => (GOING_AWAY, "draining"),
        Some(code) if code.is_on_purpose() => (GOING_AWAY, code.as_str()),
        Some(code) => (ENDED, code.as_str()),
    }
}

/// Whether what a backend sent before its end may still be on its way to the client.
pub(crate) fn flushes(reason: &Reason) -> bool {
    matches!(reason.code, ReasonCode::Exited | ReasonCode::StartFailed)
}

impl Refusal {
    /// How a WebSocket is closed that was refused by this: close code and reason text.
    pub(crate) fn close(&self) -> (u16, &'static str) {
        match self {
            Self::Draining => close_code(None),
            Self::Ended(Some(reason)) => close_code(Some(reason)),
            _ => (4000 + self.status().as_u16(), self.code()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_close_code_tells_what_the_status_would_have_told() {
        let ended = |code: ReasonCode| Refusal::Ended(Some(code.into())).close();
        assert_eq!(ended(ReasonCode::Idle), (1001, "idle"));
        assert_eq!(ended(ReasonCode::Quiet), (1001, "quiet"));
        assert_eq!(ended(ReasonCode::Exited), (4410, "exited"));
        assert_eq!(Refusal::Ended(None).close(), (4410, "session_ended"));
        assert_eq!(Refusal::Draining.close(), (1001, "draining"));
        assert_eq!(Refusal::TicketMissing.close(), (4401, "ticket_missing"));
        assert_eq!(Refusal::TicketRevoked.close(), (4403, "ticket_revoked"));
        assert_eq!(Refusal::UnknownPort.close(), (4404, "port_unknown"));
        assert_eq!(Refusal::BackendFailed.close(), BACKEND_FAILED);
        assert_eq!(Refusal::TooManyConnections.close(), (4503, "too_many_connections"));
    }

    /// The rows of a table in the reference: code, status, close code.
    fn documented() -> BTreeMap<String, (u16, u16)> {
        let rows = include_str!("../../../docs/failures.md").lines().filter(|line| line.starts_with("| `"));
        rows.map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let number = |cell: &str| cell.parse().unwrap();
            (cells[1].trim_matches('`').to_owned(), (number(cells[2]), number(cells[3])))
        })
        .collect()
    }

    #[test]
    fn the_reference_has_every_refusal_as_it_is() {
        let told = crate::page::tests::every().into_iter().filter(|refusal| match refusal {
            Refusal::Ended(reason) => reason.is_none(),
            _ => true,
        });
        let told =
            told.map(|refusal| (refusal.code().to_owned(), (refusal.status().as_u16(), refusal.close().0)));
        assert_eq!(documented(), told.collect());
    }
}
