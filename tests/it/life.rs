//! One session, from its spawn to its end.

use std::time::{Duration, Instant};

use bivouac_tests::world::{GUEST, PROBED};
use bivouac_tests::{World, eventually};
use reqwest::Method;

everywhere!(
    spawn_use_idle_end,
    a_session_that_is_never_used_ends_too,
    an_ended_key_is_spawned_again_under_the_same_name,
    a_join_counts_as_a_use,
    stop_while_in_use,
    deleting_twice_is_deleting_once,
    a_lifetime_ends_what_is_in_use,
    ready_means_that_the_ready_path_answers,
    the_backend_is_told_who_it_is,
);

pub(crate) async fn spawn_use_idle_end(world: World) {
    let session = world.spawn(GUEST).key("doc-1").idle_timeout("2s").await;
    assert!(session.spawned());
    assert_eq!(session.generation(), 1);
    let view = session.ready().await;
    assert_eq!(view["key"], "doc-1");
    assert_eq!(
        view["url"].as_str().unwrap().trim_end_matches('/'),
        format!("http://{}", session.authority())
    );

    let used = Instant::now();
    let answer = session.request(Method::POST, "/hello?x=1").body("hi").send().await.unwrap();
    let echo: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(
        (&echo["method"], &echo["uri"], &echo["body"]),
        (&"POST".into(), &"/hello?x=1".into(), &"hi".into())
    );
    assert_eq!(echo["headers"]["x-bivouac-session"][0], session.id);
    assert_eq!(echo["headers"]["host"][0], session.authority());

    let ended = session.ended("idle").await;
    let idle = used.elapsed();
    assert!(idle >= Duration::from_secs(2), "ended {idle:?} after its last use");
    let stopping = time_of(&ended, "stopping").duration_since(time_of(&ended, "first_byte"));
    assert!((1.0..4.0).contains(&stopping.as_secs_f64()), "stopped {stopping:?} after its only use");
    for step in ["claimed", "registered", "placed", "port_open", "ready", "first_byte", "stopping", "ended"] {
        time_of(&ended, step);
    }
    session.backends_gone().await;
    session.never_doubled();
    world.nothing_runs().await;

    assert_eq!(world.get("/v1/keys/default/doc-1").await.unwrap().json()["id"], session.id);
    session.get("/").await.unwrap().is_problem(410, "session_ended");
}

async fn a_session_that_is_never_used_ends_too(world: World) {
    let session = world.spawn(GUEST).idle_timeout("1s").await;
    let view = session.ended("idle").await;
    assert!(view["timeline"]["first_byte"].is_null(), "{view}");
    world.nothing_runs().await;
}

async fn an_ended_key_is_spawned_again_under_the_same_name(world: World) {
    let first = world.spawn(GUEST).key("a/b:c@d").idle_timeout("500ms").await;
    first.ended("idle").await;
    let second = world.spawn(GUEST).key("a/b:c@d").wait_ready().await;
    assert!(second.spawned());
    assert_eq!((&second.id, second.generation()), (&first.id, 2));
    assert_eq!(second.serves("/").await.json()["generation"], "2");
    let by_key = world.get("/v1/keys/default/a%2Fb:c@d").await.unwrap();
    assert_eq!(by_key.json()["generation"], 2);
    first.never_doubled();
    let other = world.spawn(GUEST).field("namespace", "other").key("a/b:c@d").await;
    assert_ne!(other.id, first.id, "a key is unique in its namespace only");
}

async fn a_join_counts_as_a_use(world: World) {
    let session = world.spawn(GUEST).key("joined").idle_timeout("2s").await;
    session.ready().await;
    for _ in 0..4 {
        bivouac_tests::elapse(Duration::from_millis(1200)).await;
        let again = world.spawn(GUEST).key("joined").await;
        assert!(!again.spawned());
        assert_eq!((&again.id, again.generation()), (&session.id, 1));
    }
    session.ended("idle").await;
}

pub(crate) async fn stop_while_in_use(world: World) {
    let session = world.spawn(GUEST).await;
    session.ready().await;
    let slow = tokio::spawn({
        let session = session.clone();
        async move { session.get("/slow?ms=30000").await }
    });
    eventually("it is in use", Duration::from_secs(5), async || {
        let view = session.try_view().await?;
        let open = view["alive"]["proxies"][0]["open"].as_u64().unwrap_or(0);
        if open > 0 { Ok(()) } else { Err(view["alive"].to_string()) }
    })
    .await;
    let mut socket = session.websocket().await;
    socket.echoes("one").await;
    session.stop().await;
    assert_eq!(socket.closed().await, (1001, "requested".to_owned()));
    if let Ok(cut) = slow.await.unwrap() {
        cut.is_problem(410, "session_ended");
    }
    session.ended("requested").await;
    session.backends_gone().await;
    session.get("/").await.unwrap().is_problem(410, "session_ended");
    world.nothing_runs().await;
}

async fn deleting_twice_is_deleting_once(world: World) {
    let session = world.spawn(GUEST).await;
    session.ready().await;
    let (one, two) = tokio::join!(session.try_stop(), session.try_stop());
    assert_eq!((one.unwrap().status, two.unwrap().status), (200, 200));
    let ended = session.ended("requested").await;
    assert_eq!(session.stop().await["timeline"]["ended"], ended["timeline"]["ended"]);
    let before_it_runs = world.spawn(GUEST).env("GUEST_START_MS", "60000").await;
    before_it_runs.stop().await;
    before_it_runs.ended("requested").await;
    before_it_runs.backends_gone().await;
    world.nothing_runs().await;
}

pub(crate) async fn a_lifetime_ends_what_is_in_use(world: World) {
    let session = world.spawn(GUEST).field("max_lifetime", "8s").await;
    let mut socket = session.websocket().await;
    assert_eq!(socket.closed().await, (1001, "lifetime".to_owned()));
    session.ended("lifetime").await;
    session.backends_gone().await;
}

async fn ready_means_that_the_ready_path_answers(world: World) {
    let session = world.spawn(PROBED).env("GUEST_START_MS", "1000").wait_ready().await;
    assert_eq!(session.first["state"], "ready");
    session.serves("/").await;
}

async fn the_backend_is_told_who_it_is(world: World) {
    let session = world.spawn(GUEST).key("doc-7").field("namespace", "team").env("MINE", "x=y z").await;
    let env = session.serves("/env").await.json();
    assert_eq!(env["BIVOUAC_SESSION_ID"], session.id);
    assert_eq!((&env["BIVOUAC_KEY"], &env["BIVOUAC_NAMESPACE"]), (&"doc-7".into(), &"team".into()));
    assert_eq!((&env["BIVOUAC_GENERATION"], &env["MINE"]), (&"1".into(), &"x=y z".into()));
    assert_eq!(
        env["BIVOUAC_URL"].as_str().unwrap().trim_end_matches('/'),
        format!("http://{}", session.authority())
    );
    assert!(env["PORT"].as_str().unwrap().parse::<u16>().is_ok(), "{env}");
    let token = world.token();
    assert!(!env.as_object().unwrap().values().any(|value| value == token.as_str()), "no secret of ours");
}

/// When a step of the timeline was seen.
fn time_of(view: &serde_json::Value, step: &str) -> jiff::Timestamp {
    let text = view["timeline"][step].as_str().unwrap_or_else(|| panic!("{step} is missing: {view}"));
    text.parse().unwrap()
}
