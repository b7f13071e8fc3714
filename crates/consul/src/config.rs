//! Where the agent is, and how to speak to it.

use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;

use crate::Error;

/// The agent's address and our credentials.
#[derive(Debug, Clone)]
pub struct Config {
    /// `http://` or `https://` address of the agent's HTTP API; a path in it is kept as a prefix.
    pub address: Url,
    /// The ACL token, sent as `X-Consul-Token`.
    pub token: Option<SecretString>,
    /// How `https://` is verified.
    pub tls: Tls,
}

/// Certificates, as PEM files.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Authorities that may have signed the agent's certificate, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, where the agent asks for one.
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
}

impl Config {
    /// The address that Consul's own tools assume.
    pub const DEFAULT_ADDRESS: &str = "http://127.0.0.1:8500";

    /// An agent without ACLs or TLS.
    #[must_use]
    pub fn new(address: Url) -> Self {
        Self { address, token: None, tls: Tls::default() }
    }

    /// Reads the variables of Consul's own tools: `CONSUL_HTTP_ADDR`, `CONSUL_HTTP_SSL`, `CONSUL_HTTP_TOKEN`,
    /// `CONSUL_HTTP_TOKEN_FILE`, `CONSUL_CACERT`, `CONSUL_CLIENT_CERT`, `CONSUL_CLIENT_KEY`. Empty ones count as unset.
    ///
    /// # Errors
    /// [`Error::Setup`] when the address is not one, or the token's file cannot be read.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let file = |name: &str| set(name).map(PathBuf::from);
        let ssl = set("CONSUL_HTTP_SSL")
            .is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"));
        let address = set("CONSUL_HTTP_ADDR").unwrap_or_else(|| Self::DEFAULT_ADDRESS.to_owned());
        let token = match (set("CONSUL_HTTP_TOKEN"), set("CONSUL_HTTP_TOKEN_FILE")) {
            (Some(token), _) => Some(token),
            (None, Some(path)) => Some(
                std::fs::read_to_string(&path)
                    .map_err(|error| {
                        Error::Setup(format!("the token's file {path} cannot be read: {error}"))
                    })?
                    .trim()
                    .to_owned(),
            ),
            (None, None) => None,
        };
        Ok(Self {
            address: parse_address(&address, ssl)?,
            token: token.map(SecretString::from),
            tls: Tls {
                ca_file: file("CONSUL_CACERT"),
                cert_file: file("CONSUL_CLIENT_CERT"),
                key_file: file("CONSUL_CLIENT_KEY"),
            },
        })
    }
}

/// An address with or without its scheme, as Consul's own tools take it.
fn parse_address(text: &str, ssl: bool) -> Result<Url, Error> {
    let invalid =
        |detail: String| Error::Setup(format!("{text:?} is not the address of a Consul agent: {detail}"));
    let full = match text.split_once("://") {
        Some(("http", rest)) if ssl => format!("https://{rest}"),
        Some(_) => text.to_owned(),
        None => format!("{}://{text}", if ssl { "https" } else { "http" }),
    };
    let url = Url::parse(&full).map_err(|error| invalid(error.to_string()))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(invalid(format!("{other}:// is not supported, only http:// and https://"))),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, Error> {
        Config::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn addresses_are_read_as_consuls_tools_read_them() {
        let address = |variables: &[(&str, &str)]| config(variables).map(|c| c.address.to_string()).ok();
        assert_eq!(address(&[]).as_deref(), Some("http://127.0.0.1:8500/"));
        assert_eq!(address(&[("CONSUL_HTTP_ADDR", "")]).as_deref(), Some("http://127.0.0.1:8500/"));
        assert_eq!(
            address(&[("CONSUL_HTTP_ADDR", "10.0.0.1:8500")]).as_deref(),
            Some("http://10.0.0.1:8500/")
        );
        assert_eq!(
            address(&[("CONSUL_HTTP_ADDR", "localhost:8500")]).as_deref(),
            Some("http://localhost:8500/")
        );
        assert_eq!(
            address(&[("CONSUL_HTTP_ADDR", "http://c:8501"), ("CONSUL_HTTP_SSL", "true")]).as_deref(),
            Some("https://c:8501/")
        );
        assert_eq!(address(&[("CONSUL_HTTP_ADDR", "unix:///run/consul.sock")]), None);
        assert_eq!(address(&[("CONSUL_HTTP_ADDR", "http://")]), None);
    }

    #[test]
    fn the_token_wins_over_its_file_and_is_not_shown() {
        let both = [("CONSUL_HTTP_TOKEN", "s3cret"), ("CONSUL_HTTP_TOKEN_FILE", "/nonexistent")];
        let read = config(&both).unwrap();
        assert_eq!(read.token.as_ref().unwrap().expose_secret(), "s3cret");
        assert!(!format!("{read:?}").contains("s3cret"));
        assert!(matches!(config(&both[1..]), Err(Error::Setup(_))));
    }
}
