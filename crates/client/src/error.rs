//! What can go wrong between a caller and the API.

use serde::Deserialize;

/// A refusal by the service: RFC 9457, with a stable code.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// The stable code: what programs decide by.
    pub code: String,
    /// A short sentence.
    pub title: String,
    /// What is wrong in this case, and what to do.
    #[serde(default)]
    pub detail: Option<String>,
    /// Finds the request in the service's logs.
    #[serde(default)]
    pub request_id: Option<String>,
    /// Seconds after which trying again makes sense.
    #[serde(skip)]
    pub retry_after: Option<u64>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.title)?;
        if let Some(detail) = self.detail.as_deref().filter(|detail| !detail.is_empty()) {
            write!(f, ": {detail}")?;
        }
        write!(f, " [{}", self.code)?;
        if let Some(id) = &self.request_id {
            write!(f, ", request {id}")?;
        }
        write!(f, "]")
    }
}

/// Why a call has no answer, or not the one hoped for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service answered with a refusal.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// No answer. A write may have been carried out or not.
    #[error("no answer from {address}")]
    Unreachable {
        /// Whom we asked: scheme, host and port.
        address: String,
        /// What happened on the wire.
        #[source]
        source: reqwest::Error,
    },
    /// An answer that is not one of this API: something else listens there, or another version.
    #[error("{address} does not answer as the Bivouac API does: {detail}")]
    Foreign {
        /// Whom we asked.
        address: String,
        /// What is odd about it.
        detail: String,
    },
    /// The event stream broke.
    #[error("the event stream broke")]
    Stream(#[source] sse_stream::Error),
    /// The service ended the event stream: it is shutting down.
    #[error("the service ended the event stream")]
    Ended,
    /// The client cannot be made from what it was given.
    #[error("{0}")]
    Setup(String),
}

impl Error {
    /// The stable code, where the service gave one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(problem) => Some(&problem.code),
            _ => None,
        }
    }

    /// Whether what was asked for does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(problem) if problem.status == 404)
    }

    /// Whether nobody, or nobody with the time to answer, was there: trying again later makes sense.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Refused(problem) => matches!(problem.status, 429 | 503 | 504),
            Self::Unreachable { .. } | Self::Stream(_) | Self::Ended => true,
            Self::Foreign { .. } | Self::Setup(_) => false,
        }
    }
}
