//! Where Nomad is, from the variables of Nomad's own tools.

use std::path::PathBuf;

use anyhow::Context;
use bivouac_nomad::{Config, Tls};
use url::Url;

const DEFAULT_ADDRESS: &str = "http://127.0.0.1:4646";

/// Nomad's address and credentials, and the namespace for jobs that name none.
#[derive(Debug)]
pub(crate) struct Nomad {
    pub(crate) config: Config,
    pub(crate) namespace: String,
}

/// Reads `NOMAD_ADDR`, `NOMAD_TOKEN`, `NOMAD_REGION`, `NOMAD_NAMESPACE`, `NOMAD_CACERT`, `NOMAD_CLIENT_CERT`,
/// `NOMAD_CLIENT_KEY`, `NOMAD_TLS_SERVER_NAME` and `NOMAD_SKIP_VERIFY` through `variable`, and `NOMAD_TOKEN_FILE`, which
/// is ours: a task's workload identity is a file that is replaced. Empty ones count as unset.
pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Nomad> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let file = |name: &str| set(name).map(PathBuf::from);
    // Nomad itself sets it in tasks that are given a token; there the address says where to go.
    anyhow::ensure!(
        set("NOMAD_UNIX_ADDR").is_none() || set("NOMAD_ADDR").is_some(),
        "NOMAD_UNIX_ADDR is not supported: set NOMAD_ADDR to an http:// or https:// address"
    );
    if set("NOMAD_CAPATH").is_some() {
        tracing::warn!(
            variable = "NOMAD_CAPATH",
            "This variable is not supported and has no effect: name one file with all authorities in NOMAD_CACERT."
        );
    }
    let skip =
        set("NOMAD_SKIP_VERIFY").is_some_and(|value| matches!(value.as_str(), "1" | "t" | "true" | "TRUE"));
    let config = Config {
        address: address(&set("NOMAD_ADDR").unwrap_or_else(|| DEFAULT_ADDRESS.to_owned()))?,
        token: set("NOMAD_TOKEN").map(Into::into),
        token_file: file("NOMAD_TOKEN_FILE"),
        region: set("NOMAD_REGION"),
        tls: Tls {
            ca_file: file("NOMAD_CACERT"),
            certificate_file: file("NOMAD_CLIENT_CERT"),
            key_file: file("NOMAD_CLIENT_KEY"),
            server_name: set("NOMAD_TLS_SERVER_NAME"),
            skip_verify: skip,
        },
    };
    let namespace = set("NOMAD_NAMESPACE").filter(|name| name != "*").unwrap_or_else(|| "default".to_owned());
    Ok(Nomad { config, namespace })
}

/// The address as Nomad's own tools take it: with its scheme.
fn address(text: &str) -> anyhow::Result<Url> {
    let url: Url = text.parse().with_context(|| format!("NOMAD_ADDR {text:?} is not an address"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        "unix" => {
            anyhow::bail!("NOMAD_ADDR {text:?}: unix sockets are not supported, only http:// and https://")
        }
        _ => anyhow::bail!("NOMAD_ADDR {text:?} must begin with http:// or https://"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_from(variables: &[(&str, &str)]) -> anyhow::Result<Nomad> {
        read(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn without_variables_it_is_the_local_agent() {
        let nomad = read_from(&[("NOMAD_ADDR", ""), ("NOMAD_TOKEN", "")]).unwrap();
        assert_eq!(nomad.config.address.as_str(), "http://127.0.0.1:4646/");
        assert!(nomad.config.token.is_none());
        assert_eq!(nomad.namespace, "default");
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_name() {
        for (name, value) in [
            ("NOMAD_UNIX_ADDR", "/run/nomad.sock"),
            ("NOMAD_ADDR", "unix:///run/nomad.sock"),
            ("NOMAD_ADDR", "localhost:4646"),
            ("NOMAD_ADDR", "10.0.0.1"),
        ] {
            let error = read_from(&[(name, value)]).unwrap_err();
            assert!(error.to_string().contains(name), "{name}={value}: {error}");
        }
    }

    #[test]
    fn the_token_is_not_shown() {
        let nomad = read_from(&[("NOMAD_TOKEN", "s3cret"), ("NOMAD_NAMESPACE", "apps")]).unwrap();
        assert!(!format!("{nomad:?}").contains("s3cret"));
        assert_eq!(nomad.namespace, "apps");
    }
}
