//! How the proxy stops, and what a stopped session means for its requests.

use std::time::Duration;

use bivouac_protocol::ReasonCode;

use super::world::{World, request};

#[tokio::test]
async fn what_rests_is_closed_and_what_runs_is_finished() {
    let world = World::new().await;
    let (mut running, mut backend, _) = world.asked(&request("GET /", &[])).await;
    let mut resting = world.client().await;
    resting.send("GET / HTTP/1.1\r\nHost: evil.com\r\n\r\n").await;
    resting.response().await;
    world.gateway.closing.token.cancel();
    assert_eq!(resting.rest().await.0, "");
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let (text, end) = running.rest().await;
    assert!(text.ends_with("ok") && end.is_ok(), "{text}");
    world.gateway.tracker.close();
    drop(running);
    tokio::time::timeout(Duration::from_secs(5), world.gateway.tracker.wait()).await.expect("a task is left");
    assert!(tokio::net::TcpStream::connect(world.address).await.is_err(), "nothing new is taken");
}

#[tokio::test]
async fn a_response_that_begins_while_draining_says_so() {
    let world = World::new().await;
    let (mut client, mut backend, _) = world.asked(&(request("GET /", &[]) + &request("GET /2", &[]))).await;
    world.gateway.closing.token.cancel();
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    client.head().await;
    assert!(backend.head().await.starts_with("GET /2 "), "what was sent already is served");
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert!(client.head().await.contains("\r\nConnection: close\r\n"));
}

#[tokio::test]
async fn a_stopped_session_answers_with_its_reason() {
    let world = World::new().await;
    let (mut client, _backend, _) = world.asked(&request("GET /", &[])).await;
    world.fixture.stop(ReasonCode::Requested).await;
    let (head, body) = client.response().await;
    assert!(head.starts_with("HTTP/1.1 410 ") && body.contains("session_ended"), "{head}{body}");
    assert!(body.contains("\"code\":\"requested\""), "{body}");
    world.nothing_open().await;
}

#[tokio::test]
async fn a_response_that_is_cut_does_not_look_whole() {
    let world = World::new().await;
    let (mut client, mut backend, _) = world.asked(&request("GET /", &[])).await;
    backend.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
    client.until("half\r\n").await;
    world.fixture.stop(ReasonCode::Lifetime).await;
    let (rest, end) = client.rest().await;
    assert!(rest.is_empty() && end.is_err());
    world.nothing_open().await;
}

#[tokio::test]
async fn with_a_successor_whoever_rests_is_served_once_more_and_sent_on() {
    let world = World::new().await;
    let mut resting = world.client().await;
    resting.send("GET / HTTP/1.1\r\nHost: evil.com\r\n\r\n").await;
    assert!(!resting.response().await.0.contains("Connection: close"));
    let mut fresh = world.client().await;
    fresh.silence().await;
    world.gateway.closing.successor.store(true, std::sync::atomic::Ordering::Relaxed);
    world.gateway.closing.token.cancel();
    resting.silence().await;
    resting.send(&request("GET /", &[])).await;
    let mut backend = world.backend().await;
    backend.head().await;
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let (text, end) = resting.rest().await;
    assert!(text.contains("\r\nConnection: close\r\n") && text.ends_with("ok") && end.is_ok(), "{text}");
    fresh.send(&request("GET /", &[])).await;
    backend.head().await;
}
