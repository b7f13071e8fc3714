//! Requests that no proper client would send, byte by byte.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What came back to bytes sent by hand.
#[derive(Debug, Clone)]
pub struct Raw {
    /// The status code of the first answer; 0 if the connection was closed without one.
    pub status: u16,
    /// Everything that came back.
    pub text: String,
}

impl Raw {
    /// Sends bytes to a port of this machine, closes the sending half and reads until the other end closes.
    ///
    /// # Panics
    /// When the port cannot be reached, or the other end neither answers nor closes.
    pub async fn send(port: u16, bytes: impl AsRef<[u8]>) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
        // The other end may refuse and close before it has read everything: its answer counts.
        let _ = stream.write_all(bytes.as_ref()).await;
        let mut answer = Vec::new();
        let reading = stream.read_to_end(&mut answer);
        let read = tokio::time::timeout(Duration::from_secs(30), reading).await;
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(read.is_ok(), "neither closed nor finished: {text:?}");
        let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0);
        Self { status, text }
    }

    /// Whether the answer carries this stable code.
    #[must_use]
    pub fn has_code(&self, code: &str) -> bool {
        self.text.contains(&format!("\"{code}\""))
    }

    /// How many answers came back: more than one means that the other end took one request for two.
    #[must_use]
    pub fn answers(&self) -> usize {
        self.text.matches("HTTP/1.1 ").count()
    }
}
