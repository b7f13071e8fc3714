//! Where the agent is, and how to speak to it.

use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;

use crate::Error;

pub use bivouac_access::Tls;

/// The agent's address and our credentials.
#[derive(Debug, Clone)]
pub struct Config {
    /// `http://` or `https://` address of the agent's HTTP API; a path in it is kept as a prefix.
    pub address: Url,
    /// The ACL token, sent as `X-Consul-Token`.
    pub token: Option<SecretString>,
    /// File with the ACL token, if none is given; read again when it changes.
    pub token_file: Option<PathBuf>,
    /// How `https://` is verified. Without a file of authorities the system's are trusted.
    pub tls: Tls,
}

impl Config {
    /// The address that Consul's own tools assume.
    pub const DEFAULT_ADDRESS: &str = "http://127.0.0.1:8500";

    /// An agent without ACLs or TLS.
    #[must_use]
    pub fn new(address: Url) -> Self {
        Self { address, token: None, token_file: None, tls: Tls::default() }
    }

    /// Reads the variables of Consul's own tools: `CONSUL_HTTP_ADDR`, `CONSUL_HTTP_SSL`, `CONSUL_HTTP_TOKEN`,
    /// `CONSUL_HTTP_TOKEN_FILE`, `CONSUL_CACERT`, `CONSUL_CLIENT_CERT`, `CONSUL_CLIENT_KEY`, `CONSUL_TLS_SERVER_NAME` and
    /// `CONSUL_HTTP_SSL_VERIFY`. Empty ones count as unset.
    ///
    /// # Errors
    /// [`Error::Setup`] when the address is not one.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let file = |name: &str| set(name).map(PathBuf::from);
        let ssl = set("CONSUL_HTTP_SSL")
            .is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"));
        let address = set("CONSUL_HTTP_ADDR").unwrap_or_else(|| Self::DEFAULT_ADDRESS.to_owned());
        let unverified = set("CONSUL_HTTP_SSL_VERIFY")
            .is_some_and(|value| matches!(value.as_str(), "0" | "f" | "F" | "false" | "FALSE" | "False"));
        Ok(Self {
            address: parse_address(&address, ssl)?,
            token: set("CONSUL_HTTP_TOKEN").map(SecretString::from),
            token_file: file("CONSUL_HTTP_TOKEN_FILE"),
            tls: Tls {
                ca_file: file("CONSUL_CACERT"),
                certificate_file: file("CONSUL_CLIENT_CERT"),
                key_file: file("CONSUL_CLIENT_KEY"),
                server_name: set("CONSUL_TLS_SERVER_NAME"),
                skip_verify: unverified,
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
    fn the_token_is_not_shown_and_a_missing_file_is_named() {
        let both = [("CONSUL_HTTP_TOKEN", "s3cret"), ("CONSUL_HTTP_TOKEN_FILE", "/nonexistent")];
        let read = config(&both).unwrap();
        assert_eq!(read.token.as_ref().unwrap().expose_secret(), "s3cret");
        assert!(!format!("{read:?}").contains("s3cret"));
        assert!(crate::Client::new(&read).is_ok(), "the token wins over its file");
        let missing = crate::Client::new(&config(&both[1..]).unwrap()).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent"), "{missing}");
    }
}
