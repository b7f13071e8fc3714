use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::framing::Framing;
use crate::listener::{Certificate, Handshake};

async fn pair() -> (Wire, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ours, theirs) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (Wire::new(Socket::plain(ours.unwrap())), theirs.unwrap().0)
}

#[tokio::test]
async fn a_head_ends_where_its_allowance_does() {
    let (mut wire, mut other) = pair().await;
    other.write_all(&[b'a'; 100]).await.unwrap();
    wire.meter.expect_head(100);
    assert!(!wire.meter.has_received());
    let mut buffer = [0; 100];
    wire.inlet.read_exact(&mut buffer).await.unwrap();
    assert!(wire.meter.has_received() && wire.meter.is_exhausted());
    assert!(wire.inlet.read(&mut buffer).await.is_err());
    wire.meter.head_done();
    other.write_all(b"b").await.unwrap();
    assert_eq!(wire.inlet.read(&mut buffer).await.unwrap(), 1);
}

#[tokio::test]
async fn no_byte_is_missed_between_short_reads() {
    let (mut wire, mut other) = pair().await;
    let mut buffer = [0; 64];
    for round in 0..200u8 {
        other.write_all(&[round]).await.unwrap();
        let read = tokio::time::timeout(Duration::from_secs(5), wire.inlet.read(&mut buffer)).await;
        assert_eq!((read.unwrap().unwrap(), buffer[0]), (1, round));
    }
    drop(other);
    assert_eq!(wire.inlet.read(&mut buffer).await.unwrap(), 0);
}

#[tokio::test]
async fn a_connection_is_quiet_until_something_comes() {
    let (wire, mut other) = pair().await;
    assert!(wire.outlet.socket().is_quiet());
    other.write_all(b"x").await.unwrap();
    wire.outlet.socket().tcp().unwrap().readable().await.unwrap();
    assert!(!wire.outlet.socket().is_quiet());
    let (wire, other) = pair().await;
    drop(other);
    wire.outlet.socket().tcp().unwrap().readable().await.unwrap();
    assert!(!wire.outlet.socket().is_quiet());
}

#[tokio::test]
async fn a_departure_is_seen_and_nothing_is_consumed() {
    let (mut wire, mut other) = pair().await;
    let soon = Duration::from_millis(20);
    assert!(tokio::time::timeout(soon, wire.outlet.socket().gone()).await.is_err());
    other.write_all(b"body").await.unwrap();
    assert!(tokio::time::timeout(soon, wire.outlet.socket().gone()).await.is_err());
    let mut buffer = [0; 4];
    wire.inlet.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"body");
    drop(other);
    tokio::time::timeout(Duration::from_secs(5), wire.outlet.socket().gone()).await.unwrap();
}

#[tokio::test]
async fn a_departure_behind_unread_bytes_is_seen() {
    let (wire, mut other) = pair().await;
    other.write_all(b"the next request").await.unwrap();
    drop(other);
    tokio::time::timeout(Duration::from_secs(5), wire.outlet.socket().gone()).await.unwrap();
}

#[tokio::test]
async fn small_pieces_are_gathered_and_large_ones_are_not_copied() {
    let (mut wire, mut other) = pair().await;
    wire.outlet.buffer().extend_from_slice(b"head ");
    wire.outlet.send(Framing::Chunked, b"small").await.unwrap();
    wire.outlet.send(Framing::Chunked, b"").await.unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(20), other.read(&mut [0; 1])).await;
    assert!(waited.is_err(), "nothing is sent yet");
    let large = vec![b'x'; 3_000_000];
    let writing = async {
        wire.outlet.send(Framing::Chunked, &large).await.unwrap();
        Framing::Chunked.end(wire.outlet.buffer());
        wire.outlet.flush().await.unwrap();
        let _ = wire.outlet.socket().end();
    };
    let mut all = Vec::new();
    let (_, read) = tokio::join!(writing, other.read_to_end(&mut all));
    read.unwrap();
    let expected = [b"head 5\r\nsmall\r\n2dc6c0\r\n".as_slice(), &large, b"\r\n0\r\n\r\n"].concat();
    assert!(all == expected, "{} bytes came, {} were sent", all.len(), expected.len());
}

/// A TLS connection: our end, and a client's.
async fn secure_pair() -> (Socket, tokio_rustls::client::TlsStream<TcpStream>) {
    let folder = tempfile::tempdir().unwrap();
    let issued = rcgen::generate_simple_self_signed(vec!["a.example.com".to_owned()]).unwrap();
    let files = crate::options::TlsFiles {
        listen: ([127, 0, 0, 1], 0).into(),
        certificate: folder.path().join("certificate"),
        key: folder.path().join("key"),
    };
    std::fs::write(&files.certificate, issued.cert.pem()).unwrap();
    std::fs::write(&files.key, issued.signing_key.serialize_pem()).unwrap();
    let handshake = Handshake::new(Certificate::load(files).unwrap()).unwrap();

    let mut roots = rustls::RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (theirs, ours) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let name = "a.example.com".try_into().unwrap();
    let (shaken, theirs) =
        tokio::join!(handshake.shake(Arc::new(ours.unwrap().0)), connector.connect(name, theirs.unwrap()));
    let (socket, http2) = shaken.unwrap();
    assert!(!http2, "it was not offered");
    (socket, theirs.unwrap())
}

#[tokio::test]
async fn tls_is_a_connection_like_any_other() {
    let (socket, mut other) = secure_pair().await;
    assert!(socket.is_quiet());
    let Wire { mut inlet, mut outlet, .. } = Wire::new(socket.clone());
    other.write_all(b"question").await.unwrap();
    let mut asked = [0; 8];
    inlet.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"question");
    let large = vec![b'x'; 3_000_000];
    let answering = async {
        outlet.buffer().extend_from_slice(b"answer ");
        outlet.send(Framing::UntilClose, &large).await.unwrap();
        outlet.flush().await.unwrap();
        drop((inlet, outlet, socket));
    };
    let mut answer = Vec::new();
    // Without a word of TLS that this was all it would fail.
    let (_, read) = tokio::join!(answering, other.read_to_end(&mut answer));
    read.unwrap();
    assert!(answer == [b"answer ".as_slice(), &large].concat(), "{} bytes", answer.len());
}

#[tokio::test]
async fn a_tls_connection_that_is_broken_off_does_not_look_whole() {
    let (socket, mut other) = secure_pair().await;
    socket.break_off();
    drop(socket);
    assert!(other.read_to_end(&mut Vec::new()).await.is_err());
    let (socket, other) = secure_pair().await;
    drop(other);
    tokio::time::timeout(Duration::from_secs(5), socket.gone()).await.unwrap();
}

#[tokio::test]
async fn what_tls_has_read_ahead_is_not_quiet() {
    let (socket, mut other) = secure_pair().await;
    other.write_all(b"two").await.unwrap();
    let mut one = [0; 1];
    let read = std::future::poll_fn(|cx| socket.poll_recv(cx, &mut one.as_mut_slice())).await.unwrap();
    assert_eq!((read, one), (1, *b"t"));
    assert!(!socket.is_quiet(), "the rest was decrypted with it");
}
