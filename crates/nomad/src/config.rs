//! Where Nomad is, and how we prove who we are.

use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;

pub use bivouac_access::Tls;

/// How to reach Nomad. Reading `NOMAD_*` variables is the caller's business.
#[derive(Debug, Clone)]
pub struct Config {
    /// An agent's or a load balancer's HTTP address, for example `http://127.0.0.1:4646`.
    pub address: Url,
    /// ACL token, sent as `X-Nomad-Token`.
    pub token: Option<SecretString>,
    /// File with the ACL token, if none is given; read again when it changes. A task's workload identity is such a file.
    pub token_file: Option<PathBuf>,
    /// Region to forward calls to; the agent's own by default.
    pub region: Option<String>,
    /// Used for `https` addresses only. Without a file of authorities the system's are trusted.
    pub tls: Tls,
}

impl Config {
    /// Plain access to `address`, without a token.
    #[must_use]
    pub fn new(address: Url) -> Self {
        Self { address, token: None, token_file: None, region: None, tls: Tls::default() }
    }
}
