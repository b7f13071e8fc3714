//! What is not let through, and how it is said.

use super::fixture::SESSION;
use super::world::{World, request};

#[tokio::test]
async fn ambiguous_requests_reach_nobody() {
    let world = World::new().await;
    let host = format!("Host: {SESSION}.localhost");
    let raw = [
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.0\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\n{host}\r\n{host}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}\r\nhost: evil\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: user@{SESSION}.localhost\r\n\r\n"),
        format!("GET http://other.localhost/ HTTP/1.1\r\n{host}\r\n\r\n"),
        format!("GET / HTTP/1.1\n{host}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}\nX: 1\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}\r\nX: 1\r\n folded\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}\r\nX : 1\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n {host}\r\n\r\n"),
        format!(
            "POST / HTTP/1.1\r\n{host}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        format!(
            "POST / HTTP/1.1\r\n{host}\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"
        ),
        format!("POST / HTTP/1.1\r\n{host}\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd"),
        format!("POST / HTTP/1.1\r\n{host}\r\nContent-Length: 4, 4\r\n\r\nabcd"),
        format!("POST / HTTP/1.1\r\n{host}\r\nContent-Length: +4\r\n\r\nabcd"),
        format!("POST / HTTP/1.1\r\n{host}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        format!(
            "POST / HTTP/1.1\r\n{host}\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"
        ),
        format!("POST / HTTP/1.0\r\n{host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("GET /a b HTTP/1.1\r\n{host}\r\n\r\n"),
        format!("GET /\ta HTTP/1.1\r\n{host}\r\n\r\n"),
        format!("GET /\rX: HTTP/1.1\r\n{host}\r\n\r\n"),
        format!("GET / HTTP/2.0\r\n{host}\r\n\r\n"),
        "\x16\x03\x01\x02\x00\r\n\r\n".to_owned(),
    ];
    for raw in raw {
        let mut client = world.client().await;
        client.send(&(raw.clone() + &request("GET /smuggled", &[]))).await;
        let (text, _) = client.rest().await;
        assert!(
            text.starts_with("HTTP/1.1 400 ") && text.contains("\r\nConnection: close\r\n"),
            "{raw:?}: {text}"
        );
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{raw:?}: only one answer");
        assert!(text.contains("\"code\":\"bad_request\"") && text.contains("\"request_id\""), "{text}");
    }
    world.no_backend().await;
}

#[tokio::test]
async fn a_pipelined_request_line_is_looked_at_too() {
    let world = World::new().await;
    let all = request("GET /1", &[]) + &request("GET /a b", &[]);
    let (mut client, mut backend, _) = world.asked(&all).await;
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    assert!(client.response().await.0.starts_with("HTTP/1.1 400 "));
    backend.silence().await;
}

#[tokio::test]
async fn two_hosts_are_called_so() {
    let world = World::new().await;
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
    assert!(client.rest().await.0.contains("more than one Host"));
}

#[tokio::test]
async fn some_methods_are_not_for_sessions() {
    let world = World::new().await;
    for line in ["TRACE /", "CONNECT abc.localhost:80"] {
        let mut client = world.client().await;
        client.send(&format!("{line} HTTP/1.1\r\nHost: abc.localhost:80\r\n\r\n")).await;
        let (head, body) = client.response().await;
        assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("\r\nAllow: "), "{head}");
        assert!(body.contains("method_not_allowed"));
    }
    world.no_backend().await;
}

#[tokio::test]
async fn unknown_hosts_are_told_and_the_connection_goes_on() {
    let world = World::new().await;
    let mut client = world.client().await;
    for host in ["localhost", "127.0.0.1:80", "x.localhost", "evil.com", &format!("a.{SESSION}.localhost")] {
        client.send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let (head, body) = client.response().await;
        assert!(head.starts_with("HTTP/1.1 404 ") && body.contains("host_unknown"), "{host}: {head}{body}");
    }
    client.send("GET / HTTP/1.1\r\nHost: aaaaaaaaaaaaaaaaaaaa.localhost\r\n\r\n").await;
    assert!(client.response().await.1.contains("session_unknown"));
    client.send("GET / HTTP/1.1\r\nHost: evil.com\r\nAccept: text/html\r\nX-Request-Id: mine\r\n\r\n").await;
    let (head, body) = client.response().await;
    assert!(head.contains("text/html") && body.contains("host_unknown") && body.contains("mine"));
    client.send(&request("GET /", &[])).await;
    world.backend().await.head().await;
}

#[tokio::test]
async fn an_absolute_target_becomes_a_path() {
    let world = World::new().await;
    let (_client, _backend, head) =
        world.asked(&request(&format!("GET http://{SESSION}.localhost/a?b"), &[])).await;
    assert!(head.starts_with("GET /a?b HTTP/1.1\r\n"), "{head}");
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused() {
    let world = World::new().await;
    let ask = request("POST /", &["Transfer-Encoding: chunked"]);
    let (mut client, mut backend, _) = world.asked(&ask).await;
    client.send("zz\r\n").await;
    let (text, _) = client.rest().await;
    assert!(text.starts_with("HTTP/1.1 400 ") && text.contains("body is malformed"), "{text}");
    assert!(!backend.rest().await.0.contains("0\r\n\r\n"), "the backend never sees an end of the body");
}
