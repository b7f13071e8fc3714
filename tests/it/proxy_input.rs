//! Bad input to the proxy: one clear answer each, the connection closed, nothing smuggled.

use bivouac_tests::World;
use bivouac_tests::world::{GUEST, Raw};
use reqwest::Method;

everywhere!(
    hosts_that_lead_nowhere,
    requests_with_two_meanings,
    errors_come_as_people_and_programs_want_them,
    our_own_headers_cannot_be_forged,
    messages_pass_unharmed,
);

async fn send(world: &World, request: &str) -> Raw {
    Raw::send(world.proxy_port(0), request.replace('\n', "\r\n")).await
}

async fn hosts_that_lead_nowhere(world: World) {
    let refused: &[(&str, u16, &str)] = &[
        ("GET / HTTP/1.1\nHost: example.com\n\n", 404, "host_unknown"),
        ("GET / HTTP/1.1\nHost: localhost\n\n", 404, "host_unknown"),
        ("GET / HTTP/1.1\nHost: 127.0.0.1\n\n", 404, "host_unknown"),
        ("GET / HTTP/1.1\nHost: tooshort.localhost\n\n", 404, "host_unknown"),
        ("GET / HTTP/1.1\nHost: abcdefghijklmnopqr01.localhost\n\n", 404, "host_unknown"),
        ("GET / HTTP/1.1\nHost: x.abcdefghijklmnopqrst.localhost\n\n", 404, "host_unknown"),
        ("GET / HTTP/1.1\nHost: abcdefghijklmnopqrst.localhost.evil.example\n\n", 404, "host_unknown"),
        ("GET / HTTP/1.1\nHost: abcdefghijklmnopqrst.localhost\n\n", 404, "session_unknown"),
        ("GET / HTTP/1.1\nHost: ABCDEFGHIJKLMNOPQRST.LOCALHOST.\n\n", 404, "session_unknown"),
        ("GET / HTTP/1.1\n\n", 400, "bad_request"),
        ("GET / HTTP/1.1\nHost: a.localhost\nHost: b.localhost\n\n", 400, "bad_request"),
        (
            "GET / HTTP/1.1\nHost: abcdefghijklmnopqrst.localhost\nHost: abcdefghijklmnopqrst.localhost\n\n",
            400,
            "bad_request",
        ),
        ("GET / HTTP/1.1\nHost: a b\n\n", 400, "bad_request"),
        ("GET / HTTP/1.1\nHost: user@abcdefghijklmnopqrst.localhost\n\n", 400, "bad_request"),
    ];
    for (request, status, code) in refused {
        let request = request.replacen("\n\n", "\nConnection: close\n\n", 1);
        let raw = send(&world, &request).await;
        assert!(
            raw.status == *status && raw.has_code(code),
            "{request:?} must be {status} {code}: {}",
            raw.text
        );
        assert_eq!(raw.answers(), 1, "{request:?}: {}", raw.text);
    }
}

async fn requests_with_two_meanings(world: World) {
    let session = world.spawn(GUEST).await;
    session.serves("/").await;
    let host = session.authority();
    let smuggled = "GET /smuggled HTTP/1.1\nHost: h\n\n";
    for head in [
        "POST / HTTP/1.1\nHost: H\nContent-Length: 3\nTransfer-Encoding: chunked\n\n0\n\n",
        "POST / HTTP/1.1\nHost: H\nTransfer-Encoding: chunked\nContent-Length: 3\n\n0\n\n",
        "POST / HTTP/1.1\nHost: H\nContent-Length: 3\nContent-Length: 4\n\nabcd",
        "POST / HTTP/1.1\nHost: H\nContent-Length: -1\n\n",
        "POST / HTTP/1.1\nHost: H\nContent-Length: +1\n\na",
        "POST / HTTP/1.1\nHost: H\nContent-Length: 99999999999999999999\n\na",
        "POST / HTTP/1.1\nHost: H\nTransfer-Encoding: chunked, identity\n\n0\n\n",
        "POST / HTTP/1.1\nHost: H\nTransfer-Encoding: xchunked\n\n0\n\n",
        "POST / HTTP/1.1\nHost: H\nTransfer-Encoding: chunked\nTransfer-Encoding: identity\n\n0\n\n",
        "GET / HTTP/1.1\nHost: H\nContent-Length : 5\n\nabcde",
        "GET / HTTP/1.1\nHost: H\nX: a\n folded\n\n",
        "GET / HTTP/1.1\nHost: H\nBad Name: x\n\n",
        "GET / HTTP/9.9\nHost: H\n\n",
        "GET /a b HTTP/1.1\nHost: H\n\n",
        "\u{0}\u{0}\u{0}\n\n",
        "NOT HTTP AT ALL\n\n",
    ] {
        let request = format!("{}{smuggled}", head.replace("Host: H", &format!("Host: {host}")));
        let raw = send(&world, &request).await;
        assert!(raw.status == 0 || (400..=505).contains(&raw.status), "{head:?} was served: {}", raw.text);
        assert!(raw.closed, "{head:?} and the connection is used on: {}", raw.text);
        assert!(raw.answers() <= 1, "{head:?} was taken for two requests: {}", raw.text);
        assert!(!raw.text.contains("/smuggled"), "{head:?}: {}", raw.text);
    }
    let raw =
        send(&world, &format!("GET / HTTP/1.1\nHost: {host}\nX-Long: {}\n\n", "x".repeat(1 << 20))).await;
    assert!(raw.status == 0 || raw.status == 431 || raw.status == 400, "{}", raw.status);
    session.serves("/").await;
}

async fn errors_come_as_people_and_programs_want_them(world: World) {
    let session = world.spawn(GUEST).await;
    session.stop().await;
    session.ended("requested").await;
    let program = session.get("/").await.unwrap();
    program.is_problem(410, "session_ended");
    let browser = session.request(Method::GET, "/").header("accept", "text/html,*/*;q=0.8");
    let browser = bivouac_tests::world::Answer::to(browser).await.unwrap();
    assert_eq!(browser.status, 410);
    assert!(browser.header("content-type").starts_with("text/html"), "{browser:?}");
    assert!(browser.body.contains("session_ended"), "{browser:?}");
    assert_eq!(browser.header("cache-control"), "no-store", "{browser:?}");
    let socket = bivouac_tests::world::Socket::open(&session.authority(), "/ws").await;
    match socket {
        // Browsers tell pages nothing about a refused handshake: the code comes after an accepted one.
        Ok(mut socket) => assert_eq!(socket.closed().await.0, 4410),
        Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => assert_eq!(answer.status(), 410),
        Err(other) => panic!("{other}"),
    }
}

async fn our_own_headers_cannot_be_forged(world: World) {
    let session = world.spawn(GUEST).await;
    let request = session
        .request(Method::GET, "/")
        .header("X-Bivouac-Session", "forged")
        .header("x-bivouac-user", "forged")
        .header("X_Bivouac_Generation", "forged")
        .header("x-bivouac-anything", "forged")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-forwarded-proto", "https")
        .header("forwarded", "for=6.6.6.6")
        .header("connection", "x-secret, close")
        .header("x-secret", "hop by hop")
        .header("x-kept", "end to end");
    let echo = bivouac_tests::world::Answer::to(request).await.unwrap().json();
    let headers = &echo["headers"];
    assert!(!headers.to_string().contains("forged"), "{headers}");
    assert!(!headers.to_string().contains("6.6.6.6"), "{headers}");
    assert_eq!(headers["x-bivouac-session"][0], session.id);
    assert_eq!(headers["x-bivouac-generation"][0], "1");
    assert_eq!(headers["x-forwarded-for"][0], "127.0.0.1");
    assert_eq!(headers["x-forwarded-proto"][0], "http");
    assert_eq!(headers["x-forwarded-host"][0], session.authority());
    assert!(headers["x-secret"].is_null(), "{headers}");
    assert_eq!(headers["x-kept"][0], "end to end");
    assert!(headers["x-request-id"][0].is_string() && headers["traceparent"][0].is_string(), "{headers}");
}

async fn messages_pass_unharmed(world: World) {
    let session = world.spawn(GUEST).await;
    session.ready().await;
    let big = "0123456789abcdef".repeat(100_000);
    let posted = session.request(Method::POST, "/a%2Fb/../c?x=%20&y").body(big.clone()).send().await.unwrap();
    let echo: serde_json::Value = posted.json().await.unwrap();
    assert_eq!(echo["body"].as_str().map(str::len), Some(big.len()));
    for method in [Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
        let echo: serde_json::Value =
            session.request(method.clone(), "/m").send().await.unwrap().json().await.unwrap();
        assert_eq!(echo["method"], method.as_str());
    }
    let head = session.request(Method::HEAD, "/").send().await.unwrap();
    assert_eq!(head.status(), 200);
    let host = session.authority();
    let exact =
        send(&world, &format!("GET /a%2Fb/../c?x=%20&y HTTP/1.1\nHost: {host}\nConnection: close\n\n")).await;
    assert!(exact.text.contains("/a%2Fb/../c?x=%20&y"), "the path is passed on as it is: {}", exact.text);
    let two =
        format!("GET /1 HTTP/1.1\nHost: {host}\n\nGET /2 HTTP/1.1\nHost: {host}\nConnection: close\n\n");
    let pipelined = send(&world, &two).await;
    assert!(pipelined.text.contains("\"/1\"") && pipelined.text.contains("\"/2\""), "{}", pipelined.text);
    let old = send(&world, &format!("GET /old HTTP/1.0\nHost: {host}\n\n")).await;
    assert_eq!(old.status, 200, "{}", old.text);
    let mut socket = session.websocket().await;
    socket.echoes(&big).await;
}
