//! One HTTP exchange with the agent: address, token, time limits, and what a status means.

use std::time::Duration;

use bivouac_access::{Access, CONSUL, Connection, Failure, Outcome, Token};
use reqwest::{ClientBuilder, Method, RequestBuilder, Response, StatusCode, redirect};
use serde::de::DeserializeOwned;

use crate::{Config, Error};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For calls that Consul answers from one read, or one write to its log.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// For answers that may be many megabytes.
pub(crate) const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// What is shown of an error's body.
const QUOTED_CHARS: usize = 500;

const INDEX: &str = "x-consul-index";
const FILTERED: &str = "x-consul-results-filtered-by-acls";

#[derive(Debug, Clone)]
pub(crate) struct Transport {
    connection: Connection,
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
        let Config { address, token, token_file, tls } = config.clone();
        let connection = Connection::new(CONSUL, address, Token::of(token, token_file), tls, base);
        Ok(Self { connection: connection.map_err(Error::Setup)? })
    }

    /// For calls that can be done without: their refusal is no news of our access.
    pub(crate) fn optional(&self) -> Self {
        Self { connection: self.connection.optional() }
    }

    /// What Consul makes of our credentials.
    pub(crate) fn access(&self) -> Access {
        self.connection.access()
    }

    /// Keeps the access's knowledge of the token's end current.
    pub(crate) async fn watch_token(&self) {
        self.connection.watch_expiry().await;
    }

    /// A request to `/v1/…`. Each segment is escaped.
    pub(crate) fn request<'a>(
        &self,
        method: Method,
        segments: impl IntoIterator<Item = &'a str>,
        limit: Duration,
    ) -> RequestBuilder {
        self.connection.request(method, segments).timeout(limit)
    }

    /// Sends it; 2xx and 404 are answers.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Answer, Error> {
        let read = |response| accept(response, StatusCode::NOT_FOUND, nothing_hidden);
        self.connection.call(request, read).await
    }

    /// Sends it; 2xx and 409 are answers, of which the first is said to be `found`. What they mean is for `read` to say,
    /// here rather than later: it may be a refusal of the token.
    pub(crate) async fn send_conditional<T>(
        &self,
        request: RequestBuilder,
        read: fn(Answer) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.connection.call(request, |response| accept(response, StatusCode::CONFLICT, read)).await
    }
}

/// Reads an answer; of the statuses that are no success, one is an answer all the same.
async fn accept<T>(
    response: Response,
    also: StatusCode,
    read: fn(Answer) -> Result<T, Error>,
) -> Result<T, Error> {
    let status = response.status();
    let answer = read_answer(response).await?;
    if answer.found || status == also { read(answer) } else { Err(refusal(status, &answer.body)) }
}

/// Lists show only what the token may read. One that is empty because of that is a refusal, not the news that nothing is
/// there. (To a call without any token Consul does not say that it left something out; where that matters, such a call
/// is refused as a whole.)
fn nothing_hidden(answer: Answer) -> Result<Answer, Error> {
    let empty = !answer.found || matches!(answer.body.trim_ascii(), b"" | b"[]" | b"{}" | b"null");
    if answer.filtered && empty {
        return Err(Error::Denied("the token may read nothing of what it asks for".to_owned()));
    }
    Ok(answer)
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
        .user_agent(concat!("bivouac/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(Duration::from_secs(15))
        .redirect(redirect::Policy::none())
        // An agent is close by; a proxy from the environment could not reach it.
        .no_proxy()
        // By HTTP/2 all calls would share one connection, its end, and a certificate's refusal that looks like a broken pipe.
        .http1_only()
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
        StatusCode::BAD_REQUEST if bivouac_access::is_plain_text_refusal(&message) => {
            Error::Unavailable(bivouac_access::plain_text_refused(CONSUL))
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_empty_or_emptied() {
        let answer = |found, filtered, body: &str| {
            nothing_hidden(Answer { found, index: 1, filtered, body: body.into() })
        };
        assert!(answer(true, false, "[]\n").is_ok() && answer(false, false, "").is_ok());
        assert!(answer(true, true, "[{}]").is_ok(), "what is shown may be believed");
        for (found, body) in [(true, "[]\n"), (false, ""), (true, "null")] {
            assert!(matches!(answer(found, true, body), Err(Error::Denied(_))), "{body:?}");
        }
    }
}
