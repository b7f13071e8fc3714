//! Bodies in every frame, both ways, and connections that go on or do not.

use super::world::{World, request};
use crate::options::Limits;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn a_connection_carries_request_after_request_and_so_does_the_backends() {
    let world = World::new().await;
    let (mut client, mut backend, head) = world.asked(&request("GET /first?a=b", &["X-One: 1"])).await;
    assert!(head.starts_with("GET /first?a=b HTTP/1.1\r\n") && head.contains("\r\nX-One: 1\r\n"), "{head}");
    assert!(
        head.contains("\r\nX-Forwarded-For: 127.0.0.1\r\n")
            && head.contains("\r\nX-Bivouac-Generation: 1\r\n")
    );
    backend.send(OK).await;
    assert_eq!(client.response().await.1, "ok");
    for _ in 0..3 {
        client.send(&request("GET /next", &[])).await;
        assert!(backend.head().await.starts_with("GET /next "), "the backend's connection is used again");
        backend.send(OK).await;
        let (head, body) = client.response().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body == "ok");
    }
    world.nothing_open().await;
    assert_eq!(world.gateway.pool.len(), 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let world = World::new().await;
    let post = request("POST /2", &["Content-Length: 3"]) + "abc";
    let all = request("GET /1", &[]) + &post + &request("GET /3", &[]);
    let (mut client, mut backend, head) = world.asked(&all).await;
    assert!(head.starts_with("GET /1 "));
    backend.silence().await;
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1").await;
    assert!(backend.head().await.starts_with("POST /2 "));
    assert_eq!(backend.exactly(3).await, "abc");
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2").await;
    assert!(backend.head().await.starts_with("GET /3 "));
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3").await;
    for expected in ["1", "2", "3"] {
        assert_eq!(client.response().await.1, expected);
    }
}

#[tokio::test]
async fn chunks_go_both_ways_without_their_extensions_and_trailers() {
    let world = World::new().await;
    let head = request("POST /", &["Transfer-Encoding: chunked", "Trailer: X-Bivouac-User"]);
    let (mut client, mut backend, head) = world.asked(&(head + "3;a=b\r\nabc\r\n")).await;
    assert!(head.contains("\r\nTransfer-Encoding: chunked\r\n") && !head.contains("Trailer"), "{head}");
    assert_eq!(backend.until("abc\r\n").await, "3\r\nabc\r\n", "what came is sent on at once");
    client.send("2\r\nde\r\n0\r\nX-Bivouac-User: forged\r\n\r\n").await;
    assert_eq!(backend.until("0\r\n\r\n").await, "2\r\nde\r\n0\r\n\r\n");
    backend.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n").await;
    assert!(client.head().await.contains("\r\nTransfer-Encoding: chunked\r\n"));
    assert_eq!(client.until("xyz\r\n").await, "3\r\nxyz\r\n", "a stream is not held up");
    backend.send("0\r\nX-Trailer: 1\r\n\r\n").await;
    assert_eq!(client.until("0\r\n\r\n").await, "0\r\n\r\n");
    client.send(&request("GET /again", &[])).await;
    assert!(backend.head().await.starts_with("GET /again "), "both connections go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn large_bodies_go_both_ways_at_once() {
    let world = World::new().await;
    let length = 5_000_000;
    let (client, backend, _) = world.asked(&request("POST /", &[&format!("Content-Length: {length}")])).await;
    let (mut client_in, mut client_out) = client.stream.into_split();
    let (mut backend_in, mut backend_out) = backend.stream.into_split();
    let echo = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        backend_out.write_all(head.as_bytes()).await.unwrap();
        tokio::io::copy(&mut backend_in, &mut backend_out).await.unwrap();
    });
    let body: Vec<u8> = (0..length).map(|n: usize| (n % 251) as u8).collect();
    let expected = body.clone();
    let sending = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut client_out, &body).await.unwrap();
        client_out
    });
    let mut all = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut client_in, &mut all).await.unwrap();
    assert!(all.ends_with(&expected), "{} bytes came", all.len());
    drop(sending.await.unwrap());
    drop(echo);
}

#[tokio::test]
async fn responses_without_a_body_end_with_their_head() {
    let world = World::new().await;
    let (mut client, mut backend, _) = world.asked(&request("HEAD /", &[])).await;
    backend.send("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n").await;
    assert!(client.head().await.contains("\r\nContent-Length: 500\r\n"));
    for status in ["204 No Content", "304 Not Modified"] {
        client.send(&request("GET /", &[])).await;
        backend.head().await;
        backend.send(&format!("HTTP/1.1 {status}\r\n\r\n")).await;
        let head = client.head().await;
        assert!(head.contains(status) && !head.contains("Transfer-Encoding"), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_requests_at_once_are_never_mixed_up() {
    let world = std::sync::Arc::new(World::new().await);
    let backends = world.clone();
    let serving = tokio::spawn(async move {
        loop {
            let mut backend = backends.backend().await;
            tokio::spawn(async move {
                loop {
                    let head = backend.head().await;
                    let path = head.split(' ').nth(1).unwrap();
                    backend
                        .send(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len()))
                        .await;
                }
            });
        }
    });
    let mut all = tokio::task::JoinSet::new();
    for client in 0..16 {
        let world = world.clone();
        all.spawn(async move {
            let mut connection = world.client().await;
            for number in 0..200 {
                connection.send(&request(&format!("GET /{client}/{number}"), &[])).await;
                assert_eq!(connection.response().await.1, format!("/{client}/{number}"));
            }
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    serving.abort();
    world.nothing_open().await;
    assert!(world.gateway.pool.len() <= 16, "connections are used again");
}

#[tokio::test]
async fn interim_responses_are_passed_on() {
    let world = World::new().await;
    let (mut client, mut backend, head) =
        world.asked(&request("POST /", &["Expect: 100-continue", "Content-Length: 4"])).await;
    assert!(head.contains("\r\nExpect: 100-continue\r\n"));
    client.silence().await;
    backend.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body").await;
    assert_eq!(backend.exactly(4).await, "body");
    backend.send(&format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n"));
    assert_eq!(client.response().await.1, "ok");
    client.send(&request("GET /", &[])).await;
    backend.head().await;
}

#[tokio::test]
async fn a_body_that_is_refused_unread_ends_the_connection() {
    let world = World::new().await;
    let (mut client, mut backend, _) =
        world.asked(&request("POST /", &["Expect: 100-continue", "Content-Length: 4"])).await;
    backend.send("HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno").await;
    let (text, end) = client.rest().await;
    assert!(text.contains("\r\nConnection: close\r\n") && text.ends_with("no") && end.is_ok(), "{text}");
    assert_eq!(
        backend.rest().await.0,
        "",
        "nothing more is sent to the backend, and its connection is not kept"
    );
    assert_eq!(world.gateway.pool.len(), 0);
}

#[tokio::test]
async fn an_early_response_reaches_a_client_that_is_still_sending() {
    let world = World::new().await;
    let (mut client, mut backend, _) = world.asked(&request("POST /", &["Content-Length: 100000000"])).await;
    client.send_bytes(&[b'x'; 100_000]).await;
    backend.exactly(1000).await;
    backend.send("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig").await;
    let (head, body) = client.response().await;
    assert!(head.starts_with("HTTP/1.1 413 ") && head.contains("\r\nConnection: close\r\n") && body == "big");
    world.nothing_open().await;
}

#[tokio::test]
async fn a_response_that_breaks_off_does_not_look_whole() {
    for (line, head, part) in [
        ("GET /", "Content-Length: 10\r\n", "half"),
        ("GET /", "Transfer-Encoding: chunked\r\n", "4\r\nhalf\r\n"),
    ] {
        let world = World::new().await;
        let (mut client, mut backend, _) = world.asked(&request(line, &[])).await;
        backend.send(&format!("HTTP/1.1 200 OK\r\n{head}\r\n{part}")).await;
        client.until("half").await;
        drop(backend);
        let (rest, _) = client.rest().await;
        assert!(rest.is_empty() || rest == "\r\n", "neither a last chunk nor the missing bytes: {rest:?}");
        world.nothing_open().await;
    }
}

#[tokio::test]
async fn a_broken_response_without_a_length_is_a_reset_for_http_1_0() {
    let world = World::new().await;
    let ask = request("GET /", &[]).replace("HTTP/1.1", "HTTP/1.0");
    let (mut client, mut backend, _) = world.asked(&ask).await;
    backend.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
    client.until("half").await;
    drop(backend);
    assert!(client.rest().await.1.is_err(), "a clean end would pass for the end of the body");
}

#[tokio::test]
async fn http_1_0_gets_what_it_understands() {
    let world = World::new().await;
    let ask = request("GET /", &[]).replace("HTTP/1.1", "HTTP/1.0");
    let (mut client, mut backend, head) = world.asked(&ask).await;
    assert!(head.starts_with("GET / HTTP/1.1\r\n"), "the backend is spoken to in our own version");
    backend
        .send("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    backend.send("3\r\nabc\r\n0\r\n\r\n").await;
    let (text, end) = client.rest().await;
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\nabc") && end.is_ok(),
        "{text}"
    );
    assert!(text.contains("Connection: close") && !text.contains("Transfer-Encoding"), "{text}");

    let keep = request("GET /", &["Connection: keep-alive"]).replace("HTTP/1.1", "HTTP/1.0");
    let mut client = world.client().await;
    client.send(&keep).await;
    backend.head().await;
    backend.send(OK).await;
    assert!(client.response().await.0.contains("\r\nConnection: keep-alive\r\n"));
    client.send(&keep).await;
    backend.head().await;
}

#[tokio::test]
async fn a_body_that_ends_with_the_backends_connection_gets_an_end_of_its_own() {
    let world = World::new().await;
    let (mut client, mut backend, _) = world.asked(&request("GET /", &[])).await;
    backend.send("HTTP/1.0 200 OK\r\n\r\nabc").await;
    assert_eq!(client.until("abc\r\n").await.matches("3\r\nabc").count(), 1);
    backend.finish().await;
    assert_eq!(client.until("0\r\n\r\n").await, "0\r\n\r\n");
    client.send(&request("GET /", &[])).await;
    world.backend().await.head().await;
}

#[tokio::test]
async fn a_kept_connection_that_was_given_up_is_not_noticed_by_the_client() {
    let world = World::new().await;
    let (mut client, mut backend, _) = world.asked(&request("GET /", &[])).await;
    backend.send(OK).await;
    client.response().await;
    // It takes the next request, and closes instead of answering.
    client.send(&request("GET /again", &[])).await;
    backend.head().await;
    drop(backend);
    let mut backend = world.backend().await;
    assert!(backend.head().await.starts_with("GET /again "));
    backend.send(OK).await;
    assert_eq!(client.response().await.1, "ok");
    // What may have had an effect is not repeated.
    client.send(&request("POST /once", &["Content-Length: 0"])).await;
    backend.head().await;
    drop(backend);
    let (head, body) = client.response().await;
    assert!(head.starts_with("HTTP/1.1 502 ") && body.contains("backend_failed"), "{head}{body}");
    world.no_backend().await;
}

#[tokio::test]
async fn surplus_bytes_are_nobodys_response() {
    let world = World::new().await;
    let (mut client, mut backend, _) = world.asked(&request("GET /", &[])).await;
    backend.send(&format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")).await;
    assert_eq!(client.response().await.1, "ok");
    client.silence().await;
    client.send(&request("GET /", &[])).await;
    let mut fresh = world.backend().await;
    fresh.head().await;
    fresh.send(OK).await;
    assert_eq!(client.response().await.1, "ok");
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_use() {
    let world = World::new().await;
    let (client, mut backend, _) = world.asked(&request("GET /slow", &[])).await;
    drop(client);
    world.nothing_open().await;
    assert_eq!(backend.rest().await.0, "");
    let (mut client, mut backend, _) = world.asked(&request("POST /", &["Content-Length: 10"])).await;
    client.send("half").await;
    backend.exactly(4).await;
    drop(client);
    world.nothing_open().await;
    assert_eq!(backend.rest().await.0, "");
}

#[tokio::test]
async fn a_backend_that_makes_no_sense_is_said_to() {
    for answer in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "",
    ] {
        let world = World::with(Limits::default(), true).await;
        let (mut client, mut backend, _) = world.asked(&request("GET /", &[])).await;
        backend.send(answer).await;
        drop(backend);
        let (head, body) = client.response().await;
        assert!(
            head.starts_with("HTTP/1.1 502 ") && body.contains("\"backend_failed\""),
            "{answer:?}: {head}{body}"
        );
        client.send(&request("GET /", &[])).await;
        world.backend().await.head().await;
    }
}

#[tokio::test]
async fn a_chunk_with_a_bare_lf_is_one_thing_for_both() {
    for body in ["3\nabc\n0\n\n", "3\r\nabc\n0\r\n\r\n", "3\nabc\r\n0\r\n\r\n", "0\n\r\n\r\n"] {
        let world = World::new().await;
        let mut client = world.client().await;
        client.send(&(request("POST /", &["Transfer-Encoding: chunked"]) + body)).await;
        client.send(&request("GET /smuggled", &[])).await;
        let seen = async {
            let mut backend = world.backend().await;
            backend.until_or_end("\r\n\r\n").await?;
            backend.until_or_end("0\r\n\r\n").await
        };
        // Either it is refused, or the backend reads the chunks that we have read: never a line's end of the client's.
        tokio::select! {
            Some(chunks) = seen => assert!(["3\r\nabc\r\n0\r\n\r\n", "0\r\n\r\n"].contains(&chunks.as_str()), "{body:?}: {chunks:?}"),
            (text, _) = client.rest() => assert!(text.starts_with("HTTP/1.1 400 "), "{body:?}: {text}"),
        }
    }
}
