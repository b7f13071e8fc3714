//! Logs: plain text, as the backend wrote it.

use bivouac_protocol::SessionId;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use reqwest::Method;

use crate::{Client, Error};

/// Which of a backend's outputs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
}

/// Which part of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Which output.
    pub output: Output,
    /// The last so many lines; the service's default if absent.
    pub tail: Option<u32>,
    /// What comes afterwards too, until the session ends.
    pub follow: bool,
}

impl Client {
    /// Reads what a session's backend prints, or printed: bytes as they were written. The stream ends when everything was
    /// read; a stream that breaks off before that ends with an error.
    ///
    /// # Errors
    /// A [`Problem`](crate::Problem), with code `logs_gone` if they are not kept any more, or `too_many_followers`.
    pub async fn logs(
        &self,
        id: &SessionId,
        query: &LogQuery,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + use<>, Error> {
        let mut url = self.transport.url(&["v1", "sessions", id.as_str(), "logs"]);
        let output = match query.output {
            Output::Stdout => "stdout",
            Output::Stderr => "stderr",
        };
        url.query_pairs_mut().append_pair("stream", output);
        if query.follow {
            url.query_pairs_mut().append_pair("follow", "true");
        }
        if let Some(tail) = query.tail {
            url.query_pairs_mut().append_pair("tail", &tail.to_string());
        }
        let response = self.transport.open(self.transport.patient(Method::GET, url)).await?;
        let transport = self.transport.clone();
        Ok(response.bytes_stream().map(move |bytes| bytes.map_err(|source| transport.unreachable(source))))
    }
}
