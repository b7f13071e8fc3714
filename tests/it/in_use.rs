//! What is used is not stopped, however long it takes, and no request is lost to an idle stop.

use std::time::{Duration, Instant};

use bivouac_tests::world::{GUEST, WAKING};
use bivouac_tests::{World, always, elapse, eventually};
use futures::StreamExt;
use futures::future::join_all;
use reqwest::Method;

everywhere!(
    a_websocket_open_beyond_the_timeout,
    the_status_counts_what_is_open,
    a_stream_beyond_the_timeout,
    a_request_in_flight_at_the_timeout,
    an_upload_beyond_the_timeout,
    requests_at_the_idle_edge_are_never_lost,
    websockets_at_the_idle_edge_are_never_lost,
    at_the_edge_of_a_session_that_does_not_wake_the_answer_is_true,
    a_request_wakes_an_ended_session,
    a_crowd_wakes_it_once,
    what_was_stopped_on_purpose_still_wakes_on_request,
);

async fn a_websocket_open_beyond_the_timeout(world: World) {
    let session = world.spawn(GUEST).idle_timeout("1s").await;
    let mut socket = session.websocket().await;
    always("the session is ready", Duration::from_millis(3500), async || {
        match session.state().await.as_str() {
            "ready" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
    socket.echoes("still here").await;
    let closed = Instant::now();
    socket.close().await;
    session.ended("idle").await;
    assert!(closed.elapsed() >= Duration::from_secs(1), "ended {:?} after the close", closed.elapsed());
}

async fn the_status_counts_what_is_open(world: World) {
    let session = world.spawn(GUEST).idle_timeout("1s").await;
    let counts = async |wanted: u64| {
        eventually(format!("the status says {wanted}"), Duration::from_secs(10), async || {
            let view = session.try_view().await?;
            let proxies = view["alive"]["proxies"].as_array().cloned().unwrap_or_default();
            let open: u64 = proxies.iter().filter_map(|proxy| proxy["open"].as_u64()).sum();
            if open == wanted { Ok(()) } else { Err(view["alive"].to_string()) }
        })
        .await;
    };
    let mut sockets = vec![session.websocket().await, session.websocket().await, session.websocket().await];
    counts(3).await;
    sockets.pop().unwrap().close().await;
    counts(2).await;
    for socket in sockets {
        socket.close().await;
    }
    counts(0).await;
    session.ended("idle").await;
}

async fn a_stream_beyond_the_timeout(world: World) {
    let session = world.spawn(GUEST).idle_timeout("1s").await;
    let stream = session.serves("/stream?seconds=4").await;
    let lines: Vec<&str> = stream.body.lines().collect();
    assert_eq!((lines.len(), lines.last()), (40, Some(&"39")));
    session.ended("idle").await;
    session.never_doubled();
}

async fn a_request_in_flight_at_the_timeout(world: World) {
    let session = world.spawn(GUEST).idle_timeout("1s").await;
    assert_eq!(session.serves("/slow?ms=3000").await.body, "slow");
    session.ended("idle").await;
    assert_eq!(session.view().await["generation"], 1);
}

async fn an_upload_beyond_the_timeout(world: World) {
    let session = world.spawn(GUEST).idle_timeout("1s").await;
    session.ready().await;
    let chunks = futures::stream::iter(0..30).then(|n| async move {
        elapse(Duration::from_millis(100)).await;
        Ok::<_, std::io::Error>(format!("{n};"))
    });
    let upload = session.request(Method::POST, "/upload").body(reqwest::Body::wrap_stream(chunks));
    let answer = upload.send().await.unwrap();
    let echo: serde_json::Value = answer.json().await.unwrap();
    assert!(echo["body"].as_str().unwrap().ends_with("28;29;"), "{echo}");
    session.ended("idle").await;
}

/// How long after the last use each shot is aimed: before, at and after the moment of the stop.
fn shots() -> impl Iterator<Item = Duration> {
    (0..24).map(|n| Duration::from_millis(460 + n * 12))
}

async fn requests_at_the_idle_edge_are_never_lost(world: World) {
    let generations = join_all((0..3).map(|n| {
        let world = world.clone();
        async move {
            let session = world.spawn(WAKING).key(&format!("edge-{n}")).idle_timeout("500ms").await;
            let mut generation = 0;
            for pause in shots() {
                let answer = session.serves("/edge").await.json();
                let now: u64 = answer["generation"].as_str().unwrap().parse().unwrap();
                assert!(now >= generation, "generations only rise: {generation}, then {now}");
                generation = now;
                elapse(pause).await;
            }
            session.never_doubled();
            generation
        }
    }))
    .await;
    assert!(generations.iter().all(|last| *last > 1), "the shots hit the edge: {generations:?}");
}

async fn websockets_at_the_idle_edge_are_never_lost(world: World) {
    let session = world.spawn(WAKING).key("edge").idle_timeout("500ms").await;
    for pause in shots().step_by(2) {
        let mut socket = session.websocket().await;
        socket.echoes("here").await;
        socket.close().await;
        elapse(pause).await;
    }
    session.never_doubled();
}

async fn at_the_edge_of_a_session_that_does_not_wake_the_answer_is_true(world: World) {
    for pause in shots().step_by(4) {
        let session = world.spawn(GUEST).idle_timeout("500ms").await;
        session.serves("/").await;
        elapse(pause).await;
        let answer = session.get("/edge").await.expect("an answer, whatever it says");
        if answer.status != 200 {
            answer.is_problem(410, "session_ended");
            session.ended("idle").await;
        }
    }
}

async fn a_request_wakes_an_ended_session(world: World) {
    let session = world.spawn(WAKING).key("sleepy").param("text", "kept").idle_timeout("500ms").await;
    session.ended("idle").await;
    let answer = session.serves("/env").await.json();
    assert_eq!((&answer["BIVOUAC_GENERATION"], &answer["TEXT"]), (&"2".into(), &"kept".into()));
    session.ended("idle").await;
    let mut socket = session.websocket().await;
    socket.echoes("a WebSocket wakes it too").await;
    session.never_doubled();
}

async fn a_crowd_wakes_it_once(world: World) {
    let session = world.spawn(WAKING).key("crowd").idle_timeout("1s").await;
    session.ended("idle").await;
    let answers = join_all((0..40).map(|_| session.serves("/"))).await;
    assert!(answers.iter().all(|answer| answer.json()["generation"] == "2"));
    assert_eq!(session.starts().len(), 2);
}

async fn what_was_stopped_on_purpose_still_wakes_on_request(world: World) {
    let session = world.spawn(WAKING).key("stopped").await;
    session.ready().await;
    session.stop().await;
    session.ended("requested").await;
    assert_eq!(session.serves("/").await.json()["generation"], "2");
}
