//! A WebSocket to a session's backend.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Longest wait for a message, or for the close.
const SOON: Duration = Duration::from_secs(20);

/// An open WebSocket.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
}

impl Socket {
    /// Opens one at `http://authority/path` on this machine.
    ///
    /// # Errors
    /// When it is not opened.
    pub async fn open(authority: &str, path: &str) -> Result<Self, Error> {
        Self::open_with(authority, path, &[]).await
    }

    /// Opens one with these fields in its handshake.
    ///
    /// # Errors
    /// When it is not opened.
    ///
    /// # Panics
    /// When a field cannot be sent.
    pub async fn open_with(
        authority: &str,
        path: &str,
        fields: &[(&'static str, &str)],
    ) -> Result<Self, Error> {
        let port = authority.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).unwrap_or(80);
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let mut request = format!("ws://{authority}{path}").into_client_request()?;
        for (name, value) in fields {
            request.headers_mut().append(*name, value.parse().expect("a field's value"));
        }
        let opened = tokio::time::timeout(SOON * 2, tokio_tungstenite::client_async(request, stream)).await;
        let (stream, _) = opened.expect("an answer to the handshake")?;
        Ok(Self { stream })
    }

    /// Sends a text.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, text: &str) -> Result<(), Error> {
        self.stream.send(Message::text(text)).await
    }

    /// The next text; `None` once it is closed.
    ///
    /// # Errors
    /// When the connection broke.
    ///
    /// # Panics
    /// When nothing comes.
    pub async fn receive(&mut self) -> Result<Option<String>, Error> {
        loop {
            let next = tokio::time::timeout(SOON, self.stream.next()).await.expect("a message, or the close");
            match next.transpose()? {
                Some(Message::Text(text)) => return Ok(Some(text.to_string())),
                Some(Message::Close(_)) | None => return Ok(None),
                Some(_) => {}
            }
        }
    }

    /// Sends a text and waits until it came back.
    ///
    /// # Panics
    /// When it does not.
    pub async fn echoes(&mut self, text: &str) {
        self.send(text).await.expect("a message goes out");
        assert_eq!(self.receive().await.expect("a message comes back").as_deref(), Some(text));
    }

    /// Sends a text: either it comes back, or the other end closes and says with which code and for which reason.
    ///
    /// # Errors
    /// With code and reason.
    ///
    /// # Panics
    /// When neither happens.
    pub async fn echoes_or_learns_why(&mut self, text: &str) -> Result<(), (u16, String)> {
        // What is closed already has said why.
        let _ = self.send(text).await;
        loop {
            match tokio::time::timeout(SOON, self.stream.next()).await.expect("an echo, or the close") {
                Some(Ok(Message::Text(echo))) if echo.as_str() == text => return Ok(()),
                Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                    return Err((code.into(), reason.to_string()));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("neither an echo nor a reason: {other:?}"),
            }
        }
    }

    /// Sends nothing but pings until the other end closes: how many of them were answered, the code and the reason.
    ///
    /// # Panics
    /// When it does not close, or without a close frame.
    pub async fn pings_until_closed(&mut self, every: Duration) -> (usize, (u16, String)) {
        let (mut answered, until) = (0, tokio::time::Instant::now() + SOON);
        loop {
            assert!(tokio::time::Instant::now() < until, "it goes on; {answered} pings were answered");
            match tokio::time::timeout(every, self.stream.next()).await {
                Err(_) => drop(self.stream.send(Message::Ping(Vec::new().into())).await),
                Ok(Some(Ok(Message::Pong(_)))) => answered += 1,
                Ok(Some(Ok(Message::Close(Some(CloseFrame { code, reason }))))) => {
                    return (answered, (code.into(), reason.to_string()));
                }
                Ok(other) => panic!("no pong and no reason: {other:?}"),
            }
        }
    }

    /// Waits for the other end to close; the code and the reason that it gave.
    ///
    /// # Panics
    /// When it does not close, or without a close frame.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            let next = tokio::time::timeout(SOON, self.stream.next()).await.expect("the close");
            match next {
                Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                    return (code.into(), reason.to_string());
                }
                Some(Ok(Message::Close(None))) => panic!("closed without a code"),
                Some(Ok(_)) => {}
                Some(Err(error)) => panic!("broken off without a close frame: {error}"),
                None => panic!("ended without a close frame"),
            }
        }
    }

    /// Waits for its end, however it comes; the code, if there is one.
    ///
    /// # Panics
    /// When it goes on.
    pub async fn ends(&mut self) -> Option<u16> {
        loop {
            match tokio::time::timeout(SOON, self.stream.next()).await.expect("the end") {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Closes it.
    pub async fn close(mut self) {
        let _ = self.stream.close(None).await;
    }
}
