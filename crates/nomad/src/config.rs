//! Where Nomad is, and how we prove who we are.

use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;

/// How to reach Nomad. Reading `NOMAD_*` variables is the caller's business.
#[derive(Debug, Clone)]
pub struct Config {
    /// An agent's or a load balancer's HTTP address, for example `http://127.0.0.1:4646`.
    pub address: Url,
    /// ACL token, sent as `X-Nomad-Token`.
    pub token: Option<SecretString>,
    /// Region to forward calls to; the agent's own by default.
    pub region: Option<String>,
    /// Used for `https` addresses only.
    pub tls: Tls,
}

impl Config {
    /// Plain access to `address`, without a token.
    #[must_use]
    pub fn new(address: Url) -> Self {
        Self { address, token: None, region: None, tls: Tls::default() }
    }
}

/// Certificates. Without a CA file the system's roots are trusted.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// PEM file with the authorities that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with our certificate, where Nomad verifies its clients (`verify_https_client`).
    pub certificate_file: Option<PathBuf>,
    /// PEM file with that certificate's key.
    pub key_file: Option<PathBuf>,
    /// Accepts any certificate. Whoever is in between can then read the token.
    pub skip_verify: bool,
}
