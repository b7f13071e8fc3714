//! Calls of Nomad, Consul and our own processes as the doctor makes them: whatever comes back is an answer.

use std::path::PathBuf;
use std::time::Duration;

use bivouac_access::{Connection, Failure, Outcome, Target, Tls, Token};
use bivouac_protocol::text::printable;
use jiff::Timestamp;
use reqwest::{ClientBuilder, Method, Response};
use serde_json::Value;
use url::Url;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(5);
const HALF_A_SECOND: f64 = 0.5;

/// What was answered.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body; empty where it would never end.
    pub(crate) body: String,
    /// Consul left out what the token may not read.
    pub(crate) filtered: bool,
    /// How far the other clock is ahead of ours, to a second; negative if it is behind.
    pub(crate) ahead: Option<f64>,
    /// The certificate that the answer came under, as DER.
    pub(crate) certificate: Option<Vec<u8>>,
}

impl Heard {
    /// The body as JSON; null if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// Whether it is 2xx.
    pub(crate) fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The beginning of the body, in one line.
    pub(crate) fn said(&self) -> String {
        let line: Vec<_> = self.body.split_whitespace().collect();
        let said: String = line.join(" ").chars().take(200).collect();
        if said.is_empty() { format!("status {}", self.status) } else { printable(&said) }
    }
}

/// Why there is no answer, in words.
#[derive(Debug, Clone)]
pub(crate) struct Silence(pub(crate) String);

impl From<Failure> for Silence {
    fn from(failure: Failure) -> Self {
        Self(failure.text)
    }
}

impl Outcome for Silence {
    /// A refusal is an answer here, to be judged by whoever asked.
    fn denial(&self) -> Option<&str> {
        None
    }
}

/// An agent of Nomad or Consul.
pub(crate) struct Agent {
    pub(crate) target: Target,
    pub(crate) address: Url,
    /// Whether calls carry a token.
    pub(crate) has_token: bool,
    /// Our certificate, where there is one.
    pub(crate) certificate_file: Option<PathBuf>,
    connection: Connection,
}

impl Agent {
    /// The agent with this address and these credentials; nothing is asked yet.
    pub(crate) fn new(target: Target, address: Url, token: Token, tls: Tls) -> Result<Self, String> {
        let has_token = !matches!(token, Token::None);
        let certificate_file = tls.certificate_file.clone();
        let connection = Connection::new(target, address.clone(), token, tls, base)?;
        Ok(Self { target, address, has_token, certificate_file, connection })
    }

    pub(crate) async fn get(&self, segments: &[&str], query: &[(&str, &str)]) -> Result<Heard, Silence> {
        let request = self.connection.request(Method::GET, segments.iter().copied()).query(query);
        self.connection.call(request, hear).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        body: &Value,
    ) -> Result<Heard, Silence> {
        let request = self.connection.request(method, segments.iter().copied()).query(query).json(body);
        self.connection.call(request, hear).await
    }

    /// A call whose answer never ends: its head alone.
    pub(crate) async fn head_of(&self, segments: &[&str], query: &[(&str, &str)]) -> Result<Heard, Silence> {
        let request = self.connection.request(Method::GET, segments.iter().copied()).query(query);
        self.connection.call(request, hear_head).await
    }
}

fn base() -> ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("bivouac-doctor/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(PATIENCE)
        .timeout(PATIENCE)
        .tls_info(true)
        .no_proxy()
        // As service and proxy ask: by HTTP/2 a certificate's refusal looks like a broken pipe.
        .http1_only()
}

/// A client for our own processes.
pub(crate) fn http() -> reqwest::Result<reqwest::Client> {
    base().build()
}

/// Asks one of our own processes.
pub(crate) async fn ask(request: reqwest::RequestBuilder) -> Result<Heard, Silence> {
    match request.send().await {
        Ok(response) => hear(response).await,
        Err(error) => Err(Silence(cause(&error.without_url()))),
    }
}

/// The innermost cause: the outermost text says only that "sending the request" failed.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

async fn hear(response: Response) -> Result<Heard, Silence> {
    let heard = hear_head_of(&response);
    let body = response.text().await.map_err(|error| Silence(cause(&error.without_url())))?;
    Ok(Heard { body, ..heard })
}

async fn hear_head(response: Response) -> Result<Heard, Silence> {
    let heard = hear_head_of(&response);
    if heard.is_ok() { Ok(heard) } else { hear(response).await }
}

fn hear_head_of(response: &Response) -> Heard {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let theirs = header("date").and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    // It is said in whole seconds, cut off: half a second behind on average.
    let ahead = theirs
        .map(|theirs| theirs.timestamp().duration_since(Timestamp::now()).as_secs_f64() + HALF_A_SECOND);
    let tls = response.extensions().get::<reqwest::tls::TlsInfo>();
    Heard {
        status: response.status().as_u16(),
        body: String::new(),
        filtered: header("x-consul-results-filtered-by-acls") == Some("true"),
        ahead,
        certificate: tls.and_then(|tls| tls.peer_certificate()).map(<[u8]>::to_vec),
    }
}

/// A time of RFC 3339 in a JSON document.
pub(crate) fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}
