//! Fields behind a body, which only HTTP/2 is trusted with.

use bivouac_protocol::Protocol;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use tokio::net::TcpStream;

use super::world::{World, request};

/// Answers every request on a connection with a body and trailers behind it; hands out the requests' fields.
async fn answer_all(stream: TcpStream, heads: tokio::sync::mpsc::UnboundedSender<HeaderMap>) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        heads.send(request.headers().clone()).unwrap();
        let mut trailers = HeaderMap::new();
        for (name, value) in [("grpc-status", "0"), ("x-bivouac-user", "forged"), ("set-cookie", "a=1")] {
            trailers.insert(name, HeaderValue::from_static(value));
        }
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        body.send_data(Bytes::from_static(b"abc"), false).unwrap();
        body.send_trailers(trailers).unwrap();
    }
}

#[tokio::test]
async fn trailers_of_an_h2_backend_reach_who_asked_for_them() {
    let world = World::speaking(Protocol::H2c).await;
    let (heads, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let mut client = world.client().await;
    client.send(&request("GET /", &["TE: trailers", "Connection: TE"])).await;
    tokio::spawn(answer_all(world.backend().await.stream, heads));
    assert!(client.head().await.contains("\r\nTransfer-Encoding: chunked\r\n"));
    assert_eq!(client.until("\r\n\r\n").await, "3\r\nabc\r\n0\r\ngrpc-status: 0\r\n\r\n");
    assert_eq!(asked.recv().await.unwrap()["te"], "trailers");

    client.send(&request("GET /", &[])).await;
    client.head().await;
    assert_eq!(client.until("\r\n\r\n").await, "3\r\nabc\r\n0\r\n\r\n", "an HTTP/1 client that did not ask");
    assert!(!asked.recv().await.unwrap().contains_key("te"));
    world.nothing_open().await;
}

#[tokio::test]
async fn an_upgrade_is_not_offered_to_an_h2_backend() {
    let world = World::speaking(Protocol::H2c).await;
    let (heads, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let mut client = world.client().await;
    client
        .send(&request("GET /", &["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: k"]))
        .await;
    tokio::spawn(answer_all(world.backend().await.stream, heads));
    let (text, _) = client.rest().await;
    assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("\r\nConnection: close\r\n"), "{text}");
    assert!(!asked.recv().await.unwrap().contains_key("upgrade"));
}
