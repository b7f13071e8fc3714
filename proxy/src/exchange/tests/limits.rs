//! What a client may take of time and space.

use std::time::Duration;

use bivouac_protocol::Rules;

use super::world::{World, request};
use crate::options::Limits;

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

#[tokio::test]
async fn a_body_over_the_templates_bound_is_refused_before_or_cut() {
    let world = World::ruled(Limits::default(), Rules { max_body: Some(10), ..Rules::default() }).await;
    let mut client = world.client().await;
    client.send(&(request("POST /", &["Content-Length: 11"]) + "elevenbytes")).await;
    let (text, _) = client.rest().await;
    assert!(text.starts_with("HTTP/1.1 413 ") && text.contains("body_too_large"), "{text}");
    world.no_backend().await;

    let ask = request("POST /", &["Transfer-Encoding: chunked"]) + "6\r\nsixsix\r\n";
    let (mut client, mut backend, _) = world.asked(&ask).await;
    backend.until("sixsix\r\n").await;
    client.send("5\r\nfive!\r\n0\r\n\r\n").await;
    let (text, _) = client.rest().await;
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
    let (rest, _) = backend.rest().await;
    assert!(
        !rest.contains("0\r\n\r\n") && !rest.contains("five"),
        "the backend never sees a whole body: {rest:?}"
    );

    let (mut client, mut backend, _) =
        world.asked(&(request("POST /", &["Content-Length: 10"]) + "ten bytes.")).await;
    assert_eq!(backend.exactly(10).await, "ten bytes.");
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_body_that_grows_too_large_under_its_answer_breaks_that_off() {
    let world = World::ruled(Limits::default(), Rules { max_body: Some(3), ..Rules::default() }).await;
    let ask = request("POST /", &["Transfer-Encoding: chunked"]) + "3\r\nabc\r\n";
    let (mut client, mut backend, _) = world.asked(&ask).await;
    backend.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
    client.until("half\r\n").await;
    client.send("1\r\nd\r\n").await;
    let (rest, end) = client.rest().await;
    assert!(rest.is_empty() && end.is_err(), "{rest:?} {end:?}");
}

#[tokio::test]
async fn a_dribbling_body_is_given_up() {
    let limits = Limits { body_window: Duration::from_millis(300), body_least: 64, ..Limits::default() };
    let world = World::with(limits, true).await;
    let (mut client, _backend, _) = world.asked(&request("POST /", &["Content-Length: 5000"])).await;
    let dribble = async {
        for _ in 0..100 {
            client.send("x").await;
            if tokio::time::timeout(Duration::from_millis(50), client.stream.readable()).await.is_ok() {
                break;
            }
        }
        client.rest().await.0
    };
    let text = tokio::time::timeout(Duration::from_secs(3), dribble).await.expect("the body was waited for");
    assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("body_timeout"), "{text}");
}

#[tokio::test]
async fn a_body_that_comes_steadily_takes_as_long_as_it_likes() {
    let limits = Limits { body_window: Duration::from_millis(300), body_least: 64, ..Limits::default() };
    let world = World::with(limits, true).await;
    let (mut client, mut backend, _) = world.asked(&request("POST /", &["Content-Length: 1280"])).await;
    for _ in 0..20 {
        client.send(&"x".repeat(64)).await;
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    backend.exactly(1280).await;
    // The time that the backend takes is not the client's.
    tokio::time::sleep(Duration::from_millis(400)).await;
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_broken_off() {
    let limits = Limits { write_stall: Duration::from_millis(300), ..Limits::default() };
    let world = World::with(limits, true).await;
    let (client, backend, _) = world.asked(&request("GET /", &[])).await;
    let (_reading, mut writing) = backend.stream.into_split();
    let endless = async {
        use tokio::io::AsyncWriteExt;
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
        let mut taken = writing.write_all(head.as_bytes()).await;
        while taken.is_ok() {
            taken = writing.write_all(&[b'x'; 64 * 1024]).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), endless).await.expect("its backend was held up for ever");
    world.nothing_open().await;
    drop(client);
}
