//! What a client may take of time and space.

use std::time::Duration;

use super::world::{World, request};
use crate::listener::Limits;

#[tokio::test]
async fn a_head_is_bounded_in_size() {
    let world = World::new().await;
    let mut client = world.client().await;
    let field = format!("X-Fill: {}", "x".repeat(7_000));
    client.send(&request("GET /", &[field.as_str(); 8])).await;
    let mut backend = world.backend().await;
    assert!(backend.head().await.len() > 56_000, "56 kB pass");
    let mut client = world.client().await;
    client.send(&request("GET /", &[field.as_str(); 12])).await;
    let (text, _) = client.rest().await;
    assert!(text.starts_with("HTTP/1.1 431 ") && text.contains("head_too_large"), "{text}");
}

#[tokio::test]
async fn a_head_is_bounded_in_time_however_it_trickles() {
    let limits = Limits { head_timeout: Duration::from_millis(300), ..Limits::default() };
    let world = World::with(limits, true).await;
    let mut client = world.client().await;
    client.send(&request("GET /", &[])).await;
    let mut backend = world.backend().await;
    backend.head().await;
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    client.head().await;
    let trickle = async {
        for byte in request("GET /slow", &[]).bytes() {
            client.send_bytes(&[byte]).await;
            if tokio::time::timeout(Duration::from_millis(50), client.stream.readable()).await.is_ok() {
                break;
            }
        }
        client.rest().await.0
    };
    let text = tokio::time::timeout(Duration::from_secs(3), trickle).await.expect("the head was waited for");
    assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("head_timeout"), "{text}");
}

#[tokio::test]
async fn a_connection_rests_only_so_long() {
    let limits = Limits { keep_alive: Duration::from_millis(200), ..Limits::default() };
    let world = World::with(limits, true).await;
    let mut fresh = world.client().await;
    assert_eq!(fresh.rest().await.0, "");
    let mut client = world.client().await;
    client.send(&request("GET /", &[])).await;
    let mut backend = world.backend().await;
    backend.head().await;
    // A request that takes longer than that is no rest.
    tokio::time::sleep(Duration::from_millis(400)).await;
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert!(!client.head().await.contains("Connection: close"));
    let (text, end) = client.rest().await;
    assert!(text.is_empty() && end.is_ok());
}

#[tokio::test]
async fn a_slow_reader_holds_the_backend_back() {
    let world = World::new().await;
    let (mut client, backend, _) = world.asked(&request("GET /", &[])).await;
    let total = 64 * 1024 * 1024;
    let (_reading, mut writing) = backend.stream.into_split();
    let writer = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        writing
            .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let piece = vec![b'x'; 64 * 1024];
        for _ in 0..total / piece.len() {
            writing.write_all(&piece).await.unwrap();
        }
        writing
    });
    client.head().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!writer.is_finished(), "64 MiB cannot all be under way");
    client.exactly(total).await;
    writer.await.unwrap();
}
