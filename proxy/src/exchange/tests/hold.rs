//! Requests for a session that is not ready.

use std::time::Duration;

use bivouac_protocol::{ReasonCode, RoutePhase};

use super::world::{World, request};
use crate::options::Limits;

#[tokio::test]
async fn a_browser_gets_a_page_that_asks_again() {
    let limits = Limits { page_after: Duration::from_millis(50), ..Limits::default() };
    let world = World::with(limits, false).await;
    let mut client = world.client().await;
    client.send(&request("GET /", &["Accept: text/html", "Sec-Fetch-Mode: navigate"])).await;
    let (head, body) = client.response().await;
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nRetry-After: 1\r\n"), "{head}");
    assert!(
        head.contains("\r\nCache-Control: no-store\r\n") && !head.contains("Connection: close"),
        "{head}"
    );
    assert!(body.contains("http-equiv=\"refresh\"") && body.contains("session_starting"));
    client.send(&request("GET /", &["Accept: */*"])).await;
    client.silence().await;
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_is_forgotten() {
    let world = World::with(Limits::default(), false).await;
    for body in ["", "unread body"] {
        let mut client = world.client().await;
        client.send(&(request("POST /", &[&format!("Content-Length: {}", body.len())]) + body)).await;
        client.silence().await;
        assert_eq!(world.fixture.waiting(), 1);
        drop(client);
        let forgotten = async {
            while world.fixture.waiting() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(3), forgotten).await.expect("it still waits");
    }
}

#[tokio::test]
async fn a_request_waits_for_its_session_to_be_ready() {
    let world = World::with(Limits::default(), false).await;
    let mut client = world.client().await;
    client.send(&request("GET /", &[])).await;
    client.silence().await;
    world.fixture.push(RoutePhase::Ready);
    let mut backend = world.backend().await;
    backend.head().await;
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.response().await.1, "ok");
}

#[tokio::test]
async fn a_refused_connection_is_made_again_when_the_backend_is_back() {
    let mut world = World::new().await;
    let address = world.close_backend();
    let mut client = world.client().await;
    client.send(&request("GET /", &[])).await;
    client.silence().await;
    world.open_backend(address).await;
    world.fixture.push(RoutePhase::Ready);
    let mut backend = world.backend().await;
    backend.head().await;
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.response().await.1, "ok");
}

#[tokio::test]
async fn whoever_waits_for_a_session_that_ends_is_told_why() {
    for (accept, kind) in [("*/*", "application/problem+json"), ("text/html", "text/html")] {
        let world = World::with(Limits::default(), false).await;
        let mut client = world.client().await;
        client.send(&request("GET /", &[&format!("Accept: {accept}")])).await;
        client.silence().await;
        world.fixture.stop(ReasonCode::StartupTimeout).await;
        let (head, body) = client.response().await;
        assert!(head.starts_with("HTTP/1.1 502 ") && head.contains(kind), "{head}");
        assert!(
            body.contains("start_failed") && body.contains("startup_timeout") && !body.contains("refresh"),
            "{body}"
        );
    }
}
