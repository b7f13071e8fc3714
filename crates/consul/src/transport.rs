//! One HTTP exchange with the agent: address, token, time limits, and what a status means.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Identity, Method, RequestBuilder, Response, StatusCode, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use url::Url;

use crate::{Config, Error};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For calls that Consul answers from one read, or one write to its log.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// For answers that may be many megabytes.
pub(crate) const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// What is shown of an error's body.
const QUOTED_CHARS: usize = 500;

const TOKEN: HeaderName = HeaderName::from_static("x-consul-token");
const INDEX: &str = "x-consul-index";
const FILTERED: &str = "x-consul-results-filtered-by-acls";

#[derive(Debug, Clone)]
pub(crate) struct Transport {
    http: reqwest::Client,
    base: Url,
}

/// A successful answer, or a 404: which of the two is "nothing there" depends on the call.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) found: bool,
    pub(crate) index: u64,
    /// The token may not read all of it.
    pub(crate) filtered: bool,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| Error::Unintelligible(error.to_string()))
    }

    /// The call has no notion of "not there".
    pub(crate) fn or_missing(self) -> Result<Self, Error> {
        if self.found { Ok(self) } else { Err(Error::Invalid { status: 404, message: quoted(&self.body) }) }
    }
}

impl Transport {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let setup = |error: reqwest::Error| Error::Setup(error.without_url().to_string());
        // reqwest is built without a TLS provider of its own; a second installation is refused and harmless.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut builder = reqwest::Client::builder()
            .default_headers(headers(config.token.as_ref())?)
            .user_agent(concat!("bivouac/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(Duration::from_secs(15))
            .redirect(redirect::Policy::none())
            // An agent is close by; a proxy from the environment could not reach it.
            .no_proxy();
        if let Some(path) = &config.tls.ca_file {
            let authorities = Certificate::from_pem_bundle(&read(path)?).map_err(setup)?;
            builder = builder.tls_certs_only(authorities);
        }
        match (&config.tls.cert_file, &config.tls.key_file) {
            (Some(cert), Some(key)) => {
                let pem = [read(cert)?, b"\n".to_vec(), read(key)?].concat();
                builder = builder.identity(Identity::from_pem(&pem).map_err(setup)?);
            }
            (None, None) => {}
            _ => return Err(Error::Setup("a client certificate needs both its file and its key's".into())),
        }
        Ok(Self { http: builder.build().map_err(setup)?, base: config.address.clone() })
    }

    /// A request to `/v1/…`. Each segment is escaped.
    pub(crate) fn request<'a>(
        &self,
        method: Method,
        segments: impl IntoIterator<Item = &'a str>,
        limit: Duration,
    ) -> RequestBuilder {
        let mut url = self.base.clone();
        // Only a URL without a host has no segments; such a one cannot be configured.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("v1").extend(segments);
        }
        self.http.request(method, url).timeout(limit)
    }

    /// Sends it; 2xx and 404 are answers.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Answer, Error> {
        let response = request.send().await.map_err(unavailable)?;
        let status = response.status();
        let answer = read_answer(response).await?;
        if answer.found || status == StatusCode::NOT_FOUND {
            Ok(answer)
        } else {
            Err(refusal(status, &answer.body))
        }
    }

    /// Sends it; 2xx and 409 are answers, of which the first is said to be `found`.
    pub(crate) async fn send_conditional(&self, request: RequestBuilder) -> Result<Answer, Error> {
        let response = request.send().await.map_err(unavailable)?;
        let status = response.status();
        let answer = read_answer(response).await?;
        if answer.found || status == StatusCode::CONFLICT {
            Ok(answer)
        } else {
            Err(refusal(status, &answer.body))
        }
    }
}

fn headers(token: Option<&SecretString>) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        let mut value = HeaderValue::try_from(token.expose_secret())
            .map_err(|_| Error::Setup("the token has characters that no header can carry".into()))?;
        value.set_sensitive(true);
        headers.insert(TOKEN, value);
    }
    Ok(headers)
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::Setup(format!("{} cannot be read: {error}", path.display())))
}

async fn read_answer(response: Response) -> Result<Answer, Error> {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let index = header(INDEX).and_then(|value| value.parse().ok()).unwrap_or(0);
    let filtered = header(FILTERED) == Some("true");
    let found = response.status().is_success();
    let body = response.bytes().await.map_err(unavailable)?.to_vec();
    Ok(Answer { found, index, filtered, body })
}

fn refusal(status: StatusCode, body: &[u8]) -> Error {
    let message = quoted(body);
    match status {
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Error::Denied(message),
        StatusCode::TOO_MANY_REQUESTS => Error::Unavailable(message),
        status if status.is_server_error() => Error::Unavailable(format!("status {status}: {message}")),
        status => Error::Invalid { status: status.as_u16(), message },
    }
}

/// With its causes, which reqwest's own text leaves out; without the URL, which names keys.
fn unavailable(error: reqwest::Error) -> Error {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    Error::Unavailable(text)
}

pub(crate) fn quoted(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim().chars().take(QUOTED_CHARS).collect()
}
