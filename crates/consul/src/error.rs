//! What can go wrong with a call, by what the caller can do about it.

/// A call that failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The client cannot be built as configured.
    #[error("the Consul client cannot be set up: {0}")]
    Setup(String),
    /// No answer, or one that says "not now" (5xx, 429). **A write may have been applied or not.**
    #[error("Consul is unavailable: {0}")]
    Unavailable(String),
    /// The token is unknown, or does not permit this.
    #[error("Consul denied the request: {0}")]
    Denied(String),
    /// Consul does not accept the request, and will not accept it again.
    #[error("Consul refused the request with status {status}: {message}")]
    Invalid {
        /// Status code.
        status: u16,
        /// What Consul says.
        message: String,
    },
    /// The answer is not one that Consul gives.
    #[error("the answer cannot be understood: {0}")]
    Unintelligible(String),
}
