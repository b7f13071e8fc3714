//! The API over real sessions: the ledger in memory, backends as child processes of this test.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Request, StatusCode};
use bivouac_ledger::directory::MemoryDirectory;
use bivouac_ledger::memory::MemoryLedger;
use bivouac_protocol::member::Member;
use futures::StreamExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::backend::process::{ProcessBackend, Settings as ProcessSettings};
use crate::session::{Prober, SessionService, Settings};
use crate::spec::template::Mode;

/// Not a test but a backend: the templates below run this very program with its name.
#[test]
#[ignore = "a backend for the other tests"]
fn a_backend_that_listens() {
    let Some(port) = std::env::var("PORT").ok().and_then(|port| port.parse().ok()) else { return };
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    for connection in listener.incoming() {
        drop(connection);
    }
}

struct World {
    router: Router,
    control: Arc<Control>,
    _state: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let ledger = Arc::new(MemoryLedger::new());
        let settings = ProcessSettings { guard: Vec::new(), state_dir: state.path().join("runs") };
        let backend: Arc<dyn Backend> =
            Arc::new(ProcessBackend::new(settings, Arc::new(MemoryDirectory::default())).unwrap());
        let templates = Arc::new(templates());
        let mut registry = Registry::default();
        let counted = Arc::new(crate::Metrics::register(&mut registry));
        let service = SessionService::new(
            ledger.clone(),
            Arc::clone(&backend),
            Arc::clone(&templates),
            Settings {
                session_url: "http://localhost:7080".parse().unwrap(),
                claim_timeout: Duration::from_secs(5),
                retention: (jiff::SignedDuration::from_hours(1), jiff::SignedDuration::from_hours(1)),
                presume_dead_after: None,
                failpoints: crate::Failpoints::default(),
            },
            Arc::clone(&counted),
            prober(),
            "replica".to_owned(),
        );
        let control = Arc::new(Control {
            sessions: service.handle(),
            templates,
            members: Members::new(ledger.clone()),
            backend,
            tokens: Arc::new(Tokens::new(Bootstrap::of_tokens(&["token".to_owned().into()]), ledger.clone())),
            secret: "cluster".to_owned().into(),
            issuer: Arc::new(Issuer::new(
                crate::tickets::TicketSecrets::of_secret(&"ticket".repeat(6).into()).unwrap(),
                ledger.clone(),
            )),
            metrics: Arc::new(registry),
            followers: Followers::new(counted.log_followers.clone()),
            counted,
            shutdown: CancellationToken::new(),
        });
        tokio::spawn(service.run(control.shutdown.clone()));
        let perimeter = Perimeter::new(
            Ipv4Addr::LOCALHOST.into(),
            &[],
            &[HeaderValue::from_static("https://app.example")],
        );
        let router = router(Arc::clone(&control), perimeter);
        Self { router, control, _state: state }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let json = serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into());
        Answer { status: parts.status, headers: parts.headers, json }
    }

    async fn call(&self, method: &str, path: &str) -> Answer {
        self.send(request(method, path).body(Body::empty()).unwrap()).await
    }

    async fn spawn(&self, query: &str, body: &Value) -> Answer {
        let request =
            request("POST", &format!("/v1/spawn{query}")).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }
}

fn prober() -> Prober {
    static PROVIDER: std::sync::Once = std::sync::Once::new();
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    Prober::new().unwrap()
}

struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    json: Value,
}

impl Answer {
    #[track_caller]
    fn is_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.json["code"].as_str()), (status, Some(code)), "{}", self.json);
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(self.json["status"], status);
        assert_eq!(self.json["request_id"], self.headers["x-request-id"].to_str().unwrap());
        assert!(self.json["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{}", self.json);
    }
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1:7070")
        .header("authorization", "Bearer token")
}

fn templates() -> Templates {
    let program = std::env::current_exe().unwrap();
    let mut templates = Templates::default();
    let mut add = |name: &str, command: &[&str], more: &str| {
        let toml =
            format!("access = \"public\"\n{more}\n[ports.http]\n[process]\ncommand = {}", json!(command));
        templates.insert(Templates::from_embedded(name, &toml, None, &[], Mode::Processes).unwrap());
    };
    let listen = [program.to_str().unwrap(), "--ignored", "--exact", "api::tests::a_backend_that_listens"];
    add("board", &listen, "");
    add("plot", &listen, "");
    add("loud", &["/bin/sh", "-c", "echo the password is sesame; exit 3"], "startup_timeout = \"20s\"");
    add("broken", &["/bin/false"], "startup_timeout = \"20s\"");
    templates.insert(
        Templates::from_embedded("none", "access = \"public\"\n[ports.http]", None, &[], Mode::Processes)
            .unwrap(),
    );
    templates
}

#[tokio::test]
async fn a_session_is_spawned_found_listed_and_stopped() {
    let world = World::new();
    let body = json!({"template": "board", "key": "a/b:c", "labels": {"team": "x"}});
    let spawned = world.spawn("?wait=ready", &body).await;
    assert_eq!(spawned.status, 201, "{}", spawned.json);
    assert_eq!((&spawned.json["state"], &spawned.json["spawned"]), (&json!("ready"), &json!(true)));
    assert_eq!(spawned.json["ticket"], Value::Null);
    let id = spawned.json["id"].as_str().unwrap().to_owned();
    assert_eq!(spawned.headers[header::LOCATION], format!("/v1/sessions/{id}"));

    let again = world.spawn("?wait=ready", &body).await;
    assert_eq!(
        (again.status.as_u16(), &again.json["spawned"], &again.json["id"]),
        (200, &json!(false), &json!(id))
    );
    world
        .spawn("", &json!({"template": "broken", "key": "a/b:c"}))
        .await
        .is_problem(409, "template_mismatch");

    for path in
        [format!("/v1/sessions/{id}"), "/v1/keys/default/a/b:c".into(), "/v1/keys/default/a%2Fb:c".into()]
    {
        let found = world.call("GET", &path).await;
        assert_eq!((found.status.as_u16(), &found.json["id"]), (200, &json!(id)), "{path}");
    }
    for (query, count) in
        [("", 1), ("?state=ready&label=team=x&template=board", 1), ("?state=ended", 0), ("?label=team=y", 0)]
    {
        let list = world.call("GET", &format!("/v1/sessions{query}")).await;
        assert_eq!(list.json["sessions"].as_array().map(Vec::len), Some(count), "{query}: {}", list.json);
    }
    let stopped = world.call("DELETE", &format!("/v1/sessions/{id}?force=true")).await;
    assert_eq!((stopped.status.as_u16(), &stopped.json["reason"]["code"]), (200, &json!("requested")));
    let mut watch = world.control.sessions.watch(&id.parse().unwrap()).unwrap();
    watch.wait_for(|view| view.state == crate::session::view::State::Ended).await.unwrap();
    let next = world.spawn("?wait=ready", &body).await;
    assert_eq!(
        (next.status.as_u16(), &next.json["generation"], &next.json["id"]),
        (201, &json!(2), &json!(id))
    );
}

#[tokio::test]
async fn a_start_that_fails_is_told_with_its_reason() {
    let world = World::new();
    let failed = world.spawn("?wait=ready", &json!({"template": "broken"})).await;
    failed.is_problem(502, "start_failed");
    assert_eq!(failed.json["reason"]["code"], "start_failed", "{}", failed.json);
    assert!(failed.json["session"].is_string());
}

#[tokio::test]
async fn pages_go_on_where_the_last_one_ended() {
    let world = World::new();
    for n in 0..5 {
        world.spawn("", &json!({"template": "board", "key": format!("k{n}")})).await;
    }
    let (mut seen, mut path) = (Vec::new(), "/v1/sessions?limit=2".to_owned());
    loop {
        let page = world.call("GET", &path).await.json;
        seen.extend(
            page["sessions"]
                .as_array()
                .unwrap()
                .iter()
                .map(|session| session["key"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/sessions?limit=2&after={}", next.replace('+', "%2B"));
    }
    assert_eq!(seen, ["k4", "k3", "k2", "k1", "k0"]);
}

#[tokio::test]
async fn events_begin_with_a_snapshot_and_go_on_with_changes() {
    let world = World::new();
    let spawned = world.spawn("?wait=ready", &json!({"template": "board", "key": "k"})).await;
    let id = spawned.json["id"].as_str().unwrap().to_owned();
    for (path, first) in
        [("/v1/events".to_owned(), "snapshot"), (format!("/v1/sessions/{id}/events"), "reset")]
    {
        let mut builder = request("GET", &path);
        if first == "reset" {
            builder = builder.header("last-event-id", "17");
        }
        let response = world.router.clone().oneshot(builder.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        let mut chunks = response.into_body().into_data_stream();
        let mut next = async || String::from_utf8(chunks.next().await.unwrap().unwrap().to_vec()).unwrap();
        if first == "reset" {
            assert!(next().await.contains("event: reset"));
        }
        let snapshot = next().await;
        assert!(
            snapshot.contains("event: snapshot") && snapshot.contains(&id) && snapshot.contains("id: "),
            "{snapshot}"
        );
        world.call("DELETE", &format!("/v1/sessions/{id}")).await;
        if first == "snapshot" {
            let change = next().await;
            assert!(change.contains("event: session") && change.contains("requested"), "{change}");
        } else {
            world.control.shutdown.cancel();
            while chunks.next().await.is_some() {}
        }
    }
}

#[tokio::test]
async fn bad_requests_get_one_clear_problem_each() {
    let world = World::new();
    let hostile = "k".repeat(5000);
    for (method, path, status, code) in [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/spawn", 405, "method_not_allowed"),
        ("POST", "/livez", 405, "method_not_allowed"),
        ("POST", "/v1/spawn", 415, "not_json"),
        ("GET", "/v1/sessions/short", 404, "session_unknown"),
        ("GET", "/v1/sessions/%ff", 404, "session_unknown"),
        ("GET", "/v1/sessions/aaaaaaaaaaaaaaaaaaaa", 404, "session_unknown"),
        ("DELETE", "/v1/sessions/aaaaaaaaaaaaaaaaaaaa", 404, "session_unknown"),
        ("GET", "/v1/sessions/aaaaaaaaaaaaaaaaaaaa/events", 404, "session_unknown"),
        ("DELETE", "/v1/sessions/aaaaaaaaaaaaaaaaaaaa?abandon=true", 404, "session_unknown"),
        ("GET", "/v1/keys/default/nobody", 404, "session_unknown"),
        ("GET", "/v1/keys/default/..%2F..", 422, "invalid_field"),
        ("GET", "/v1/keys/default/a%00b", 422, "invalid_field"),
        ("GET", "/v1/keys/default/%ff", 422, "invalid_field"),
        ("GET", &format!("/v1/keys/default/{hostile}"), 422, "invalid_field"),
        ("GET", "/v1/keys/Default/x", 422, "invalid_field"),
        ("GET", "/v1/sessions?limit=0", 422, "invalid_field"),
        ("GET", "/v1/sessions?limit=1&limit=2", 422, "invalid_field"),
        ("GET", "/v1/sessions?state=dead", 422, "invalid_field"),
        ("GET", "/v1/sessions?after=x", 422, "invalid_field"),
        ("GET", "/v1/sessions?colour=x", 422, "unknown_field"),
        ("DELETE", "/v1/members/nobody", 404, "not_found"),
    ] {
        let answer = world.call(method, path).await;
        answer.is_problem(status, code);
        if status == 405 {
            assert!(answer.headers.contains_key(header::ALLOW), "{path}");
        }
    }
    for (query, body, status, code) in [
        ("", "{", 400, "invalid_json"),
        ("", r#"{"template": "nope"}"#, 404, "unknown_template"),
        ("", r#"{"template": "none"}"#, 409, "template_disabled"),
        ("", r#"{"template": "board", "x": 1}"#, 422, "unknown_field"),
        ("", r#"{"template": 1}"#, 422, "invalid_field"),
        ("", r#"{"template": "board", "claims": []}"#, 422, "invalid_field"),
        ("?wait=forever", r#"{"template": "board"}"#, 422, "invalid_field"),
        ("", &" ".repeat(64 * 1024 + 1), 413, "body_too_large"),
    ] {
        let spawn = request("POST", &format!("/v1/spawn{query}"))
            .header(header::CONTENT_TYPE, "application/json; charset=utf-8");
        world.send(spawn.body(Body::from(body.to_owned())).unwrap()).await.is_problem(status, code);
    }
    for (key, body) in [("a b", r#"{"template": "board"}"#), ("x", r#"{"template": "board", "key": "k"}"#)] {
        let spawn = request("POST", "/v1/spawn")
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", key);
        world.send(spawn.body(Body::from(body)).unwrap()).await.is_problem(422, "invalid_field");
    }
    assert!(world.control.sessions.list().is_empty(), "nothing half-made stays behind");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_has_a_deadline_as_a_whole() {
    let world = World::new();
    let drops = futures::stream::iter(std::iter::repeat_n(b" ", 60)).then(async |drop| {
        tokio::time::sleep(std::time::Duration::from_millis(900)).await;
        Ok::<_, std::io::Error>(axum::body::Bytes::from_static(drop))
    });
    let spawn = request("POST", "/v1/spawn").header(header::CONTENT_TYPE, "application/json");
    let answer = world.send(spawn.body(Body::from_stream(drops)).unwrap()).await;
    answer.is_problem(408, "request_timeout");
    assert_eq!(answer.headers[header::CONNECTION], "close");
}

#[tokio::test]
async fn only_callers_with_the_token_from_the_right_place_pass() {
    let world = World::new();
    let plain =
        |host: &str, path: &str| Request::builder().uri(path.to_owned()).header("host", host.to_owned());
    let send = |builder: axum::http::request::Builder| world.send(builder.body(Body::empty()).unwrap());
    for path in ["/v1/sessions", "/v1/nothing", "/v1/members"] {
        let answer = send(plain("localhost", path)).await;
        answer.is_problem(401, "unauthenticated");
        assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer");
        send(plain("localhost", path).header("authorization", "Bearer nope"))
            .await
            .is_problem(401, "unauthenticated");
        send(plain("localhost", path).header("authorization", "Basic token"))
            .await
            .is_problem(401, "unauthenticated");
    }
    send(plain("evil.example", "/livez")).await.is_problem(421, "host_not_allowed");
    for origin in ["http://evil.example", "http://aaaaaaaaaaaaaaaaaaaa.localhost:7080", "null"] {
        let foreign = request("POST", "/v1/spawn").header("origin", origin);
        world.send(foreign.body(Body::empty()).unwrap()).await.is_problem(403, "forbidden_origin");
    }
    let listed = send(request("GET", "/v1/templates").header("origin", "https://app.example")).await;
    assert_eq!(listed.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example");
    let preflight = plain("localhost", "/v1/spawn")
        .method("OPTIONS")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST");
    assert_eq!(send(preflight).await.status, 200);
    let kept = send(request("GET", "/v1/nothing").header("x-request-id", "abc-1")).await;
    assert_eq!(kept.json["request_id"], "abc-1");
    let replaced = send(request("GET", "/v1/nothing").header("x-request-id", "a b\"c")).await;
    assert_ne!(replaced.json["request_id"], "a b\"c");
}

#[tokio::test]
async fn operators_see_templates_members_and_health() {
    let world = World::new();
    let templates = world.call("GET", "/v1/templates").await.json;
    let none = templates["templates"].as_array().unwrap().iter().find(|t| t["name"] == "none").unwrap();
    assert_eq!(none["enabled"], false);
    assert!(none["problem"].as_str().unwrap().contains("[process]"));

    let member = Member {
        boot: "boot1".parse().unwrap(),
        host: "h".to_owned(),
        listen: "127.0.0.1:7080".to_owned(),
        pid: 1,
        allocation: None,
        session: None,
        vouched_at: None,
        draining_since: None,
        joined_at: jiff::Timestamp::UNIX_EPOCH,
        version: "0".to_owned(),
    };
    world.control.members.join(&member, &[], jiff::Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(world.call("GET", "/v1/members").await.json["members"][0]["boot"], "boot1");
    assert_eq!(world.call("DELETE", "/v1/members/boot1").await.status, 204);
    assert_eq!(world.call("GET", "/v1/members").await.json, json!({"members": []}));

    assert_eq!(world.call("GET", "/livez").await.status, 200);
    let ready = world.call("GET", "/readyz").await;
    assert_eq!(ready.status, 200, "{}", ready.json);
    let check =
        ready.json["checks"].as_array().unwrap().iter().find(|check| check["name"] == "templates").unwrap();
    assert!(check["ok"] == false && check["detail"].as_str().unwrap().contains("none"), "{check}");
    let metrics = world.call("GET", "/metrics").await;
    assert!(metrics.json.as_str().unwrap().contains("bivouac_spawns_total"), "{}", metrics.json);
    world.control.shutdown.cancel();
    assert_eq!(world.call("GET", "/readyz").await.status, 503);
}

mod scope;
mod tickets;
mod tokens;
