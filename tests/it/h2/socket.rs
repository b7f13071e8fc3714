//! A WebSocket that is one stream of an HTTP/2 connection.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Longest wait for a message, or for the close.
const SOON: Duration = Duration::from_secs(30);

/// The client's end.
#[derive(Debug)]
pub(super) struct Socket {
    frames: WebSocketStream<DuplexStream>,
}

impl Socket {
    /// Speaks WebSocket over both directions of a stream.
    pub(super) async fn over(to: SendStream<Bytes>, from: RecvStream) -> Self {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (outward, inward) = tokio::io::split(far);
        tokio::spawn(send_all(outward, to));
        tokio::spawn(receive_all(from, inward));
        Self { frames: WebSocketStream::from_raw_socket(near, Role::Client, None).await }
    }

    /// Sends a text and waits for the same one.
    pub(super) async fn echoes(&mut self, text: &str) {
        self.frames.send(Message::text(text)).await.expect("an open WebSocket");
        let next = tokio::time::timeout(SOON, self.frames.next()).await.expect("an answer");
        match next.expect("an open WebSocket").expect("a message") {
            Message::Text(echoed) => assert!(echoed.as_str() == text, "{} bytes came back", echoed.len()),
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the close: its code and reason.
    pub(super) async fn closed(&mut self) -> Option<(u16, String)> {
        loop {
            match tokio::time::timeout(SOON, self.frames.next()).await.expect("the close") {
                Some(Ok(Message::Close(frame))) => {
                    return frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }
}

async fn send_all(mut outward: tokio::io::ReadHalf<DuplexStream>, mut to: SendStream<Bytes>) {
    let mut piece = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = outward.read(&mut piece).await {
        let mut data = Bytes::copy_from_slice(&piece[..read]);
        while !data.is_empty() {
            to.reserve_capacity(data.len());
            if to.capacity() == 0 && !matches!(poll_fn(|cx| to.poll_capacity(cx)).await, Some(Ok(_))) {
                return;
            }
            let part = data.split_to(to.capacity().min(data.len()));
            if to.send_data(part, false).is_err() {
                return;
            }
        }
    }
    let _ = to.send_data(Bytes::new(), true);
}

async fn receive_all(mut from: RecvStream, mut inward: tokio::io::WriteHalf<DuplexStream>) {
    while let Some(Ok(piece)) = from.data().await {
        let length = piece.len();
        if inward.write_all(&piece).await.is_err() || from.flow_control().release_capacity(length).is_err() {
            return;
        }
    }
    let _ = inward.shutdown().await;
}
