//! What calls are made with: an HTTP client that trusts and shows the certificates of the moment, and the token.

use std::net::{IpAddr, SocketAddr};

use reqwest::header::HeaderValue;
use reqwest::{Certificate, ClientBuilder, Identity};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::explain::causes;
use crate::files::Contents;
use crate::{Target, Tls, Token};

/// What stays the same whatever is replaced: where calls go, and where credentials come from.
pub(crate) struct Source {
    pub(crate) target: Target,
    pub(crate) address: Url,
    pub(crate) token: Token,
    pub(crate) tls: Tls,
    /// Time limits, and everything else that is not ours.
    pub(crate) base: fn() -> ClientBuilder,
}

/// What calls are made with at present.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) http: reqwest::Client,
    pub(crate) token: Option<HeaderValue>,
    /// Counts the replacements.
    pub(crate) serial: u64,
}

impl Source {
    /// A client with these contents of the files; `serial` counts the replacements.
    ///
    /// # Errors
    /// When one of them cannot be used, in words.
    pub(crate) fn live(&self, contents: &Contents, serial: u64) -> Result<Live, String> {
        let token = match &self.token {
            Token::None => None,
            Token::Fixed(token) => Some(token),
            Token::File(_) => contents.token.as_ref(),
        };
        let token = token.map(|token| header(token, self.target)).transpose()?;
        let builder = (self.base)();
        let builder = if self.is_encrypted() {
            secured(builder, &self.address, &self.tls, contents)?
        } else {
            builder.tls_certs_only([])
        };
        let http = builder.build().map_err(|error| causes(&error))?;
        Ok(Live { http, token, serial })
    }

    /// Whether certificates mean anything here.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.address.scheme() == "https"
    }

    /// Where the token is to be put, for people.
    pub(crate) fn place(&self) -> String {
        let variable = self.target.token_variable;
        match &self.token {
            Token::File(path) => path.display().to_string(),
            Token::Fixed(_) => format!(
                "{variable} (and restart; the file that {variable}_FILE names is read again without a restart)"
            ),
            Token::None => format!("the file that {variable}_FILE names"),
        }
    }
}

fn header(token: &SecretString, target: Target) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::try_from(token.expose_secret())
        .map_err(|_| format!("{}'s token has characters that no header can carry", target.name))?;
    value.set_sensitive(true);
    Ok(value)
}

fn secured(
    mut builder: ClientBuilder,
    address: &Url,
    tls: &Tls,
    contents: &Contents,
) -> Result<ClientBuilder, String> {
    let named = |path: &Option<std::path::PathBuf>, why: String| {
        let path = path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        format!("{path} is not usable: {why}")
    };
    if let Some(pem) = &contents.ca {
        let roots = Certificate::from_pem_bundle(pem).map_err(|error| named(&tls.ca_file, causes(&error)))?;
        if roots.is_empty() {
            return Err(named(&tls.ca_file, "there is no certificate in it".to_owned()));
        }
        builder = builder.tls_certs_only(roots);
    }
    if let Some((certificate, key)) = &contents.identity {
        let pem = [certificate, b"\n".as_slice(), key.expose_secret().as_bytes()].concat();
        let identity =
            Identity::from_pem(&pem).map_err(|error| named(&tls.certificate_file, causes(&error)))?;
        builder = builder.identity(identity);
    }
    if tls.server_name.is_some()
        && let Some(host) = address.host_str()
    {
        builder = builder.dns_resolver(InsteadOf(host.trim_matches(['[', ']']).to_owned()));
    }
    Ok(builder.tls_danger_accept_invalid_certs(tls.skip_verify))
}

/// The certificate's name is asked for, and the address is connected to.
struct InsteadOf(String);

impl reqwest::dns::Resolve for InsteadOf {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let host = self.0.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
                Ok(ip) => vec![SocketAddr::new(ip, 0)],
                Err(_) => tokio::net::lookup_host((host, 0)).await?.collect(),
            };
            let addresses: reqwest::dns::Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}
