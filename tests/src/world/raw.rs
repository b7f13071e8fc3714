//! Requests that no proper client would send, byte by byte.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Silence after which nothing more is expected.
const SILENCE: Duration = Duration::from_secs(2);
/// Longest wait for the first byte.
const SOON: Duration = Duration::from_secs(30);

/// What came back to bytes sent by hand.
#[derive(Debug, Clone)]
pub struct Raw {
    /// The status code of the first answer; 0 if the connection was closed without one.
    pub status: u16,
    /// Everything that came back.
    pub text: String,
    /// Whether the other end closed the connection.
    pub closed: bool,
}

impl Raw {
    /// Sends bytes to a port of this machine and reads until the other end closes, or says nothing more.
    ///
    /// # Panics
    /// When the port cannot be reached, or the other end neither answers nor closes.
    pub async fn send(port: u16, bytes: impl AsRef<[u8]>) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
        // The other end may refuse and close before it has read everything: its answer counts.
        let _ = stream.write_all(bytes.as_ref()).await;
        let (mut answer, mut closed) = (Vec::new(), false);
        while !closed {
            let patience = if answer.is_empty() { SOON } else { SILENCE };
            match tokio::time::timeout(patience, stream.read_buf(&mut answer)).await {
                Ok(Ok(1..)) => {}
                Ok(_) => closed = true,
                Err(_) if answer.is_empty() => {
                    let sent = String::from_utf8_lossy(&bytes.as_ref()[..bytes.as_ref().len().min(200)]);
                    panic!("neither an answer nor a close within {patience:?} of {sent:?}…")
                }
                Err(_) => break,
            }
        }
        let text = String::from_utf8_lossy(&answer).into_owned();
        let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0);
        Self { status, text, closed }
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
