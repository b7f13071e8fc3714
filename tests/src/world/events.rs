//! A stream of server-sent events.

use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, Lines};
use tokio_util::io::StreamReader;

use super::World;

/// Longest wait for an event.
const SOON: Duration = Duration::from_secs(30);

type Body = StreamReader<BoxStream<'static, std::io::Result<bytes::Bytes>>, bytes::Bytes>;

/// An open stream of events.
pub struct Events {
    lines: Lines<Body>,
}

impl World {
    /// Opens a stream of events.
    ///
    /// # Panics
    /// When that fails.
    pub async fn events(&self, path: &str) -> Events {
        Events::open(self.call(Method::GET, path)).await
    }

    /// Opens it again after the event with this id.
    ///
    /// # Panics
    /// When that fails.
    pub async fn events_since(&self, path: &str, last: &str) -> Events {
        Events::open(self.call(Method::GET, path).header("last-event-id", last)).await
    }
}

impl Events {
    async fn open(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.expect("a stream of events");
        assert_eq!(response.status(), 200, "{response:?}");
        let body = response.bytes_stream().map_err(std::io::Error::other).boxed();
        Self { lines: StreamReader::new(body).lines() }
    }

    /// The next event: its name and its data.
    ///
    /// # Panics
    /// When none comes, or it is not JSON.
    pub async fn next(&mut self) -> (String, Value) {
        tokio::time::timeout(SOON, self.read()).await.expect("an event in time")
    }

    async fn read(&mut self) -> (String, Value) {
        let (mut name, mut data) = ("message".to_owned(), String::new());
        loop {
            let line = self.lines.next_line().await.expect("a whole line").expect("the stream goes on");
            match line.split_once(':') {
                Some(("event", text)) => name = text.trim_start().to_owned(),
                Some(("data", text)) => data.push_str(text.trim_start()),
                Some(_) => {}
                None if data.is_empty() && name == "message" => {}
                None => {
                    let data = if data.is_empty() {
                        Value::Null
                    } else {
                        serde_json::from_str(&data).expect("JSON")
                    };
                    return (name, data);
                }
            }
        }
    }
}
