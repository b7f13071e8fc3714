//! HTTP/2: from clients with prior knowledge, to backends whose template says `protocol = "h2c"`, and both together.

mod caller;
mod socket;

use std::time::Duration;

use bivouac_tests::world::{Answer, GUEST, GUEST_JOB, Session, Setup};
use bivouac_tests::{World, eventually};
use caller::Caller;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);
/// The template of a backend that speaks HTTP/2 alone.
const GRPC: &str = "grpc";

everywhere!(
    h2_and_h1_clients_see_the_same_session,
    a_hundred_streams_wait_for_one_start_and_one_leaves,
    a_reset_ends_its_use_at_once,
    fields_survive_without_a_case_map,
    streams_of_two_sessions_on_one_connection_never_meet,
    a_websocket_over_h2,
);

async fn h2_and_h1_clients_see_the_same_session(world: World) {
    let session = world.spawn(GUEST).await;
    let caller = Caller::of(&world).await;
    let by_h2 = caller.get(&session, "/which?x=1").await;
    let by_h1 = session.serves("/which?x=1").await.json();
    let told = by_h2.json();
    assert_eq!(by_h2.status, StatusCode::OK);
    assert_eq!((&told["pid"], &told["uri"]), (&by_h1["pid"], &by_h1["uri"]));
    assert_eq!(told["headers"]["host"][0], session.authority());
    assert_eq!(told["headers"]["x-forwarded-host"][0], session.authority());
    assert_eq!(told["headers"]["x-bivouac-session"][0], session.id);

    let posted = caller.post(&session, "/", "a body of no announced length").await.json();
    assert_eq!(
        (&posted["method"], &posted["body"]),
        (&"POST".into(), &"a body of no announced length".into())
    );
    let empty = caller.call(&session, "HEAD", "/").await;
    assert!(empty.status == StatusCode::OK && empty.body.is_empty());

    let unknown = caller.at(&world, "abcdefghijklmnopqrst", "/").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(unknown.json()["code"], "session_unknown");
}

async fn a_hundred_streams_wait_for_one_start_and_one_leaves(world: World) {
    let session = world.spawn(GUEST).env("GUEST_START_MS", "2000").startup_timeout("60s").await;
    let caller = Caller::of(&world).await;
    let mut waiting = Vec::new();
    for _ in 0..99 {
        waiting.push(caller.begin(&session, "GET", "/", HeaderMap::new(), true).await);
    }
    let leaves = caller.begin(&session, "GET", "/", HeaderMap::new(), true).await;
    holding(&world, 100).await;
    // Dropped without an answer, a request is taken back.
    drop(leaves);
    holding(&world, 99).await;
    let mut backends = std::collections::BTreeSet::new();
    for call in waiting {
        let whole = call.whole().await.expect("an answer");
        assert_eq!(whole.status, StatusCode::OK, "{}", whole.text());
        backends.insert(whole.json()["pid"].to_string());
    }
    assert_eq!(backends.len(), 1, "{backends:?}");
    session.never_doubled();
}

async fn holding(world: &World, requests: u64) {
    eventually(format!("{requests} requests wait"), SOON, async || {
        let admin =
            if world.is_embedded() { world.dev().ready() } else { world.proxy(0).process.ready() }.admin;
        let metrics = format!("{}/metrics", admin.expect("an admin listener"));
        let metrics = Answer::to(world.http().get(metrics)).await?.body;
        let held = metrics.lines().find(|line| line.starts_with("bivouac_proxy_holds ")).unwrap_or_default();
        if held == format!("bivouac_proxy_holds {requests}") { Ok(()) } else { Err(held.to_owned()) }
    })
    .await;
}

/// Waits until some proxy has said that a request is open.
async fn is_in_use(session: &Session) {
    eventually("it is in use", SOON, async || {
        let alive = session.try_view().await?["alive"].clone();
        let proxies = alive["proxies"].as_array().map(Vec::as_slice).unwrap_or_default();
        if proxies.iter().any(|proxy| proxy["open"] == 1) { Ok(()) } else { Err(alive.to_string()) }
    })
    .await;
}

async fn a_reset_ends_its_use_at_once(world: World) {
    let session = world.spawn(GUEST).idle_timeout("1s").await;
    session.ready().await;
    let caller = Caller::of(&world).await;
    let call = caller.begin(&session, "GET", "/slow?ms=600000", HeaderMap::new(), true).await;
    is_in_use(&session).await;
    drop(call);
    session.ended("idle").await;
}

async fn fields_survive_without_a_case_map(world: World) {
    let session = world.spawn(GUEST).await;
    let caller = Caller::of(&world).await;
    let mut fields = HeaderMap::new();
    for n in 0..20 {
        let name = http::HeaderName::from_bytes(format!("x-field-{n}").as_bytes()).unwrap();
        fields.append(name, HeaderValue::from_str(&n.to_string()).unwrap());
    }
    for crumb in ["a=1", "bivouac=ours", "b=2; c=3"] {
        fields.append("cookie", HeaderValue::from_static(crumb));
    }
    fields.append("x-bivouac-user", HeaderValue::from_static("forged"));
    let told = caller.begin(&session, "GET", "/", fields, true).await.whole().await.unwrap().json();
    for n in 0..20 {
        assert_eq!(told["headers"][format!("x-field-{n}")][0], n.to_string());
    }
    assert_eq!(told["headers"]["cookie"], serde_json::json!(["a=1; b=2; c=3"]));
    assert_eq!(told["headers"]["x-bivouac-user"], Value::Null);
}

async fn streams_of_two_sessions_on_one_connection_never_meet(world: World) {
    let (one, other) = (world.spawn(GUEST).await, world.spawn(GUEST).await);
    let caller = Caller::of(&world).await;
    let mut calls = Vec::new();
    for n in 0..60 {
        let session = if n % 2 == 0 { &one } else { &other };
        calls.push((session.id.clone(), caller.begin(session, "GET", "/", HeaderMap::new(), true).await));
    }
    for (id, call) in calls {
        let told = call.whole().await.unwrap().json();
        assert_eq!(told["session"], id);
        assert_eq!(told["headers"]["x-bivouac-session"][0], id);
    }
}

async fn a_websocket_over_h2(world: World) {
    let session = world.spawn(GUEST).idle_timeout("2s").await;
    session.ready().await;
    let caller = Caller::of(&world).await;
    let mut socket = caller.websocket(&session, "/ws").await.expect("a WebSocket");
    socket.echoes("over a stream of its own").await;
    socket.echoes(&"much ".repeat(50_000)).await;
    // Requests beside it are not in its way.
    assert_eq!(caller.get(&session, "/").await.status, StatusCode::OK);
    let refused = caller.websocket(&session, "/none").await.expect_err("the backend grants none there");
    assert_eq!(refused.status, StatusCode::OK);
    assert_eq!(refused.json()["headers"]["upgrade"][0], "websocket", "it was asked for one");

    let stopped = tokio::spawn({
        let session = session.clone();
        async move { session.stop().await }
    });
    assert_eq!(socket.closed().await, Some((1001, "requested".to_owned())));
    stopped.await.unwrap();
}

/// A world with the template of a backend that speaks HTTP/2 alone.
fn with_grpc(setup: Setup) -> Setup {
    const POLICY: &str = r#"description = "A backend with the shape of gRPC"
access = "public"
idle_timeout = { default = "10s", min = "500ms", max = "10m" }
startup_timeout = { default = "60s", min = "1s", max = "10m" }
stop_grace = "2s"
allow = ["env"]

[params.text]
default = ""

[ports.http]
protocol = "h2c"
ready_path = "/healthz"
"#;
    setup.template(GRPC, POLICY, GUEST_JOB)
}

async fn grpc_session(world: &World) -> Session {
    let session = world.spawn(GRPC).env("GUEST_MODE", "grpc").await;
    session.ready().await;
    session
}

mod grpc {
    use super::*;

    #[test]
    fn shaped_calls_keep_their_trailers() {
        with_grpc(World::embedded()).run(calls_keep_their_trailers);
    }

    #[test]
    fn shaped_calls_keep_their_trailers_in_a_cluster() {
        with_grpc(World::cluster()).run(calls_keep_their_trailers);
    }

    #[test]
    fn h1_clients_reach_an_h2_backend() {
        with_grpc(World::embedded()).run(by_h1);
    }

    #[test]
    fn a_backend_that_leaves_fails_nobody() {
        with_grpc(World::embedded()).run(announced_ends);
    }
}

async fn calls_keep_their_trailers(world: World) {
    let session = grpc_session(&world).await;
    let caller = Caller::of(&world).await;
    let mut fields = HeaderMap::new();
    fields.insert("te", HeaderValue::from_static("trailers"));
    fields.insert("content-type", HeaderValue::from_static("application/grpc"));

    let mut call = caller.begin(&session, "POST", "/unary", fields.clone(), false).await;
    let message: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[0]).collect();
    call.send(&message).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("abc"));
    trailers.insert("x-bivouac-user", HeaderValue::from_static("forged"));
    call.end_with(trailers);
    let whole = call.whole().await.unwrap();
    assert_eq!(whole.fields["content-type"], "application/grpc");
    assert!(whole.body == message, "{} bytes came back", whole.body.len());
    let trailers = whole.trailers.expect("trailers");
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["grpc-message"], "fine");
    assert_eq!(trailers["came-x-checksum"], "abc");
    for forged in ["x-bivouac-user", "set-cookie", "came-x-bivouac-user"] {
        assert!(!trailers.contains_key(forged), "{trailers:?}");
    }

    let mut call = caller.begin(&session, "POST", "/bidi", fields.clone(), false).await;
    for n in 0..20 {
        let message = format!("message {n}");
        call.send(message.as_bytes()).await;
        assert_eq!(call.piece().await.unwrap().as_deref(), Some(message.as_bytes()));
    }
    call.end();
    assert_eq!(call.whole().await.unwrap().trailers.expect("trailers")["grpc-status"], "0");

    let refused = caller.begin(&session, "POST", "/none", fields, true).await.whole().await.unwrap();
    assert_eq!(refused.fields["grpc-status"], "5");
    assert!(refused.ended_with_head, "a failure that is told in the head alone stays so");

    early_answers_and_hints(&session, &caller).await;
    let broken = caller.begin(&session, "GET", "/breaks", HeaderMap::new(), true).await.whole().await;
    assert!(broken.is_err(), "half an answer must not look whole: {broken:?}");
}

async fn early_answers_and_hints(session: &Session, caller: &Caller) {
    let mut call = caller.begin(session, "POST", "/early", HeaderMap::new(), false).await;
    call.send(b"the beginning of a long body").await;
    let early = call.whole().await.unwrap();
    assert_eq!((early.status, early.text().as_str()), (StatusCode::OK, "early"));

    let hinted = caller.get(session, "/hints").await;
    assert_eq!(hinted.interim, [103]);
    assert_eq!(hinted.text(), "hinted");
}

async fn by_h1(world: World) {
    let session = grpc_session(&world).await;
    let told = session.serves("/some/path?x=y").await.json();
    assert_eq!(told["path"], "/some/path?x=y");
    assert_eq!(told["authority"], session.authority());
    assert_eq!((&told["scheme"], &told["ended_with_head"]), (&"http".into(), &true.into()));
    let fields = told["fields"].as_array().unwrap();
    let value = |name: &str| fields.iter().find(|field| field[0] == name).map(|field| field[1].clone());
    assert_eq!(value("x-bivouac-session"), Some(session.id.as_str().into()));
    assert_eq!((value("connection"), value("te")), (None, None));

    let posted = session.request(reqwest::Method::POST, "/a").body("from HTTP/1.1").send().await.unwrap();
    let posted: Value = posted.json().await.unwrap();
    assert_eq!(posted["body"], "from HTTP/1.1");
    // A WebSocket cannot be had of a port that speaks HTTP/2 only.
    assert!(bivouac_tests::world::Socket::open(&session.authority(), "/ws").await.is_err());
}

async fn announced_ends(world: World) {
    let session = grpc_session(&world).await;
    let caller = Caller::of(&world).await;
    for _ in 0..10 {
        for path in ["/leave", "/a", "/b"] {
            let whole = caller.post(&session, path, "body").await;
            assert_eq!(whole.status, StatusCode::OK, "{path}: {}", whole.text());
        }
    }
}

#[test]
fn over_tls_the_protocol_is_agreed_on() {
    let folder = tempfile::tempdir().unwrap();
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let [certificate, key] = ["proxy.pem", "proxy.key"].map(|name| folder.path().join(name));
    std::fs::write(&certificate, issued.cert.pem()).unwrap();
    std::fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
    World::embedded()
        .proxy_flag("listen-tls", "127.0.0.1:0")
        .proxy_flag("tls-cert", &certificate.to_string_lossy())
        .proxy_flag("tls-key", &key.to_string_lossy())
        .run(async |world| {
            let session = world.spawn(GUEST).await;
            let caller = Caller::with_tls(&world, issued.cert.der().clone()).await;
            let told = caller.get(&session, "/").await.json();
            assert_eq!(told["headers"]["x-forwarded-proto"][0], "https");
            caller.websocket(&session, "/ws").await.expect("a WebSocket").echoes("through TLS").await;
        });
}

#[test]
fn a_drain_says_goaway_and_finishes_streams() {
    World::cluster().proxies(2).proxy_flag("drain-timeout", "30s").run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("30s").await;
        session.ready().await;
        let caller = Caller::of(&world).await;
        let call = caller.begin(&session, "GET", "/slow?ms=4000", HeaderMap::new(), true).await;
        is_in_use(&session).await;
        let proxy = world.proxy(0);
        let (ended, ()) = tokio::join!(proxy.process.terminate(), async {
            caller.is_told_to_leave().await;
            let whole = call.whole().await.expect("what runs is finished");
            assert_eq!(whole.text(), "slow");
        });
        assert!(ended.success());
        assert!(caller.is_closed_cleanly().await);
        session.via(1).serves("/").await;
    });
}
