use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

async fn pair(ahead: &[u8]) -> (Duplex, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let socket = Socket::plain(near.unwrap());
    (Duplex::new(socket, ahead.into(), Duration::from_millis(100)), far.unwrap().0)
}

#[tokio::test]
async fn what_was_read_before_comes_first() {
    let (mut duplex, mut far) = pair(b"PRI * ").await;
    far.write_all(b"HTTP/2.0").await.unwrap();
    far.shutdown().await.unwrap();
    let mut text = String::new();
    duplex.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "PRI * HTTP/2.0");
}

#[tokio::test]
async fn the_end_is_passed_on() {
    let (mut duplex, mut far) = pair(b"").await;
    let parts = [&b"a head "[..], b"", b"and a body", b" and more"].map(io::IoSlice::new);
    let written = duplex.write_vectored(&parts).await.unwrap();
    assert_eq!(written, "a head and a body".len(), "two parts at once");
    duplex.shutdown().await.unwrap();
    let mut text = String::new();
    far.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "a head and a body");
}

#[tokio::test]
async fn whoever_takes_nothing_is_given_up() {
    let (mut duplex, _far) = pair(b"").await;
    let endless = [0; 64 * 1024];
    let error = loop {
        if let Err(error) = duplex.write_all(&endless).await {
            break error;
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}
