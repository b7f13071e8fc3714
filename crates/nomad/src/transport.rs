//! One HTTP exchange: address, token, time limits, and how an answer or a refusal is read.

use std::sync::Arc;
use std::time::Duration;

use bivouac_access::{Access, Connection, Failure, NOMAD, Outcome, Token};
use reqwest::{ClientBuilder, Method, RequestBuilder, Response, StatusCode, redirect};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::{Config, Error, Listed};

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

const NEXT_TOKEN_HEADER: &str = "x-nomad-nexttoken";
const INDEX_HEADER: &str = "x-nomad-index";

#[derive(Debug, Clone)]
pub(crate) struct Transport {
    connection: Connection,
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
        let Config { address, token, token_file, region, tls } = config;
        if !matches!(address.scheme(), "http" | "https") || address.cannot_be_a_base() {
            return Err(Error::Setup(format!("{address} is not an http:// or https:// address of Nomad")));
        }
        let connection = Connection::new(NOMAD, address, Token::of(token, token_file), tls, base);
        let connection = connection.map_err(Error::Setup)?;
        Ok(Self { connection, region, slots: Arc::new(Semaphore::new(CALLS_AT_A_TIME)) })
    }

    /// For calls that can be done without: their refusal is no news of our access.
    pub(crate) fn optional(&self) -> Self {
        Self { connection: self.connection.optional(), ..self.clone() }
    }

    /// What Nomad makes of our credentials.
    pub(crate) fn access(&self) -> Access {
        self.connection.access()
    }

    /// Keeps the access's knowledge of the token's end current.
    pub(crate) async fn watch_token(&self) {
        self.connection.watch_expiry().await;
    }

    /// A call to `/v1/<segments>`. Each segment is escaped.
    pub(crate) fn call(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        self.lasting_call(method, segments).timeout(ANSWER_TIMEOUT)
    }

    /// A call whose answer never ends.
    pub(crate) fn lasting_call(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let request = self.connection.request(method, segments.iter().copied());
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

    /// The value, or `None` if there is no such object.
    pub(crate) async fn found<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<Option<T>, Error> {
        match self.value(request).await {
            Ok(value) => Ok(Some(value)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
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
        self.connection.call(request, accepted).await
    }
}

async fn accepted(response: Response) -> Result<Response, Error> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.text().await.unwrap_or_default();
    if status == StatusCode::BAD_REQUEST && bivouac_access::is_plain_text_refusal(&body) {
        return Err(Error::Unavailable(bivouac_access::plain_text_refused(NOMAD)));
    }
    Err(Error::refusal(status, &body))
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Unavailable(failure.text)
    }
}

impl Outcome for Error {
    fn denial(&self) -> Option<&str> {
        if let Self::Denied(detail) = self { Some(detail) } else { None }
    }
}

/// What is the same whatever the credentials are.
fn base() -> ClientBuilder {
    reqwest::Client::builder()
        // The token is for Nomad alone: never for a proxy that the environment names.
        .no_proxy()
        // By HTTP/2 all calls would share one connection, its end, and a certificate's refusal that looks like a broken pipe.
        .http1_only()
        .user_agent(concat!("bivouac/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .tcp_keepalive(KEEPALIVE)
        .tcp_keepalive_interval(KEEPALIVE)
        .tcp_keepalive_retries(3)
}

fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name)?.to_str().ok().filter(|text| !text.is_empty()).map(str::to_owned)
}
