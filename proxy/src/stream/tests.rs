use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::framing::Framing;

async fn pair() -> (Wire, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ours, theirs) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (Wire::new(ours.unwrap()), theirs.unwrap().0)
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
    assert!(is_quiet(wire.outlet.socket()));
    other.write_all(b"x").await.unwrap();
    wire.outlet.socket().readable().await.unwrap();
    assert!(!is_quiet(wire.outlet.socket()));
    let (wire, other) = pair().await;
    drop(other);
    wire.outlet.socket().readable().await.unwrap();
    assert!(!is_quiet(wire.outlet.socket()));
}

#[tokio::test]
async fn a_departure_is_seen_and_nothing_is_consumed() {
    let (mut wire, mut other) = pair().await;
    let soon = Duration::from_millis(20);
    assert!(tokio::time::timeout(soon, gone(wire.outlet.socket())).await.is_err());
    other.write_all(b"body").await.unwrap();
    assert!(tokio::time::timeout(soon, gone(wire.outlet.socket())).await.is_err());
    let mut buffer = [0; 4];
    wire.inlet.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"body");
    drop(other);
    tokio::time::timeout(Duration::from_secs(5), gone(wire.outlet.socket())).await.unwrap();
}

#[tokio::test]
async fn a_departure_behind_unread_bytes_is_seen() {
    let (wire, mut other) = pair().await;
    other.write_all(b"the next request").await.unwrap();
    drop(other);
    tokio::time::timeout(Duration::from_secs(5), gone(wire.outlet.socket())).await.unwrap();
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
        wire.outlet.end();
    };
    let mut all = Vec::new();
    let (_, read) = tokio::join!(writing, other.read_to_end(&mut all));
    read.unwrap();
    let expected = [b"head 5\r\nsmall\r\n2dc6c0\r\n".as_slice(), &large, b"\r\n0\r\n\r\n"].concat();
    assert!(all == expected, "{} bytes came, {} were sent", all.len(), expected.len());
}
