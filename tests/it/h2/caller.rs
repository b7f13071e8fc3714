//! A client that speaks HTTP/2 by prior knowledge, as a library does it.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bivouac_tests::world::Session;
use bivouac_tests::{World, eventually};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::socket::Socket;

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(60);

/// One connection to the first proxy of a world.
pub(super) struct Caller {
    requests: SendRequest<Bytes>,
    driven: Mutex<JoinHandle<Result<(), h2::Error>>>,
}

/// A request that was sent.
pub(super) struct Call {
    response: ResponseFuture,
    to: SendStream<Bytes>,
    /// Once its head has come.
    begun: Option<Begun>,
}

struct Begun {
    status: StatusCode,
    fields: HeaderMap,
    interim: Vec<u16>,
    body: RecvStream,
    ended_with_head: bool,
}

/// A whole response.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) status: StatusCode,
    pub(super) fields: HeaderMap,
    /// The 1xx in front of it.
    pub(super) interim: Vec<u16>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Option<HeaderMap>,
    /// Nothing came behind the head, not even an empty body.
    pub(super) ended_with_head: bool,
}

impl Caller {
    pub(super) async fn of(world: &World) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", world.proxy_port(0))).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        Self::over(stream).await
    }

    /// The same to its listener with TLS, which has this certificate.
    pub(super) async fn with_tls(world: &World, certificate: CertificateDer<'static>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a certificate");
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = TcpStream::connect(("127.0.0.1", world.proxy_tls_port(0))).await.expect("a connection");
        // Which session is meant, each request says by itself.
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await.expect("TLS");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::over(stream).await
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let mut builder = h2::client::Builder::new();
        builder.enable_push(false);
        let (requests, connection) = builder.handshake(stream).await.expect("HTTP/2");
        Self { requests, driven: Mutex::new(tokio::spawn(connection)) }
    }

    pub(super) async fn get(&self, session: &Session, path: &str) -> Whole {
        self.call(session, "GET", path).await
    }

    /// A request without a body, and its whole response.
    pub(super) async fn call(&self, session: &Session, method: &str, path: &str) -> Whole {
        let call = self.begin(session, method, path, HeaderMap::new(), true).await;
        call.whole().await.unwrap_or_else(|error| panic!("{path} was lost: {error}"))
    }

    pub(super) async fn post(&self, session: &Session, path: &str, body: &str) -> Whole {
        let mut call = self.begin(session, "POST", path, HeaderMap::new(), false).await;
        call.send(body.as_bytes()).await;
        call.end();
        call.whole().await.unwrap_or_else(|error| panic!("{path} was lost: {error}"))
    }

    /// A GET for any label under the domain.
    pub(super) async fn at(&self, world: &World, label: &str, path: &str) -> Whole {
        let authority = format!("{label}.localhost:{}", world.proxy_port(0));
        let call = self.send(request("GET", &authority, path, HeaderMap::new()), true).await;
        call.whole().await.expect("an answer")
    }

    /// Sends a head; `over`: there is no body.
    pub(super) async fn begin(
        &self,
        session: &Session,
        method: &str,
        path: &str,
        fields: HeaderMap,
        over: bool,
    ) -> Call {
        self.send(request(method, &session.authority(), path, fields), over).await
    }

    async fn send(&self, request: Request<()>, over: bool) -> Call {
        let mut requests = self.requests.clone().ready().await.expect("the connection takes requests");
        let (response, to) = requests.send_request(request, over).expect("a request");
        Call { response, to, begun: None }
    }

    /// Opens a WebSocket as RFC 8441 has it. What is no WebSocket is returned as the response that it is.
    pub(super) async fn websocket(&self, session: &Session, path: &str) -> Result<Socket, Whole> {
        eventually("extended CONNECT is permitted", SOON, async || {
            if self.requests.is_extended_connect_protocol_enabled() {
                Ok(())
            } else {
                Err("not yet".to_owned())
            }
        })
        .await;
        let mut fields = HeaderMap::new();
        fields.insert("sec-websocket-version", http::HeaderValue::from_static("13"));
        let mut request = request("CONNECT", &session.authority(), path, fields);
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        let mut call = self.send(request, false).await;
        call.head().await.expect("an answer to the handshake");
        match call.begun.take() {
            Some(begun) if begun.fields.contains_key("content-type") => {
                call.begun = Some(begun);
                Err(call.whole().await.expect("a whole response"))
            }
            Some(begun) => {
                assert_eq!(begun.status, StatusCode::OK);
                assert!(!begun.fields.contains_key("sec-websocket-accept"), "{:?}", begun.fields);
                Ok(Socket::over(call.to, begun.body).await)
            }
            None => unreachable!("the head has come"),
        }
    }

    /// Waits until the other end takes no further requests.
    pub(super) async fn is_told_to_leave(&self) {
        eventually("GOAWAY comes", SOON, async || match self.requests.clone().ready().await {
            Ok(_) => Err("it takes requests".to_owned()),
            Err(error) if error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR) => Ok(()),
            Err(error) => panic!("the connection broke: {error}"),
        })
        .await;
    }

    /// Whether the connection came to a clean end.
    pub(super) async fn is_closed_cleanly(&self) -> bool {
        let mut driven = self.driven.lock().await;
        let ended = tokio::time::timeout(SOON, &mut *driven).await.expect("the connection ends");
        ended.expect("its task").is_ok()
    }
}

impl Call {
    /// Sends a piece of the body.
    pub(super) async fn send(&mut self, data: &[u8]) {
        let mut data = Bytes::copy_from_slice(data);
        while !data.is_empty() {
            self.to.reserve_capacity(data.len());
            if self.to.capacity() == 0 {
                let room = tokio::time::timeout(SOON, poll_fn(|cx| self.to.poll_capacity(cx))).await;
                match room.expect("room for a body") {
                    Some(Ok(_)) => continue,
                    // It was answered without.
                    Some(Err(_)) | None => return,
                }
            }
            let part = data.split_to(self.to.capacity().min(data.len()));
            self.to.send_data(part, false).expect("an open stream");
        }
    }

    /// Ends the body.
    pub(super) fn end(&mut self) {
        self.to.send_data(Bytes::new(), true).expect("an open stream");
    }

    /// Ends the body with trailers.
    pub(super) fn end_with(&mut self, trailers: HeaderMap) {
        self.to.send_trailers(trailers).expect("an open stream");
    }

    async fn head(&mut self) -> Result<&mut Begun, h2::Error> {
        if self.begun.is_none() {
            let mut interim = Vec::new();
            let response = tokio::time::timeout(SOON, async {
                while let Some(hint) = poll_fn(|cx| self.response.poll_informational(cx)).await {
                    interim.push(hint?.status().as_u16());
                }
                (&mut self.response).await
            });
            let (parts, body) = response.await.expect("an answer")?.into_parts();
            let ended_with_head = body.is_end_stream();
            self.begun =
                Some(Begun { status: parts.status, fields: parts.headers, interim, body, ended_with_head });
        }
        Ok(self.begun.as_mut().expect("just put there"))
    }

    /// The next piece of the response's body.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, h2::Error> {
        let begun = self.head().await?;
        let piece = tokio::time::timeout(SOON, begun.body.data()).await.expect("a piece, or the end");
        let piece = piece.transpose()?;
        if let Some(piece) = &piece {
            begun.body.flow_control().release_capacity(piece.len())?;
        }
        Ok(piece)
    }

    /// All of the response that is left.
    pub(super) async fn whole(mut self) -> Result<Whole, h2::Error> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece().await? {
            bytes.extend_from_slice(&piece);
        }
        let Begun { status, fields, interim, mut body, ended_with_head } =
            self.begun.take().expect("its head has come");
        let trailers = body.trailers().await?;
        Ok(Whole { status, fields, interim, body: bytes, trailers, ended_with_head })
    }
}

impl Whole {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

fn request(method: &str, authority: &str, path: &str, fields: HeaderMap) -> Request<()> {
    let uri = format!("http://{authority}{path}");
    let mut request = Request::builder().method(method).uri(uri).body(()).expect("a request");
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = fields;
    request
}
