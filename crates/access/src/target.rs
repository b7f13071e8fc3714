//! Whom we speak to, and with which credentials.

use std::path::PathBuf;

use secrecy::SecretString;

/// One of the two, with the names of what is configured for it: an error says what to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// For sentences: "Nomad".
    pub name: &'static str,
    /// For labels: "nomad".
    pub label: &'static str,
    /// The header that carries the token, in lower case.
    pub token_header: &'static str,
    /// Variable with the token.
    pub token_variable: &'static str,
    /// Variable with the address.
    pub address_variable: &'static str,
    /// Variable with the file of authorities.
    pub ca_variable: &'static str,
    /// Variable with the file of our certificate.
    pub certificate_variable: &'static str,
    /// Variable with the name that the certificate has to be for.
    pub server_name_variable: &'static str,
    /// A name that its certificates usually have.
    pub usual_name: &'static str,
}

/// Nomad.
pub const NOMAD: Target = Target {
    name: "Nomad",
    label: "nomad",
    token_header: "x-nomad-token",
    token_variable: "NOMAD_TOKEN",
    address_variable: "NOMAD_ADDR",
    ca_variable: "NOMAD_CACERT",
    certificate_variable: "NOMAD_CLIENT_CERT",
    server_name_variable: "NOMAD_TLS_SERVER_NAME",
    usual_name: "client.<region>.nomad",
};

/// Consul.
pub const CONSUL: Target = Target {
    name: "Consul",
    label: "consul",
    token_header: "x-consul-token",
    token_variable: "CONSUL_HTTP_TOKEN",
    address_variable: "CONSUL_HTTP_ADDR",
    ca_variable: "CONSUL_CACERT",
    certificate_variable: "CONSUL_CLIENT_CERT",
    server_name_variable: "CONSUL_TLS_SERVER_NAME",
    usual_name: "client.<datacenter>.consul",
};

/// Where the token comes from.
#[derive(Debug, Clone, Default)]
pub enum Token {
    /// Calls are anonymous.
    #[default]
    None,
    /// It never changes.
    Fixed(SecretString),
    /// The content of a file, without the white space around it; read again when it changes.
    File(PathBuf),
}

impl Token {
    /// A token that was given wins over a file that may have one.
    #[must_use]
    pub fn of(given: Option<SecretString>, file: Option<PathBuf>) -> Self {
        match (given, file) {
            (Some(token), _) => Self::Fixed(token),
            (None, Some(file)) => Self::File(file),
            (None, None) => Self::None,
        }
    }
}

/// Certificates, as PEM files that are read again when they change. For `https` addresses only.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// The authorities that are trusted instead of the system's; several of them during a rotation.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, where the agent verifies its clients.
    pub certificate_file: Option<PathBuf>,
    /// That certificate's key.
    pub key_file: Option<PathBuf>,
    /// The name that the agent's certificate has to be for, where that is not the address's.
    pub server_name: Option<String>,
    /// Accepts any certificate. Whoever is in between can then read the token.
    pub skip_verify: bool,
}
