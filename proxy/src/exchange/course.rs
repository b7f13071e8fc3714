//! What the two directions of an exchange share while they are under way.

use std::sync::atomic::AtomicBool;

use http::StatusCode;

use crate::activity::Direction;
use crate::admission::{Admitted, Carrier};
use crate::log::Account;
use crate::metrics::Metrics;

/// What both directions tell each other, and whoever counts them.
pub(super) struct Course<'a> {
    /// Whether the whole request has been sent.
    pub(super) uploaded: AtomicBool,
    /// Whether the client may have seen something of a response.
    pub(super) begun: AtomicBool,
    /// What has to be asked before a piece is passed on, where the session ends when its connections are silent.
    pub(super) to_backend: Carrier<'a>,
    /// The same for the way back.
    pub(super) to_client: Carrier<'a>,
    admitted: &'a Admitted,
    metrics: &'a Metrics,
    account: &'a Account,
}

impl<'a> Course<'a> {
    /// Nothing was said yet.
    pub(super) fn new(admitted: &'a Admitted, account: &'a Account) -> Self {
        Self {
            uploaded: AtomicBool::new(false),
            begun: AtomicBool::new(false),
            to_backend: admitted.carrier(Direction::ToBackend),
            to_client: admitted.carrier(Direction::ToClient),
            admitted,
            metrics: admitted.metrics(),
            account,
        }
    }

    /// The final head is on its way to the client.
    pub(super) fn answered(&self, status: StatusCode) {
        self.admitted.first_byte();
        self.metrics.answered(status.as_u16());
        self.account.head(status);
    }

    /// Bytes of a body were passed on.
    pub(super) fn carried(&self, to_backend: u64, to_client: u64) {
        self.metrics.carried(to_backend, to_client);
        self.account.carried(to_backend, to_client);
    }
}
