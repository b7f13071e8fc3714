//! Stops of sessions whose connections are open and silent.

use std::time::Duration;

use bivouac_protocol::ReasonCode;
use tokio::io::AsyncReadExt;

use super::world::{Peer, World, request};
use crate::activity::gate::FenceAnswer;
use crate::options::Limits;

const ASK: [&str; 3] = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: k"];
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const PING: &[u8] = b"\x89\x02hi";
const TEXT: &[u8] = b"\x81\x04text";
const QUIET: &[u8] = b"\x88\x07\x03\xe9quiet";

async fn websocket(world: &World) -> (Peer, Peer) {
    let (mut client, mut backend, _) = world.asked(&request("GET /ws", &ASK)).await;
    backend.send(SWITCH).await;
    client.head().await;
    (client, backend)
}

/// Fences the session once what was said last is over.
async fn fenced(world: &World, attempt: u64) {
    let waiting = async {
        while world.fixture.fence(attempt) != FenceAnswer::Fenced {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("it is not quiet");
}

async fn read(peer: &mut Peer, expected: &[u8]) {
    let mut read = vec![0; expected.len()];
    tokio::time::timeout(Duration::from_secs(10), peer.stream.read_exact(&mut read)).await.unwrap().unwrap();
    assert_eq!(read, expected);
}

#[tokio::test]
async fn pings_pass_a_quiet_fence_and_what_an_application_says_waits() {
    let world = World::quiet().await;
    let (mut client, mut backend) = websocket(&world).await;
    fenced(&world, 1).await;
    client.send_bytes(PING).await;
    read(&mut backend, PING).await;
    backend.send_bytes(PING).await;
    read(&mut client, PING).await;
    client.send_bytes(TEXT).await;
    backend.silence().await;
    backend.send_bytes(TEXT).await;
    client.silence().await;
    world.fixture.unfence(1);
    read(&mut backend, TEXT).await;
    read(&mut client, TEXT).await;
    fenced(&world, 2).await;
    drop((client, backend));
    world.nothing_open().await;
}

#[tokio::test]
async fn what_waits_at_a_fence_is_never_delivered_to_a_session_that_is_stopped() {
    for from_client in [true, false] {
        let world = World::quiet().await;
        let (mut client, mut backend) = websocket(&world).await;
        backend.send_bytes(TEXT).await;
        read(&mut client, TEXT).await;
        fenced(&world, 1).await;
        let (said, heard) =
            if from_client { (&mut client, &mut backend) } else { (&mut backend, &mut client) };
        said.send_bytes(TEXT).await;
        heard.silence().await;
        world.fixture.stop(ReasonCode::Quiet).await;
        read(&mut client, QUIET).await;
        assert_eq!(client.rest().await.0, "");
        drop(client);
        assert_eq!(backend.rest().await.0, "");
        world.nothing_open().await;
    }
}

#[tokio::test]
async fn the_bytes_of_any_other_protocol_wait_all() {
    let world = World::quiet().await;
    let (mut client, mut backend, _) =
        world.asked(&request("GET /", &["Connection: Upgrade", "Upgrade: echo"])).await;
    backend.send(SWITCH).await;
    client.head().await;
    fenced(&world, 1).await;
    client.send_bytes(PING).await;
    backend.silence().await;
    world.fixture.unfence(1);
    read(&mut backend, PING).await;
}

#[tokio::test]
async fn an_answer_that_goes_on_waits_at_a_quiet_fence() {
    let world = World::quiet().await;
    let (mut client, mut backend, _) = world.asked(&request("GET /events", &[])).await;
    assert_eq!(world.fixture.fence(1), FenceAnswer::Busy, "nothing was answered yet");
    backend.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
    client.until("first").await;
    fenced(&world, 2).await;
    backend.send("6\r\nsecond\r\n").await;
    world.fixture.unfence(2);
    client.until("second").await;
    fenced(&world, 3).await;
    backend.send("5\r\nthird\r\n0\r\n\r\n").await;
    world.fixture.stop(ReasonCode::Quiet).await;
    let (rest, _) = client.rest().await;
    assert!(!rest.contains("third") && !rest.contains("0\r\n\r\n"), "{rest:?}");
    world.nothing_open().await;
}

#[tokio::test]
async fn what_was_passed_and_not_taken_is_in_the_way_of_a_quiet_fence() {
    let world = World::quiet().await;
    let (client, mut backend) = websocket(&world).await;
    fenced(&world, 1).await;
    world.fixture.unfence(1);
    // More than both sockets hold: nobody reads.
    let flood = vec![0x82; 64 * 1024];
    while tokio::time::timeout(Duration::from_millis(300), backend.send_bytes(&flood)).await.is_ok() {}
    assert_eq!(world.fixture.fence(2), FenceAnswer::Busy);
    drop((client, backend));
    world.nothing_open().await;
}

#[tokio::test]
async fn whoever_takes_nothing_of_a_tunnel_for_too_long_is_given_up() {
    let limits = Limits { tunnel_stall: Duration::from_millis(300), ..Limits::default() };
    let world = World::with(limits, true).await;
    let (client, backend) = websocket(&world).await;
    let flood = vec![0x82; 64 * 1024];
    while tokio::time::timeout(Duration::from_millis(100), backend.stream.writable()).await.is_ok() {
        if backend.stream.try_write(&flood).is_err_and(|e| e.kind() != std::io::ErrorKind::WouldBlock) {
            break;
        }
    }
    world.nothing_open().await;
    drop(client);
}
