//! One HTTP exchange: address, token, time limits, and how an answer or a refusal is read.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Identity, Method, RequestBuilder, Response, redirect};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use url::Url;

use crate::{Config, Error, Listed, Tls};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// For calls that one transaction or one look-up answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// For lists of everything.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// A dead peer is noticed after this long, also where we only listen.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Nomad allows an address 100 connections by default and answers the rest with 429; two replicas of ours may share
/// an address, and the event stream takes one each.
const CALLS_AT_A_TIME: usize = 40;

const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-nomad-token");
const NEXT_TOKEN_HEADER: &str = "x-nomad-nexttoken";
const INDEX_HEADER: &str = "x-nomad-index";

#[derive(Debug, Clone)]
pub(crate) struct Transport {
    http: reqwest::Client,
    base: Url,
    region: Option<String>,
    slots: Arc<Semaphore>,
}

/// A decoded answer, how recent it is, and where its list goes on.
pub(crate) struct Answer<T> {
    pub(crate) value: T,
    pub(crate) index: u64,
    pub(crate) next_token: Option<String>,
}

impl Transport {
    pub(crate) fn new(config: Config) -> Result<Self, Error> {
        let Config { address, token, region, tls } = config;
        if !matches!(address.scheme(), "http" | "https") || address.cannot_be_a_base() {
            return Err(Error::Setup(format!("{address} is not an http:// or https:// address of Nomad")));
        }
        // The HTTP client has no TLS provider of its own and panics without one; a second installation is refused
        // and harmless.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut value = HeaderValue::try_from(token.expose_secret())
                .map_err(|_| Error::Setup("Nomad's token has characters that no header can carry".into()))?;
            value.set_sensitive(true);
            headers.insert(TOKEN_HEADER, value);
        }
        let builder = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("bivouac/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .tcp_keepalive(KEEPALIVE)
            .tcp_keepalive_interval(KEEPALIVE)
            .tcp_keepalive_retries(3);
        let builder =
            if address.scheme() == "https" { secured(builder, &tls)? } else { builder.tls_certs_only([]) };
        let http = builder.build().map_err(|error| Error::Setup(crate::error::causes(&error)))?;
        Ok(Self { http, base: address, region, slots: Arc::new(Semaphore::new(CALLS_AT_A_TIME)) })
    }

    /// A call to `/v1/<segments>`. Each segment is escaped.
    pub(crate) fn call(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        self.lasting_call(method, segments).timeout(ANSWER_TIMEOUT)
    }

    /// A call whose answer never ends.
    pub(crate) fn lasting_call(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("v1").extend(segments);
        }
        let request = self.http.request(method, url);
        match &self.region {
            Some(region) => request.query(&[("region", region)]),
            None => request,
        }
    }

    /// Sends a call and reads its JSON.
    pub(crate) async fn answer<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<Answer<T>, Error> {
        let _slot =
            self.slots.acquire().await.map_err(|_| Error::Unavailable("the client is closed".into()))?;
        let response = self.open(request).await?;
        let index = header(&response, INDEX_HEADER).and_then(|index| index.parse().ok()).unwrap_or(0);
        let next_token = header(&response, NEXT_TOKEN_HEADER);
        let body = response.bytes().await.map_err(Error::wire)?;
        let value = serde_json::from_slice(&body).map_err(|error| Error::Foreign(error.to_string()))?;
        Ok(Answer { value, index, next_token })
    }

    /// The value alone.
    pub(crate) async fn value<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        Ok(self.answer(request).await?.value)
    }

    /// One page of a list. Pages are not one snapshot: whoever needs certainty listens before listing.
    pub(crate) async fn page<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
        after: Option<&str>,
    ) -> Result<Answer<Vec<T>>, Error> {
        const PER_PAGE: &str = "1000";
        let mut request = self.call(Method::GET, segments).timeout(LIST_TIMEOUT).query(query);
        request = request.query(&[("per_page", PER_PAGE)]);
        if let Some(token) = after {
            request = request.query(&[("next_token", token)]);
        }
        let Answer { value, index, next_token } = self.answer::<Option<Vec<T>>>(request).await?;
        Ok(Answer { value: value.unwrap_or_default(), index, next_token })
    }

    /// All pages of a list, as recent as the first of them.
    pub(crate) async fn pages<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Listed<T>, Error> {
        let first = self.page(segments, query, None).await?;
        let (mut items, index, mut next) = (first.value, first.index, first.next_token);
        while let Some(token) = next {
            let page = self.page(segments, query, Some(&token)).await?;
            items.extend(page.value);
            next = page.next_token;
        }
        Ok(Listed { items, index })
    }

    /// The head of a successful answer; a refusal is read to its end.
    pub(crate) async fn open(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(Error::wire)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        Err(Error::refusal(status, &response.text().await.unwrap_or_default()))
    }
}

fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name)?.to_str().ok().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn secured(mut builder: reqwest::ClientBuilder, tls: &Tls) -> Result<reqwest::ClientBuilder, Error> {
    if let Some(path) = &tls.ca_file {
        let roots = Certificate::from_pem_bundle(&read(path)?).map_err(|error| unusable(path, &error))?;
        builder = builder.tls_certs_only(roots);
    }
    match (&tls.certificate_file, &tls.key_file) {
        (Some(certificate), Some(key)) => {
            let mut pem = read(certificate)?;
            pem.push(b'\n');
            pem.extend(read(key)?);
            let identity = Identity::from_pem(&pem).map_err(|error| unusable(certificate, &error))?;
            builder = builder.identity(identity);
        }
        (None, None) => {}
        _ => {
            return Err(Error::Setup(
                "a client certificate for Nomad needs both its file and its key's".into(),
            ));
        }
    }
    Ok(builder.tls_danger_accept_invalid_certs(tls.skip_verify))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::Setup(format!("{} cannot be read: {error}", path.display())))
}

fn unusable(path: &Path, error: &reqwest::Error) -> Error {
    Error::Setup(format!("{} is not usable: {}", path.display(), crate::error::causes(error)))
}
