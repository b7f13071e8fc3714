//! Between the spawn and the first byte: requests are held, spawns of one key meet, and some backends never come up.

use std::time::{Duration, Instant};

use bivouac_tests::world::{Answer, GUEST};
use bivouac_tests::{World, eventually};
use futures::future::join_all;

everywhere!(
    a_request_right_after_the_spawn_is_held_and_served,
    many_requests_wait_for_a_slow_start,
    a_hundred_spawns_of_a_key_make_one_session,
    first_requests_of_many_sessions_at_once,
    a_client_that_leaves_while_held_does_no_harm,
    a_backend_that_never_listens,
    a_backend_that_exits_at_once,
    a_backend_that_dies_later,
    a_backend_that_exits_under_a_request,
    the_start_page_tells_how_far_it_is,
);

async fn a_request_right_after_the_spawn_is_held_and_served(world: World) {
    let session = world.spawn(GUEST).await;
    assert_eq!(session.serves("/at-once").await.json()["uri"], "/at-once");
    session.ready().await;
}

pub(crate) async fn many_requests_wait_for_a_slow_start(world: World) {
    let session = world.spawn(GUEST).env("GUEST_START_MS", "2000").await;
    let started = Instant::now();
    let answers = join_all((0..50).map(|n| {
        let session = session.clone();
        async move { session.serves(&format!("/{n}")).await.json()["uri"].clone() }
    }))
    .await;
    assert!(started.elapsed() > Duration::from_millis(1500), "served before it listened?");
    for (n, uri) in answers.iter().enumerate() {
        assert_eq!(*uri, format!("/{n}"));
    }
    session.never_doubled();
}

async fn the_start_page_tells_how_far_it_is(world: World) {
    let session = world.spawn(GUEST).env("GUEST_START_MS", "4000").idle_timeout("1m").await;
    let page = async || {
        let navigation = session.request(reqwest::Method::GET, "/");
        Answer::to(navigation.header("accept", "text/html").header("sec-fetch-mode", "navigate")).await
    };
    let starting = eventually("it is placed", Duration::from_secs(20), async || {
        let answer = page().await?;
        if answer.body.contains("Starting <span>") { Ok(answer) } else { Err(answer.body) }
    })
    .await;
    assert_eq!((starting.status, starting.header("retry-after").as_str()), (503, "1"), "{starting:?}");
    for part in
        ["http-equiv=\"refresh\"", "session_starting", "Placed on a host", "aria-live", "<li>Ready</li>"]
    {
        assert!(starting.body.contains(part), "{part:?} in {}", starting.body);
    }
    let served = eventually("the page becomes the session", Duration::from_secs(20), async || {
        page().await?.expect_status(200)
    })
    .await;
    assert_eq!(served.json()["session"], session.id);
}

async fn a_hundred_spawns_of_a_key_make_one_session(world: World) {
    let answers = join_all((0..100).map(|_| world.spawn(GUEST).key("crowd").send())).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("an answer")).collect();
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    let found = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((made, found), (1, 99), "{:?}", answers.iter().map(|a| a.status).collect::<Vec<_>>());
    let mut ids: Vec<String> = answers.iter().map(|a| a.json()["id"].as_str().unwrap().to_owned()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1);
    let session = world.spawn(GUEST).key("crowd").await;
    assert!(!session.spawned());
    session.serves("/").await;
    assert_eq!(session.starts().len(), 1);
    assert_eq!(world.sessions().await.unwrap().len(), 1);
}

async fn first_requests_of_many_sessions_at_once(world: World) {
    join_all((0..12).map(|n| {
        let world = world.clone();
        async move {
            let session = world.spawn(GUEST).key(&format!("many-{n}")).idle_timeout("60s").await;
            assert_eq!(session.serves("/").await.json()["session"], session.id);
            session.never_doubled();
        }
    }))
    .await;
    assert_eq!(world.sessions().await.unwrap().len(), 12);
}

async fn a_client_that_leaves_while_held_does_no_harm(world: World) {
    let session = world.spawn(GUEST).env("GUEST_START_MS", "1500").idle_timeout("1s").await;
    let impatient =
        session.request(reqwest::Method::GET, "/").timeout(Duration::from_millis(300)).send().await;
    assert!(impatient.unwrap_err().is_timeout());
    session.ready().await;
    // Its guard was dropped: nothing keeps the session alive.
    session.ended("idle").await;
}

async fn a_backend_that_never_listens(world: World) {
    let session = world.spawn(GUEST).key("mute").env("GUEST_MODE", "mute").startup_timeout("3s").await;
    let held = session.get("/").await.unwrap();
    held.is_problem(502, "start_failed");
    session.ended("startup_timeout").await;
    session.backends_gone().await;
    world.nothing_runs().await;
    let again = world.spawn(GUEST).key("mute").await;
    assert_eq!(again.generation(), 2, "the key is free again");
    again.serves("/").await;
}

pub(crate) async fn a_backend_that_exits_at_once(world: World) {
    let answer = world.spawn(GUEST).key("dead").env("GUEST_MODE", "dead").wait_ready().send().await.unwrap();
    answer.is_problem(502, "start_failed");
    let session = world.spawn(GUEST).env("GUEST_MODE", "dead").await;
    session.get("/").await.unwrap().is_problem(502, "start_failed");
    let view = session.ended("start_failed").await;
    assert_eq!(view["reason"]["exit_code"], 3, "{view}");
    assert_eq!(session.starts().len(), 1, "it is not tried again by itself");
    world.nothing_runs().await;
}

async fn a_backend_that_dies_later(world: World) {
    let session = world.spawn(GUEST).env("GUEST_MODE", "dying").env("GUEST_MS", "2500").await;
    let mut socket = session.websocket().await;
    socket.echoes("alive").await;
    // A connection that its backend just ends is just ended, if the reason is not known in time.
    if let Some(code) = socket.ends().await {
        assert!([4410, 4502].contains(&code), "{code}");
    }
    let view = session.ended("exited").await;
    assert_eq!(view["reason"]["exit_code"], 4, "{view}");
    session.get("/").await.unwrap().is_problem(410, "session_ended");
    world.nothing_runs().await;
}

async fn a_backend_that_exits_under_a_request(world: World) {
    let session = world.spawn(GUEST).await;
    session.ready().await;
    let answer = session.get("/exit?code=7").await.unwrap();
    answer.is_problem(502, "backend_failed");
    let view = session.ended("exited").await;
    assert_eq!(view["reason"]["exit_code"], 7, "{view}");
}
