//! Bad input to the API: one clear error with a code each, and nothing half-made stays behind.

use bivouac_tests::World;
use bivouac_tests::world::{Answer, GUEST, PROBED, Raw};
use reqwest::Method;
use serde_json::{Value, json};

everywhere!(
    spawns_that_are_refused,
    bodies_that_are_no_request,
    a_body_that_does_not_arrive,
    callers_that_are_not_let_in,
    a_key_belongs_to_its_template,
    things_that_do_not_exist,
    health_needs_no_token,
    events_tell_the_story,
    lists_are_filtered,
);

async fn spawn(world: &World, body: &Value) -> Answer {
    Answer::to(world.call(Method::POST, "/v1/spawn").json(body)).await.expect("an answer")
}

/// Nothing of a refused spawn can be seen anywhere.
async fn is_empty(world: &World) {
    assert_eq!(world.sessions().await.unwrap(), Vec::<Value>::new());
    if !world.is_embedded() {
        assert_eq!(world.keys("sessions/").await.unwrap(), Vec::<String>::new());
        assert_eq!(world.jobs().await.unwrap(), Vec::<Value>::new());
    }
}

async fn spawns_that_are_refused(world: World) {
    let nested = |depth: usize| (0..depth).fold(json!("x"), |inner, _| json!([inner]));
    let long = "k".repeat(5000);
    let many: serde_json::Map<String, Value> = (0..5000).map(|n| (format!("L{n}"), json!("x"))).collect();
    let invalid: Vec<(&str, Value)> = vec![
        ("template", json!({ "template": 5 })),
        ("template", json!({})),
        ("key", json!({ "template": GUEST, "key": "" })),
        ("key", json!({ "template": GUEST, "key": "../.." })),
        ("key", json!({ "template": GUEST, "key": "a\u{0}b" })),
        ("key", json!({ "template": GUEST, "key": "${x}" })),
        ("key", json!({ "template": GUEST, "key": "%{x}" })),
        ("key", json!({ "template": GUEST, "key": "ünï" })),
        ("key", json!({ "template": GUEST, "key": long })),
        ("key", json!({ "template": GUEST, "key": ["a"] })),
        ("namespace", json!({ "template": GUEST, "namespace": "No_Label" })),
        ("idle_timeout", json!({ "template": GUEST, "idle_timeout": "0s" })),
        ("idle_timeout", json!({ "template": GUEST, "idle_timeout": "-5s" })),
        ("idle_timeout", json!({ "template": GUEST, "idle_timeout": "100ms" })),
        ("idle_timeout", json!({ "template": GUEST, "idle_timeout": "11m" })),
        ("idle_timeout", json!({ "template": GUEST, "idle_timeout": "1000000000000000000000h" })),
        ("idle_timeout", json!({ "template": GUEST, "idle_timeout": "soon" })),
        ("idle_timeout", json!({ "template": GUEST, "idle_timeout": 5 })),
        ("startup_timeout", json!({ "template": GUEST, "startup_timeout": "1h" })),
        ("max_lifetime", json!({ "template": GUEST, "max_lifetime": "2h" })),
        ("params", json!({ "template": GUEST, "params": { "nosuch": "x" } })),
        ("params", json!({ "template": GUEST, "params": { "short": "NOT-lower-case" } })),
        ("params", json!({ "template": GUEST, "params": { "text": 5 } })),
        ("params", json!({ "template": GUEST, "params": { "text": "a\u{0}b" } })),
        ("params", json!({ "template": GUEST, "params": nested(20) })),
        ("env", json!({ "template": GUEST, "env": { "PATH": "/tmp" } })),
        ("env", json!({ "template": GUEST, "env": { "LD_PRELOAD": "x" } })),
        ("env", json!({ "template": GUEST, "env": { "BIVOUAC_KEY": "x" } })),
        ("env", json!({ "template": GUEST, "env": { "A=B": "x" } })),
        ("env", json!({ "template": GUEST, "env": { "A": "x\u{0}y" } })),
        ("env", json!({ "template": GUEST, "env": "A=B" })),
        ("args", json!({ "template": GUEST, "args": "a" })),
        ("args", json!({ "template": GUEST, "args": ["a\u{0}b"] })),
        ("labels", json!({ "template": GUEST, "labels": { "a": 1 } })),
        ("labels", json!({ "template": GUEST, "labels": many })),
    ];
    for (field, body) in invalid {
        let answer = spawn(&world, &body).await;
        let shown: String = body.to_string().chars().take(200).collect();
        assert_eq!((answer.status, answer.code().as_str()), (422, "invalid_field"), "{shown}: {answer:?}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(field), "{shown}: the detail names {field}: {detail}");
        assert!(detail.len() < 1000, "{shown}: a detail that can be read: {detail}");
    }
    let unknown = spawn(&world, &json!({ "template": GUEST, "prams": {} })).await;
    unknown.is_problem(422, "unknown_field");
    assert!(unknown.json()["detail"].as_str().unwrap().contains("prams"), "{unknown:?}");
    spawn(&world, &json!({ "template": "nosuch" })).await.is_problem(404, "unknown_template");
    let forbidden = spawn(&world, &json!({ "template": GUEST, "image": "alpine" })).await;
    forbidden.is_problem(422, "invalid_field");
    is_empty(&world).await;
}

async fn bodies_that_are_no_request(world: World) {
    let send = async |body: String, kind: &str| {
        let call = world.call(Method::POST, "/v1/spawn").header("content-type", kind).body(body);
        Answer::to(call).await.expect("an answer")
    };
    send(String::new(), "application/json").await.is_problem(400, "invalid_json");
    send("{".to_owned(), "application/json").await.is_problem(400, "invalid_json");
    send("\u{0}".to_owned(), "application/json").await.is_problem(400, "invalid_json");
    let deep = "[".repeat(30_000);
    let answer = send(deep, "application/json").await;
    assert!(matches!(answer.status, 400 | 422), "{answer:?}");
    let deep = format!("{{\"template\":\"guest\",\"params\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    let answer = send(deep, "application/json").await;
    assert!(matches!(answer.status, 400 | 422), "{answer:?}");
    let large = |bytes: usize| format!("{{\"template\":\"{}\"}}", "x".repeat(bytes));
    send(large(200_000), "application/json").await.is_problem(413, "body_too_large");
    // Whoever goes on sending for long may find the connection closed before reading the answer.
    let call = world.call(Method::POST, "/v1/spawn").header("content-type", "application/json");
    if let Ok(answer) = Answer::to(call.body(large(64 << 20))).await {
        answer.is_problem(413, "body_too_large");
    }
    let body = json!({ "template": GUEST }).to_string();
    send(body.clone(), "text/plain").await.is_problem(415, "not_json");
    send(body.clone(), "application/x-www-form-urlencoded").await.is_problem(415, "not_json");
    let twice = "{\"template\":\"guest\",\"template\":\"guest\"}".to_owned();
    let answer = send(twice, "application/json").await;
    assert!(matches!(answer.status, 400 | 422), "{answer:?}");
    is_empty(&world).await;
    let answer = send(body, "application/json; charset=utf-8").await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

async fn a_body_that_does_not_arrive(world: World) {
    let url: url::Url = world.api_url().parse().unwrap();
    let head = format!(
        "POST /v1/spawn HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: 1000\r\n\r\n{{\"template\": \"gu",
        url.authority(),
        world.token()
    );
    let answer = Raw::send(url.port().unwrap(), head).await;
    assert_eq!((answer.status, answer.has_code("request_timeout")), (408, true), "{answer:?}");
    assert!(answer.closed, "what comes later is not the next request: {answer:?}");
    is_empty(&world).await;
}

async fn callers_that_are_not_let_in(world: World) {
    let body = json!({ "template": GUEST });
    let url = format!("{}/v1/spawn", world.api_url());
    let post = || world.http().post(&url).json(&body);
    let session = format!("http://abcdefghijklmnopqrst.localhost:{}", world.proxy_port(0));
    Answer::to(post()).await.unwrap().is_problem(401, "unauthenticated");
    for token in ["", "wrong", "Bearer", "\u{e9}"] {
        Answer::to(post().bearer_auth(token)).await.unwrap().is_problem(401, "unauthenticated");
    }
    Answer::to(post().basic_auth("a", Some(world.token()))).await.unwrap().is_problem(401, "unauthenticated");
    for origin in ["https://evil.example", session.as_str(), "null", "http://localhost.evil.example"] {
        let foreign = post().bearer_auth(world.token()).header("origin", origin);
        Answer::to(foreign).await.unwrap().is_problem(403, "forbidden_origin");
        let read = world.call(Method::GET, "/v1/sessions").header("origin", origin);
        Answer::to(read).await.unwrap().is_problem(403, "forbidden_origin");
        let preflight = world.http().request(Method::OPTIONS, &url).header("origin", origin);
        let preflight = preflight.header("access-control-request-method", "POST").send().await.unwrap();
        assert!(preflight.headers().get("access-control-allow-origin").is_none(), "{preflight:?}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example", "abcdefghijklmnopqrst.localhost"] {
        let rebound = post().bearer_auth(world.token()).header("host", host);
        Answer::to(rebound).await.unwrap().is_problem(421, "host_not_allowed");
    }
    is_empty(&world).await;
}

async fn a_key_belongs_to_its_template(world: World) {
    let session = world.spawn(GUEST).key("doc").await;
    let other = world.spawn(PROBED).key("doc").send().await.unwrap();
    other.is_problem(409, "template_mismatch");
    session.serves("/").await;
}

async fn things_that_do_not_exist(world: World) {
    let stranger = "abcdefghijklmnopqrst";
    for (method, path, status, code) in [
        (Method::GET, format!("/v1/sessions/{stranger}"), 404, "session_unknown"),
        (Method::DELETE, format!("/v1/sessions/{stranger}"), 404, "session_unknown"),
        (Method::GET, format!("/v1/sessions/{stranger}/events"), 404, "session_unknown"),
        (Method::GET, "/v1/sessions/..%2f..%2fleader".to_owned(), 404, "session_unknown"),
        (Method::GET, "/v1/sessions/UPPERCASE".to_owned(), 404, "session_unknown"),
        (Method::GET, "/v1/keys/default/nosuch".to_owned(), 404, "session_unknown"),
        (Method::GET, "/v1/nosuch".to_owned(), 404, "not_found"),
        (Method::GET, "/".to_owned(), 404, "not_found"),
        (Method::PUT, "/v1/spawn".to_owned(), 405, "method_not_allowed"),
    ] {
        let answer = Answer::to(world.call(method.clone(), &path)).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {path}: {answer:?}");
        answer.is_problem(status, code);
    }
}

async fn health_needs_no_token(world: World) {
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = Answer::to(world.http().get(format!("{}{path}", world.api_url()))).await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert!(!answer.body.contains(&world.token()), "{path} tells the token");
    }
    let templates = world.get("/v1/templates").await.unwrap().json();
    let names: Vec<&str> =
        templates["templates"].as_array().unwrap().iter().filter_map(|t| t["name"].as_str()).collect();
    assert!(names.contains(&GUEST), "{names:?}");
}

async fn events_tell_the_story(world: World) {
    let mut all = world.events("/v1/events").await;
    let (kind, snapshot) = all.next().await;
    assert_eq!((kind.as_str(), &snapshot["sessions"]), ("snapshot", &json!([])));
    let session = world.spawn(GUEST).idle_timeout("1s").await;
    let mut one = world.events(&format!("/v1/sessions/{}/events", session.id)).await;
    let (kind, first) = one.next().await;
    assert_eq!((kind.as_str(), &first["id"]), ("snapshot", &json!(session.id)));
    // On a slow machine it is ready before anybody listens to it alone.
    let seen = vec![first["state"].as_str().unwrap().to_owned()];
    for (events, mut states) in [(&mut all, Vec::new()), (&mut one, seen)] {
        while states.last().map(String::as_str) != Some("ended") {
            let (kind, view) = events.next().await;
            assert_eq!((kind.as_str(), &view["id"]), ("session", &json!(session.id)));
            states.push(view["state"].as_str().unwrap().to_owned());
        }
        states.dedup();
        assert!(states.contains(&"ready".to_owned()), "{states:?}");
    }
    let mut again = world.events_since("/v1/events", "some-other-replica:5").await;
    assert_eq!(again.next().await.0, "reset");
    let (kind, snapshot) = again.next().await;
    assert_eq!((kind.as_str(), &snapshot["sessions"][0]["state"]), ("snapshot", &json!("ended")));
}

async fn lists_are_filtered(world: World) {
    for n in 0..4 {
        let label = json!({ "room": format!("r{}", n % 2) });
        world.spawn(GUEST).key(&format!("k{n}")).field("labels", label).await;
    }
    world.spawn(PROBED).field("namespace", "other").await;
    for (query, wanted) in [
        ("", 5),
        ("template=guest", 4),
        ("template=guest-probed", 1),
        ("namespace=other", 1),
        ("key=k1", 1),
        ("label=room=r1", 2),
        ("label=room=r1&key=k0", 0),
        ("state=ended", 0),
    ] {
        let found = world.get(&format!("/v1/sessions?{query}")).await.unwrap().json();
        assert_eq!(found["sessions"].as_array().unwrap().len(), wanted, "{query}: {found}");
    }
    let mut seen = Vec::new();
    let mut path = "/v1/sessions?limit=2".to_owned();
    loop {
        let page = world.get(&path).await.unwrap().json();
        seen.extend(page["sessions"].as_array().unwrap().iter().map(|view| view["id"].to_string()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/sessions?limit=2&after={next}");
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 5);
    for query in ["state=nosuch", "limit=0", "limit=x", "label=x", "nosuch=1"] {
        let answer = world.get(&format!("/v1/sessions?{query}")).await.unwrap();
        assert!(matches!(answer.status, 400 | 422), "{query}: {answer:?}");
    }
}
