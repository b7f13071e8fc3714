#![doc = include_str!("../README.md")]

mod agent;
mod catalog;
mod config;
mod error;
mod kv;
mod session;
mod transport;
mod txn;

pub use agent::{Agent, Check, Probe, ServiceDefinition};
pub use catalog::{CheckStatus, Instance};
pub use config::{Config, Tls};
pub use error::Error;
pub use kv::{Pair, Watched};
pub use session::{Behavior, Session, SessionDefinition};
pub use txn::{Outcome, Refusal, TxnOp, Written};

use transport::Transport;

/// A client of one Consul agent. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Transport,
}

impl Client {
    /// A client for the agent at the configured address. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Setup`] when the address, the token or a certificate cannot be used.
    pub fn new(config: &Config) -> Result<Self, Error> {
        Ok(Self { transport: Transport::new(config)? })
    }

    /// What Consul makes of our credentials at present.
    #[must_use]
    pub fn access(&self) -> bivouac_access::Access {
        self.transport.access()
    }

    /// Asks now and then when our token ends, for as long as it is polled, and shows it in [`Self::access`]'s metrics.
    pub async fn watch_token(&self) {
        self.transport.watch_token().await;
    }
}
