//! Who may do what: named tokens, asked for over the API.

use super::*;

impl World {
    pub(super) async fn with(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "127.0.0.1:7070")
            .header("authorization", format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json");
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.send(request.body(body).unwrap()).await
    }

    /// Makes a token and returns its text.
    pub(super) async fn token(&self, wanted: Value) -> String {
        let made = self.with("token", "POST", "/v1/tokens", Some(wanted)).await;
        assert_eq!(made.status, 201, "{}", made.json);
        made.json["token"].as_str().unwrap().to_owned()
    }
}

fn missing(answer: &Answer, part: &str, name: &str) {
    answer.is_problem(403, "forbidden");
    assert_eq!(answer.json["missing"][part], name, "{}", answer.json);
    assert!(answer.json["detail"].as_str().unwrap().contains(name), "{}", answer.json);
}

#[tokio::test]
async fn a_token_is_shown_once_listed_rotated_and_revoked() {
    let world = World::new();
    let made =
        world.with("token", "POST", "/v1/tokens", Some(json!({"name": "ci", "expires_in": "90d"}))).await;
    assert_eq!(made.status, 201, "{}", made.json);
    let first = made.json["token"].as_str().unwrap().to_owned();
    assert!(first.starts_with("bvk_ci_"));
    assert_eq!(made.json["verbs"], json!(["spawn", "read", "stop", "lease", "logs", "ticket"]));
    assert_eq!((&made.json["namespaces"], &made.json["created_by"]), (&json!(["*"]), &json!("bootstrap")));
    world
        .with("token", "POST", "/v1/tokens", Some(json!({"name": "ci"})))
        .await
        .is_problem(409, "token_exists");

    assert_eq!(world.with(&first, "GET", "/v1/sessions", None).await.status, 200);
    let me = world.with(&first, "GET", "/v1/caller", None).await;
    assert_eq!((&me.json["name"], me.json["expires_at"].is_string()), (&json!("ci"), true));
    let listed = world.call("GET", "/v1/tokens").await;
    assert_eq!(listed.json["tokens"][0]["name"], "ci");
    let secret = first.strip_prefix("bvk_ci_").unwrap();
    for shown in [&listed.json, &me.json] {
        let text = shown.to_string();
        assert!(!text.contains(secret) && !text.contains("digest"), "{text}");
    }

    let rotated = world.with("token", "POST", "/v1/tokens/ci/rotate", Some(json!({"overlap": "1h"}))).await;
    assert_eq!(rotated.status, 200, "{}", rotated.json);
    let second = rotated.json["token"].as_str().unwrap().to_owned();
    for token in [&first, &second] {
        assert_eq!(world.with(token, "GET", "/v1/sessions", None).await.status, 200);
    }
    let rotated = world.with("token", "POST", "/v1/tokens/ci/rotate", Some(json!({"overlap": "0s"}))).await;
    let third = rotated.json["token"].as_str().unwrap().to_owned();
    for token in [&first, &second] {
        world.with(token, "GET", "/v1/sessions", None).await.is_problem(401, "unauthenticated");
    }
    assert_eq!(world.with(&third, "GET", "/v1/sessions", None).await.status, 200);
    assert_eq!(world.call("DELETE", "/v1/tokens/ci").await.status, 204);
    world.with(&third, "GET", "/v1/sessions", None).await.is_problem(401, "unauthenticated");
    world.call("DELETE", "/v1/tokens/ci").await.is_problem(404, "not_found");
    assert_eq!(world.call("GET", "/v1/tokens").await.json, json!({"tokens": []}));
}

#[tokio::test]
async fn whatever_is_wrong_with_a_token_is_answered_alike() {
    let world = World::new();
    let good = world.token(json!({"name": "ci"})).await;
    let (short, wrong) = (&good[..good.len() - 1], format!("{}A", &good[..good.len() - 2]));
    let other = good.replace("bvk_ci_", "bvk_nobody_");
    let mut answers = Vec::new();
    for token in [short, &wrong, &format!("{wrong}A"), &other, "bvk_ci_", "bvk_../x_y", "nope"] {
        let answer = world.with(token, "GET", "/v1/sessions", None).await;
        answer.is_problem(401, "unauthenticated");
        let mut document = answer.json.clone();
        document["request_id"] = Value::Null;
        answers.push(document);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[tokio::test]
async fn a_scope_says_what_may_be_spawned_and_stopped() {
    let world = World::new();
    let wanted =
        json!({"name": "team", "namespaces": ["team-*"], "templates": ["board"], "verbs": ["spawn", "read"]});
    let token = world.token(wanted).await;
    let spawn = async |body: Value| world.with(&token, "POST", "/v1/spawn", Some(body)).await;
    let own = spawn(json!({"template": "board", "namespace": "team-a", "key": "k"})).await;
    assert_eq!((own.status.as_u16(), &own.json["spawned_by"]), (201, &json!("team")), "{}", own.json);
    missing(&spawn(json!({"template": "board", "key": "k"})).await, "namespace", "default");
    missing(&spawn(json!({"template": "broken", "namespace": "team-a"})).await, "template", "broken");
    // Whether a template out of its scope exists, and whether it works, is not told.
    missing(&spawn(json!({"template": "none", "namespace": "team-a"})).await, "template", "none");
    missing(&spawn(json!({"template": "nope", "namespace": "team-a"})).await, "template", "nope");
    spawn(json!({"template": "board", "namespace": "team-a", "x": 1})).await.is_problem(422, "unknown_field");

    let id = own.json["id"].as_str().unwrap();
    missing(&world.with(&token, "DELETE", &format!("/v1/sessions/{id}"), None).await, "verb", "stop");
    missing(&world.with(&token, "DELETE", "/v1/sessions/aaaaaaaaaaaaaaaaaaaa", None).await, "verb", "stop");
    missing(&world.with(&token, "GET", "/v1/members", None).await, "verb", "members");
    missing(&world.with(&token, "DELETE", "/v1/members/boot1", None).await, "verb", "members");
    missing(&world.with(&token, "GET", "/v1/tokens", None).await, "verb", "tokens");
    missing(&world.with(&token, "POST", "/v1/tokens", Some(json!({"name": "x"}))).await, "verb", "tokens");
    let templates = world.with(&token, "GET", "/v1/templates", None).await.json;
    assert_eq!(templates["templates"].as_array().unwrap().len(), 1, "{templates}");
}

#[tokio::test]
async fn sessions_out_of_scope_do_not_exist() {
    let world = World::new();
    let body =
        |template: &str, namespace: &str| json!({"template": template, "namespace": namespace, "key": "k"});
    let mut ids = Vec::new();
    for (template, namespace) in [("board", "team-a"), ("board", "other"), ("plot", "team-b")] {
        let spawned = world.spawn("", &body(template, namespace)).await;
        ids.push(spawned.json["id"].as_str().unwrap().to_owned());
    }
    let wanted = json!({"name": "team", "namespaces": ["team-*"], "templates": ["board"],
                        "verbs": ["spawn", "read", "stop", "lease"]});
    let token = world.token(wanted).await;
    let list = world.with(&token, "GET", "/v1/sessions", None).await.json;
    assert_eq!(list["sessions"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list["sessions"][0]["id"], json!(ids[0]));
    assert_eq!(world.with(&token, "GET", &format!("/v1/sessions/{}", ids[0]), None).await.status, 200);
    for id in &ids[1..] {
        for (method, path) in
            [("GET", ""), ("GET", "/events"), ("DELETE", ""), ("PUT", "/leases/x"), ("DELETE", "/leases/x")]
        {
            let lease = (method == "PUT").then(|| json!({"for": "10m"}));
            let answer = world.with(&token, method, &format!("/v1/sessions/{id}{path}"), lease).await;
            answer.is_problem(404, "session_unknown");
        }
        assert_ne!(world.call("GET", &format!("/v1/sessions/{id}")).await.json["state"], "stopping");
    }
    missing(&world.with(&token, "GET", "/v1/keys/other/k", None).await, "namespace", "other");
    world.with(&token, "GET", "/v1/keys/team-b/k", None).await.is_problem(404, "session_unknown");
    let taken = world.with(&token, "POST", "/v1/spawn", Some(body("board", "team-b"))).await;
    taken.is_problem(409, "template_mismatch");
    assert!(!taken.json.to_string().contains("plot"), "{}", taken.json);
}

#[tokio::test]
async fn events_are_of_the_scope_and_end_with_the_token() {
    let world = World::new();
    for namespace in ["mine", "theirs"] {
        world.spawn("", &json!({"template": "board", "namespace": namespace, "key": "before"})).await;
    }
    let token = world.token(json!({"name": "mine", "namespaces": ["mine"], "verbs": ["read"]})).await;
    let events = Request::builder()
        .uri("/v1/events")
        .header("host", "localhost")
        .header("authorization", format!("Bearer {token}"));
    let response = world.router.clone().oneshot(events.body(Body::empty()).unwrap()).await.unwrap();
    for namespace in ["theirs", "mine"] {
        world.spawn("", &json!({"template": "board", "namespace": namespace, "key": "after"})).await;
    }
    let mut chunks = response.into_body().into_data_stream();
    let mut seen = String::new();
    while !seen.contains("\"after\"") {
        seen.push_str(&String::from_utf8_lossy(&chunks.next().await.unwrap().unwrap()));
    }
    assert!(seen.contains("\"mine\"") && !seen.contains("theirs"), "{seen}");
    assert_eq!(world.call("DELETE", "/v1/tokens/mine").await.status, 204);
    let ended = async {
        while let Some(chunk) = chunks.next().await {
            let chunk = String::from_utf8(chunk.unwrap().to_vec()).unwrap();
            assert!(!chunk.contains("theirs"), "{chunk}");
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended).await.expect("the stream ends with the token");
}

#[tokio::test]
async fn nobody_makes_a_token_that_is_worth_more_than_their_own() {
    let world = World::new();
    let wanted = json!({"name": "lead", "namespaces": ["team-*"], "verbs": ["spawn", "read", "tokens"], "expires_in": "1h"});
    let lead = world.token(wanted).await;
    world.token(json!({"name": "root", "verbs": ["tokens"]})).await;
    world
        .token(json!({"name": "member", "namespaces": ["team-a"], "verbs": ["read"], "expires_in": "30m"}))
        .await;
    world.token(json!({"name": "lasting", "namespaces": ["team-a"], "verbs": ["read"]})).await;
    let make = async |wanted: Value| world.with(&lead, "POST", "/v1/tokens", Some(wanted)).await;

    let made = make(json!({"name": "a", "namespaces": ["team-a"], "verbs": ["read"]})).await;
    assert_eq!(made.status, 201, "{}", made.json);
    assert!(made.json["expires_at"].is_string(), "it ends with the one that made it: {}", made.json);
    for wanted in [
        json!({"name": "b", "namespaces": ["*"], "verbs": ["read"]}),
        json!({"name": "b", "verbs": ["read"]}),
        json!({"name": "b", "namespaces": ["team-a"], "verbs": ["stop"]}),
        json!({"name": "b", "namespaces": ["team-a"], "verbs": ["read"], "expires_in": "2h"}),
    ] {
        make(wanted).await.is_problem(403, "forbidden");
    }
    let listed = world.with(&lead, "GET", "/v1/tokens", None).await.json;
    let names: Vec<_> =
        listed["tokens"].as_array().unwrap().iter().map(|token| token["name"].clone()).collect();
    assert_eq!(names, ["a", "lasting", "lead", "member"]);
    let act = async |method: &str, path: &str| {
        world.with(&lead, method, &format!("/v1/tokens/{path}"), (method == "POST").then(|| json!({}))).await
    };
    act("POST", "root/rotate").await.is_problem(404, "not_found");
    act("DELETE", "root").await.is_problem(404, "not_found");
    act("POST", "lasting/rotate").await.is_problem(404, "not_found");
    assert_eq!(act("POST", "member/rotate").await.status, 200);
    assert_eq!(act("DELETE", "lasting").await.status, 204);
}

#[tokio::test]
async fn a_token_that_makes_no_sense_is_refused() {
    let world = World::new();
    for (wanted, code) in [
        (json!({}), "invalid_field"),
        (json!({"name": "Bad Name"}), "invalid_field"),
        (json!({"name": "bootstrap"}), "invalid_field"),
        (json!({"name": "x", "verbs": []}), "invalid_field"),
        (json!({"name": "x", "verbs": ["fly"]}), "invalid_field"),
        (json!({"name": "x", "namespaces": ["A?"]}), "invalid_field"),
        (json!({"name": "x", "templates": []}), "invalid_field"),
        (json!({"name": "x", "expires_in": "soon"}), "invalid_field"),
        (json!({"name": "x", "expires_in": "0s"}), "invalid_field"),
        (json!({"name": "x", "scope": "all"}), "unknown_field"),
    ] {
        let refused = world.with("token", "POST", "/v1/tokens", Some(wanted.clone())).await;
        refused.is_problem(422, code);
    }
    world.token(json!({"name": "x"})).await;
    let rotate = async |body: Value| world.with("token", "POST", "/v1/tokens/x/rotate", Some(body)).await;
    rotate(json!({"overlap": "31d"})).await.is_problem(422, "invalid_field");
    rotate(json!({"secret": "mine"})).await.is_problem(422, "unknown_field");
    world.with("token", "POST", "/v1/tokens/%2F/rotate", Some(json!({}))).await.is_problem(404, "not_found");
}

#[tokio::test]
async fn the_status_page_is_there_for_its_own_origin_only() {
    let world = World::new();
    let get = |path: &str| Request::builder().uri(path.to_owned()).header("host", "127.0.0.1:7070");
    let page = world.send(get("/ui").body(Body::empty()).unwrap()).await;
    assert_eq!(page.status, 200);
    assert!(page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().contains("default-src 'none'"));
    let from = async |origin: &str, site: Option<&str>| {
        let mut stop = request("DELETE", "/v1/sessions/aaaaaaaaaaaaaaaaaaaa").header("origin", origin);
        if let Some(site) = site {
            stop = stop.header("sec-fetch-site", site);
        }
        world.send(stop.body(Body::empty()).unwrap()).await
    };
    from("http://127.0.0.1:7070", None).await.is_problem(404, "session_unknown");
    from("http://127.0.0.1:7070", Some("same-origin")).await.is_problem(404, "session_unknown");
    from("http://127.0.0.1:7070", Some("cross-site")).await.is_problem(403, "forbidden_origin");
    from("http://127.0.0.1:7080", Some("same-site")).await.is_problem(403, "forbidden_origin");
    from("http://localhost:7070", None).await.is_problem(403, "forbidden_origin");
}
