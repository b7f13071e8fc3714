//! A gateway between raw sockets.

use std::sync::Arc;
use std::time::Duration;

use bivouac_protocol::{Protocol, Rules};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::fixture::{Fixture, SESSION, Traffic, listener};
use crate::listener::{Door, Gateway};
use crate::log::Log;
use crate::options::{Edge, Limits};

const PATIENCE: Duration = Duration::from_secs(10);

/// One gateway, one session, one backend.
pub(super) struct World {
    pub(super) fixture: Fixture,
    pub(super) gateway: Arc<Gateway>,
    pub(super) address: std::net::SocketAddr,
    backend: Option<TcpListener>,
}

impl World {
    /// With a session that is ready.
    pub(super) async fn new() -> Self {
        Self::with(Limits::default(), true).await
    }

    /// With other bounds; `ready`: whether the session is.
    pub(super) async fn with(limits: Limits, ready: bool) -> Self {
        Self::at(limits, Traffic::default(), ready).await
    }

    /// With a template that says this of its traffic.
    pub(super) async fn ruled(limits: Limits, rules: Rules) -> Self {
        Self::at(limits, Traffic { rules, ..Traffic::default() }, true).await
    }

    /// With a session that ends when its connections are silent.
    pub(super) async fn quiet() -> Self {
        Self::at(Limits::default(), Traffic { quiet: true, ..Traffic::default() }, true).await
    }

    /// With a backend that speaks something else than HTTP/1.
    pub(super) async fn speaking(protocol: Protocol) -> Self {
        Self::at(Limits::default(), Traffic { protocol, ..Traffic::default() }, true).await
    }

    async fn at(limits: Limits, traffic: Traffic, ready: bool) -> Self {
        let backend = listener().await;
        let fixture = Fixture::new(backend.local_addr().unwrap(), traffic, ready).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
        let gateway = Gateway::new(fixture.admission(), "localhost", shutdown, tracker);
        let gateway = Arc::new(gateway.at(&Edge { limits, ..Edge::default() }, Log::default()));
        let (door, closing) = (Door::new(listener, None), gateway.closing.token.clone());
        tokio::spawn(closing.run_until_cancelled_owned(door.accept(gateway.clone())));
        Self { fixture, gateway, address, backend: Some(backend) }
    }

    /// A client's connection.
    pub(super) async fn client(&self) -> Peer {
        Peer::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// The next connection that the gateway makes.
    pub(super) async fn backend(&self) -> Peer {
        let accepting = self.backend.as_ref().unwrap().accept();
        Peer::new(tokio::time::timeout(PATIENCE, accepting).await.expect("no connection came").unwrap().0)
    }

    /// No connection comes.
    pub(super) async fn no_backend(&self) {
        let accepting = self.backend.as_ref().unwrap().accept();
        let waited = tokio::time::timeout(Duration::from_millis(100), accepting).await;
        assert!(waited.is_err(), "a connection came");
    }

    /// From now on nothing listens at the session's address.
    pub(super) fn close_backend(&mut self) -> std::net::SocketAddr {
        self.backend.take().unwrap().local_addr().unwrap()
    }

    /// The backend is there again.
    pub(super) async fn open_backend(&mut self, address: std::net::SocketAddr) {
        self.backend = Some(TcpListener::bind(address).await.unwrap());
    }

    /// Both, with a request sent and read: `(client, backend, head)`.
    pub(super) async fn asked(&self, request: &str) -> (Peer, Peer, String) {
        let mut client = self.client().await;
        client.send(request).await;
        let mut backend = self.backend().await;
        let head = backend.head().await;
        (client, backend, head)
    }

    /// Nothing is counted in any more.
    pub(super) async fn nothing_open(&self) {
        let waiting = async {
            while self.fixture.open() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("a use was never ended");
    }
}

/// A request for the session: its line, and further lines.
pub(super) fn request(line: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("{line} HTTP/1.1\r\nHost: {SESSION}.localhost\r\n{fields}\r\n")
}

/// One end of a connection.
pub(super) struct Peer {
    pub(super) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Peer {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes()).await;
    }

    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        tokio::time::timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("nobody reads").unwrap();
    }

    /// Sends the end.
    pub(super) async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    async fn more(&mut self) -> std::io::Result<usize> {
        tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await.expect("nothing came")
    }

    /// Everything up to and with a text.
    pub(super) async fn until(&mut self, end: &str) -> String {
        let text = self.until_or_end(end).await;
        text.unwrap_or_else(|| panic!("it ended with {:?}", String::from_utf8_lossy(&self.buffer)))
    }

    /// The same; `None` if it ends before.
    pub(super) async fn until_or_end(&mut self, end: &str) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end.as_bytes()) {
                let rest = self.buffer.split_off(at + end.len());
                let text = std::mem::replace(&mut self.buffer, rest);
                return Some(String::from_utf8(text).unwrap());
            }
            if self.more().await.unwrap() == 0 {
                return None;
            }
        }
    }

    /// A message's head.
    pub(super) async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// So many bytes.
    pub(super) async fn exactly(&mut self, length: usize) -> String {
        while self.buffer.len() < length {
            assert!(
                self.more().await.unwrap() > 0,
                "it ended with {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
        let rest = self.buffer.split_off(length);
        String::from_utf8(std::mem::replace(&mut self.buffer, rest)).unwrap()
    }

    /// Everything up to the end, and how that came.
    pub(super) async fn rest(&mut self) -> (String, std::io::Result<()>) {
        let end = loop {
            match self.more().await {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        (String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned(), end)
    }

    /// The same as bytes.
    pub(super) async fn last_bytes(&mut self) -> Vec<u8> {
        while self.more().await.unwrap() > 0 {}
        std::mem::take(&mut self.buffer)
    }

    /// A response with a Content-Length: its head and body.
    pub(super) async fn response(&mut self) -> (String, String) {
        let head = self.head().await;
        let length = head.split("\r\n").find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length: ").map(|length| length.parse().unwrap())
        });
        let body = self.exactly(length.unwrap_or(0)).await;
        (head, body)
    }

    /// Nothing comes for a moment.
    pub(super) async fn silence(&mut self) {
        let waited =
            tokio::time::timeout(Duration::from_millis(80), self.stream.read_buf(&mut self.buffer)).await;
        assert!(
            waited.is_err() && self.buffer.is_empty(),
            "came: {:?}",
            String::from_utf8_lossy(&self.buffer)
        );
    }
}
