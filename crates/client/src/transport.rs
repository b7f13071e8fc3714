//! One HTTP exchange: address, token, time limits, and how an answer or a refusal is read.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use url::{Host, Url};

use crate::Reply;
use crate::error::{Error, Problem};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For calls that the service answers from what it knows, or from one transaction in the ledger.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// An error page of a stranger is quoted, not printed whole.
const QUOTED_BYTES: usize = 200;

#[derive(Debug, Clone)]
pub(crate) struct Transport {
    http: reqwest::Client,
    base: Url,
}

impl Transport {
    pub(crate) fn new(base: Url, token: SecretString) -> Result<Self, Error> {
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(Error::Setup(format!("{base} is not an http:// or https:// address")));
        }
        // reqwest is built without a TLS provider of its own; a second installation is refused and harmless.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
            .map_err(|_| Error::Setup("the token has characters that no header can carry".into()))?;
        bearer.set_sensitive(true);
        let mut builder = reqwest::Client::builder()
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, bearer)]))
            .user_agent(concat!("bivouac/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(Duration::from_secs(15));
        if is_loopback(&base) {
            // A proxy from the environment cannot reach what is local to us.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| Error::Setup(error.to_string()))?;
        Ok(Self { http, base })
    }

    /// The address of a call; each segment is escaped, so that a key may contain `/`.
    pub(crate) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// A call that is answered soon or not at all.
    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.http.request(method, url).timeout(ANSWER_TIMEOUT)
    }

    /// A call whose answer may take as long as it takes.
    pub(crate) fn patient(&self, method: Method, url: Url) -> RequestBuilder {
        self.http.request(method, url)
    }

    pub(crate) async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<Reply<T>, Error> {
        let json = self.text(request).await?;
        let value = serde_json::from_str(&json).map_err(|error| self.foreign(error.to_string()))?;
        Ok(Reply { value, json })
    }

    async fn text(&self, request: RequestBuilder) -> Result<String, Error> {
        self.open(request).await?.text().await.map_err(|source| self.unreachable(source))
    }

    /// The head of a successful answer; a refusal is read to its end.
    pub(crate) async fn open(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(|source| self.unreachable(source))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response).await) }
    }

    async fn refusal(&self, response: Response) -> Error {
        let status = response.status();
        let retry_after =
            response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = response.text().await.unwrap_or_default();
        match serde_json::from_str::<Problem>(&body) {
            Ok(problem) => Error::Refused(Box::new(Problem { retry_after, ..problem })),
            Err(_) => {
                let quoted: String = body.chars().take(QUOTED_BYTES).collect();
                self.foreign(format!("status {status} without a problem document: {:?}", quoted.trim()))
            }
        }
    }

    fn address(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    pub(crate) fn unreachable(&self, source: reqwest::Error) -> Error {
        // The address is ours to name; reqwest would repeat the whole URL with its query.
        Error::Unreachable { address: self.address(), source: source.without_url() }
    }

    fn foreign(&self, detail: String) -> Error {
        Error::Foreign { address: self.address(), detail }
    }
}

fn is_loopback(base: &Url) -> bool {
    match base.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transport(base: &str) -> Transport {
        Transport::new(base.parse().unwrap(), "s3cret".to_owned().into()).unwrap()
    }

    #[test]
    fn a_key_stays_one_segment_whatever_is_in_it() {
        let url = transport("http://127.0.0.1:7070").url(&["v1", "keys", "default", "a/b:c@d+e=f~g"]);
        assert_eq!(url.path(), "/v1/keys/default/a%2Fb:c@d+e=f~g");
    }

    #[test]
    fn a_base_with_a_path_is_kept() {
        assert_eq!(transport("https://h/api/").url(&["v1"]).as_str(), "https://h/api/v1");
    }

    #[test]
    fn the_token_is_not_shown() {
        assert!(!format!("{:?}", transport("http://h")).contains("s3cret"));
    }

    #[test]
    fn what_is_no_web_address_is_refused() {
        for base in ["ftp://h/", "mailto:a@b"] {
            let refused = Transport::new(base.parse().unwrap(), "t".to_owned().into());
            assert!(matches!(refused, Err(Error::Setup(_))), "{base}");
        }
    }
}
