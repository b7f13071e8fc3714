//! Connections that change their protocol.

use bivouac_protocol::ReasonCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fixture::SESSION;
use super::world::{Peer, World, request};
use crate::access::Grant;
use crate::host::Target;
use crate::log::Account;
use crate::stream::Socket;
use crate::tunnel::{Switch, Tunnel};

const ASK: [&str; 3] = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: k"];
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

async fn tunnel(world: &World) -> (Peer, Peer) {
    let (mut client, mut backend, head) = world.asked(&request("GET /ws", &ASK)).await;
    assert!(head.contains("\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"), "{head}");
    assert!(head.contains("\r\nSec-WebSocket-Key: k\r\n"));
    backend.send(SWITCH).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("\r\nUpgrade: websocket\r\n"), "{head}");
    (client, backend)
}

#[tokio::test]
async fn bytes_go_both_ways_and_the_use_lasts_as_long() {
    let world = World::new().await;
    let (mut client, mut backend) = tunnel(&world).await;
    for round in 0..50 {
        client.send(&format!("ping {round};")).await;
        backend.until(";").await;
        backend.send(&format!("pong {round};")).await;
        client.until(";").await;
    }
    assert_eq!(world.fixture.open(), 1);
    drop(client);
    assert_eq!(backend.rest().await.0, "");
    drop(backend);
    world.nothing_open().await;
}

#[tokio::test]
async fn early_bytes_of_both_sides_wait_for_the_switch() {
    let world = World::new().await;
    let ask = request("GET /ws", &ASK) + "early of client;";
    let (mut client, mut backend, _) = world.asked(&ask).await;
    backend.silence().await;
    backend.send(&format!("{SWITCH}early of backend;")).await;
    client.head().await;
    assert_eq!(client.until(";").await, "early of backend;");
    assert_eq!(backend.until(";").await, "early of client;");
    client.send("late;").await;
    assert_eq!(backend.until(";").await, "late;");
}

#[tokio::test]
async fn early_bytes_survive_a_client_that_also_wants_to_close() {
    let world = World::new().await;
    let ask = request("GET /ws", &["Connection: close, Upgrade", "Upgrade: echo"]) + "early;";
    let (mut client, mut backend, _) = world.asked(&ask).await;
    backend.send(SWITCH).await;
    client.head().await;
    assert_eq!(backend.until(";").await, "early;");
}

#[tokio::test]
async fn each_side_may_end_before_the_other() {
    let world = World::new().await;
    let (mut client, mut backend) = tunnel(&world).await;
    client.send("last").await;
    client.finish().await;
    assert_eq!(backend.rest().await.0, "last");
    backend.send("still here").await;
    assert_eq!(client.exactly(10).await, "still here");
    backend.finish().await;
    assert!(client.rest().await.1.is_ok());
    world.nothing_open().await;

    let (mut client, mut backend) = tunnel(&world).await;
    backend.finish().await;
    assert_eq!(client.rest().await.0, "");
    client.send("answer").await;
    client.finish().await;
    assert_eq!(backend.rest().await.0, "answer");
    world.nothing_open().await;
}

#[tokio::test]
async fn a_broken_connection_breaks_the_other_at_once() {
    let world = World::new().await;
    let (client, mut backend) = tunnel(&world).await;
    client.stream.set_zero_linger().unwrap();
    drop(client);
    assert!(backend.rest().await.1.is_err(), "no clean end");
    world.nothing_open().await;

    let (mut client, mut backend) = tunnel(&world).await;
    backend.send("last words").await;
    client.exactly(10).await;
    backend.stream.set_zero_linger().unwrap();
    drop(backend);
    assert!(client.rest().await.1.is_err(), "no clean end");
    world.nothing_open().await;
}

#[tokio::test]
async fn what_a_backend_said_before_it_stopped_listening_is_delivered() {
    let world = World::new().await;
    let (mut client, mut backend) = tunnel(&world).await;
    // Closed with unread bytes: the backend's kernel answers the next ones with a reset.
    backend.send("farewell").await;
    backend.finish().await;
    assert_eq!(client.rest().await.0, "farewell");
    drop(backend);
    // The first of these is answered with a reset, the second cannot be written.
    while client.stream.write_all(b"too late").await.is_ok() {
        tokio::task::yield_now().await;
    }
    world.nothing_open().await;
}

#[tokio::test]
async fn a_tunnel_holds_back_whoever_is_not_read() {
    let world = World::new().await;
    let (client, mut backend) = tunnel(&world).await;
    let total = 32 * 1024 * 1024;
    let body: Vec<u8> = (0..total).map(|n: usize| b'a' + (n % 26) as u8).collect();
    let expected = String::from_utf8(body.clone()).unwrap();
    let (_reading, mut writing) = client.stream.into_split();
    let writer = tokio::spawn(async move {
        writing.write_all(&body).await.unwrap();
        writing
    });
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(!writer.is_finished());
    assert!(backend.exactly(total).await == expected);
    drop(writer.await.unwrap());
}

#[tokio::test]
async fn a_refused_upgrade_is_a_response_like_any_other() {
    let world = World::new().await;
    let (mut client, mut backend, _) = world.asked(&request("GET /ws", &ASK)).await;
    backend.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope").await;
    let (text, end) = client.rest().await;
    assert!(text.starts_with("HTTP/1.1 403 ") && text.ends_with("\r\n\r\nnope") && end.is_ok(), "{text}");
    world.nothing_open().await;
}

#[tokio::test]
async fn nothing_behind_a_refused_upgrade_is_taken_for_a_request() {
    let world = World::new().await;
    let ask = request("GET /ws", &ASK) + &request("GET /smuggled", &[]);
    let (mut client, mut backend, _) = world.asked(&ask).await;
    backend.send("HTTP/1.1 426 Upgrade Required\r\nUpgrade: other\r\nContent-Length: 0\r\n\r\n").await;
    let (text, _) = client.rest().await;
    assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text}");
    assert!(text.contains("\r\nUpgrade: other\r\n"));
    world.no_backend().await;
}

#[tokio::test]
async fn h2c_is_not_offered_to_the_backend() {
    let world = World::new().await;
    let fields = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"];
    let (_client, _backend, head) = world.asked(&request("GET /", &fields)).await;
    assert!(!head.to_ascii_lowercase().contains("upgrade") && !head.contains("HTTP2"), "{head}");
}

#[tokio::test]
async fn a_stopped_session_closes_its_websockets_with_a_code() {
    let world = World::new().await;
    let (mut client, mut backend) = tunnel(&world).await;
    backend.send_bytes(b"\x81\x02hi").await;
    client.stream.read_exact(&mut [0; 4]).await.unwrap();
    world.fixture.stop(ReasonCode::Requested).await;
    let mut frame = Vec::new();
    client.stream.read_to_end(&mut frame).await.unwrap();
    assert_eq!(frame, b"\x88\x0b\x03\xe9requested");
    drop(client);
    assert_eq!(backend.rest().await.0, "");
    world.nothing_open().await;
}

#[tokio::test]
async fn no_close_frame_is_put_into_another_frame() {
    let world = World::new().await;
    let (mut client, mut backend) = tunnel(&world).await;
    backend.send_bytes(b"\x81\x08half").await;
    client.stream.read_exact(&mut [0; 6]).await.unwrap();
    world.fixture.stop(ReasonCode::Requested).await;
    let mut rest = Vec::new();
    let _ = client.stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "{rest:?}");
    world.nothing_open().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_handshakes_all_succeed() {
    let world = std::sync::Arc::new(World::new().await);
    let mut all = tokio::task::JoinSet::new();
    let backends = world.clone();
    let serving = tokio::spawn(async move {
        loop {
            let mut backend = backends.backend().await;
            tokio::spawn(async move {
                backend.head().await;
                backend.send(&format!("{SWITCH}a")).await;
                backend.exactly(1).await;
                backend.send("b").await;
                backend.finish().await;
            });
        }
    });
    for _ in 0..8 {
        let world = world.clone();
        all.spawn(async move {
            for _ in 0..125 {
                let mut client = world.client().await;
                client.send(&request("GET /ws", &ASK)).await;
                client.head().await;
                assert_eq!(client.exactly(1).await, "a");
                client.send("x").await;
                let (rest, end) = client.rest().await;
                assert!(rest == "b" && end.is_ok(), "{rest:?} {end:?}");
            }
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    serving.abort();
    world.nothing_open().await;
}

#[tokio::test]
async fn a_refused_websocket_of_a_browser_learns_its_code() {
    let world = World::new().await;
    let browser = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Origin: http://a",
    ];
    let offer = [browser.as_slice(), &["Sec-WebSocket-Protocol: bivouac.ticket.x, bivouac.v1"]].concat();
    let unknown = |fields: &[&str]| request("GET /ws", fields).replace(SESSION, "aaaaaaaaaaaaaaaaaaaa");
    let mut client = world.client().await;
    client.send(&unknown(&offer)).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    assert!(
        head.contains("\r\nsec-websocket-protocol: bivouac.v1\r\n") && !head.contains("ticket"),
        "{head}"
    );
    let frame = client.last_bytes().await;
    assert_eq!(frame, [b"\x88\x11".as_slice(), &4404u16.to_be_bytes(), b"session_unknown"].concat());

    world.fixture.stop(ReasonCode::Requested).await;
    let mut client = world.client().await;
    client.send(&request("GET /ws", &browser)).await;
    client.head().await;
    let frame = client.last_bytes().await;
    assert_eq!(frame, b"\x88\x0b\x03\xe9requested");

    let mut program = world.client().await;
    program.send(&unknown(&browser[..3])).await;
    let (text, _) = program.rest().await;
    assert!(text.starts_with("HTTP/1.1 404 ") && text.contains("session_unknown"), "{text}");
}

#[tokio::test]
async fn an_idle_tunnel_costs_little() {
    let world = World::new().await;
    let (client, backend) = tunnel(&world).await;
    let switch = Switch { backend: Socket::plain(backend.stream), greeting: Vec::new(), early: Vec::new() };
    let target = Target { session: SESSION.parse().unwrap(), port: None };
    let admitting = world.fixture.admission().admit(&target, Grant::default(), std::future::pending()).await;
    let admitted = admitting.unwrap().unwrap();
    let tunnel =
        Box::new(Tunnel::new(Socket::plain(client.stream), switch, admitted, true, Account::default()));
    let size = size_of_val(&*tunnel) + size_of_val(&tunnel.run());
    assert!(size < 2048, "{size} bytes");
}
