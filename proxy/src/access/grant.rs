//! What comes of judging a request: as whom it goes on, and what is taken out of it.

use std::sync::Arc;

/// What becomes of a request that is let in.
#[derive(Debug)]
pub(crate) enum Pass {
    /// It goes on to its session.
    Enter(Grant),
    /// Its link becomes a cookie first.
    Swap(Swap),
}

/// A redirection to the same place, with a cookie in place of the ticket in the URL.
#[derive(Debug)]
pub(crate) struct Swap {
    /// Where to: a path of the same host.
    pub(crate) location: Vec<u8>,
    /// The whole value of `Set-Cookie`.
    pub(crate) set_cookie: String,
}

/// As whom a request was let in.
#[derive(Debug, Default, Clone)]
pub(crate) struct Grant {
    /// Who it is, as the backend is told: safe in a header field.
    pub(crate) user: Option<Arc<str>>,
    /// What the application says about them: compact JSON in ASCII.
    pub(crate) claims: Option<Arc<str>>,
    /// When the ticket was issued, in milliseconds of Unix time.
    pub(crate) issued_ms: u64,
    /// A valid ticket was shown.
    pub(crate) ticketed: bool,
    /// What must not reach the backend.
    pub(crate) strip: Strip,
}

/// What of a request is ours and must not reach the backend, beside our cookies and `x-bivouac-*` fields.
#[derive(Debug, Default, Clone)]
pub(crate) struct Strip {
    /// The `Authorization` field is a ticket.
    pub(crate) authorization: bool,
    /// `Sec-WebSocket-Protocol` as the backend gets it; empty: not at all.
    pub(crate) protocols: Option<Vec<u8>>,
    /// The target as the backend gets it, in origin form.
    pub(crate) target: Option<Vec<u8>>,
    /// `bivouac.v1` was offered: it is chosen if the backend chooses none.
    pub(crate) offered_ours: bool,
}
