//! An answer over HTTP, read to its end.

use reqwest::header::HeaderMap;
use serde_json::Value;

/// Status, headers and the whole body.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
}

impl Answer {
    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// When there is no answer, or it breaks off.
    pub async fn to(request: reqwest::RequestBuilder) -> Result<Self, String> {
        // A reqwest error names only its outermost cause.
        let full = |error: reqwest::Error| format!("{:#}", anyhow::Error::from(error));
        let response = request.send().await.map_err(full)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.map_err(full)?;
        Ok(Self { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
    }

    /// This answer, if it has the status.
    ///
    /// # Errors
    /// Otherwise, with the answer as text.
    pub fn expect_status(self, status: u16) -> Result<Self, String> {
        if self.status == status { Ok(self) } else { Err(format!("{} {}", self.status, self.body)) }
    }

    /// The body as JSON; `null` if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The stable code of an error.
    #[must_use]
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// A header's text; empty if it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        self.headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .unwrap_or_default()
    }

    /// Fails unless it is an error with this status and code, in a proper problem document.
    ///
    /// # Panics
    /// When it is anything else.
    pub fn is_problem(&self, status: u16, code: &str) {
        let seen = format!("{} {} {}", self.status, self.header("content-type"), self.body);
        assert_eq!((self.status, self.code().as_str()), (status, code), "{seen}");
        assert!(self.header("content-type").starts_with("application/problem+json"), "{seen}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{seen}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{seen}");
        assert!(problem["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{seen}");
    }
}
