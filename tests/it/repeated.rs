//! Spawns without a key that are safe to repeat: `Idempotency-Key`.

use std::time::Duration;

use bivouac_tests::world::{Answer, GUEST, PROBED, Session};
use bivouac_tests::{World, always};
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

everywhere!(
    a_repeated_spawn_finds_its_session,
    another_body_under_the_same_idempotency_key_is_refused,
    a_crowd_with_one_idempotency_key_makes_one_session,
    a_repetition_does_not_spawn_an_ended_session_again,
    the_command_line_repeats_a_spawn,
);

async fn a_repeated_spawn_finds_its_session(world: World) {
    let spawn = || world.spawn(GUEST).idempotency_key("order-7").idle_timeout("60s").param("text", "x");
    let first = spawn().await;
    assert!(first.spawned() && first.first["key"].is_null(), "{}", first.first);
    first.serves("/").await;
    // The same thing, in other words.
    let again = world
        .spawn(GUEST)
        .idempotency_key("order-7")
        .param("text", "x")
        .idle_timeout("1m")
        .wait_ready()
        .await;
    assert_eq!((again.spawned(), &again.id, again.generation()), (false, &first.id, 1));
    let other = world.spawn(GUEST).idempotency_key("order-8").idle_timeout("60s").param("text", "x").await;
    assert!(other.spawned() && other.id != first.id);
    let elsewhere = spawn().field("namespace", "acme").await;
    assert!(elsewhere.spawned() && elsewhere.id != first.id);
    assert_eq!(first.starts().len(), 1);
}

async fn another_body_under_the_same_idempotency_key_is_refused(world: World) {
    let first = world.spawn(GUEST).idempotency_key("order-7").idle_timeout("60s").await;
    for other in [
        world.spawn(GUEST).idempotency_key("order-7").idle_timeout("61s"),
        world.spawn(GUEST).idempotency_key("order-7"),
        world.spawn(GUEST).idempotency_key("order-7").idle_timeout("60s").field("user", "ann"),
        world.spawn(PROBED).idempotency_key("order-7").idle_timeout("60s"),
    ] {
        other.send().await.unwrap().is_problem(422, "idempotency_key_reused");
    }
    let keyed = world.spawn(GUEST).idempotency_key("order-7").idle_timeout("60s").key("doc");
    keyed.send().await.unwrap().is_problem(422, "invalid_field");
    for text in ["", "a b", "\u{e9}", "a\tb", &"k".repeat(256)] {
        world.spawn(GUEST).idempotency_key(text).send().await.unwrap().is_problem(422, "invalid_field");
    }
    let call = world.call(Method::POST, "/v1/spawn").json(&json!({ "template": GUEST }));
    let twice = Answer::to(call.header("idempotency-key", "a").header("idempotency-key", "a")).await.unwrap();
    twice.is_problem(422, "invalid_field");
    assert_eq!(world.sessions().await.unwrap().len(), 1);
    first.serves("/").await;
}

async fn a_crowd_with_one_idempotency_key_makes_one_session(world: World) {
    let answers = join_all((0..50).map(|_| world.spawn(GUEST).idempotency_key("crowd").send())).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("an answer")).collect();
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    let found = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((made, found), (1, 49));
    assert_eq!(world.sessions().await.unwrap().len(), 1);
    let session = Session::of(&world, answers[0].json());
    session.serves("/").await;
    session.never_doubled();
}

async fn a_repetition_does_not_spawn_an_ended_session_again(world: World) {
    let spawn = || world.spawn(GUEST).idempotency_key("order-7").idle_timeout("500ms");
    let session = spawn().await;
    session.ready().await;
    session.ended("idle").await;
    for repeated in [spawn(), spawn().wait_ready()] {
        let again = repeated.await;
        assert_eq!((again.spawned(), &again.id), (false, &session.id));
        assert_eq!(
            (&again.first["state"], &again.first["reason"]["code"]),
            (&"ended".into(), &"idle".into())
        );
    }
    always("it stays ended", Duration::from_secs(1), async || match session.try_view().await? {
        view if view["state"] == "ended" && view["generation"] == 1 => Ok(()),
        view => Err(view.to_string()),
    })
    .await;
    session.never_doubled();
    // One that never became ready is told as that, each time.
    for _ in 0..2 {
        let dead = world.spawn(GUEST).idempotency_key("dead").env("GUEST_MODE", "dead").wait_ready();
        dead.send().await.unwrap().is_problem(502, "start_failed");
    }
}

async fn the_command_line_repeats_a_spawn(world: World) {
    let spawn = async |more: &[&str]| {
        world.bivouac(&[&["spawn", GUEST, "--idempotency-key", "order-7", "--json"], more].concat()).await
    };
    let mut seen: Vec<Value> = Vec::new();
    for _ in 0..2 {
        let output = spawn(&[]).await;
        assert!(output.status.success(), "{output:?}");
        seen.push(serde_json::from_slice(&output.stdout).unwrap());
    }
    assert_eq!((&seen[0]["id"], &seen[0]["spawned"]), (&seen[1]["id"], &true.into()));
    assert_eq!(seen[1]["spawned"], false);
    assert_eq!(spawn(&["--user", "ann"]).await.status.code(), Some(1));
    assert_eq!(spawn(&["--key", "doc"]).await.status.code(), Some(2));
}

/// The service dies after it has claimed and before it answers: the client's repetition finds what it made.
#[test]
fn a_spawn_whose_answer_was_lost_is_repeated() {
    for failpoint in ["claimed=abort", "registered=abort"] {
        World::cluster().failpoints(failpoint).run(async |world| {
            let spawn = || world.spawn(GUEST).idempotency_key("order-7").idle_timeout("60s");
            let _lost = spawn().wait_ready().send().await;
            world.service(0).process.ends().await;
            world.service(0).crash_and_restart().await;
            let session = spawn().wait_ready().await;
            assert!(!session.spawned(), "it was claimed before: {}", session.first);
            session.serves("/").await;
            assert_eq!(world.sessions().await.unwrap().len(), 1);
            assert_eq!(world.keys("sessions/").await.unwrap().len(), 1);
            session.never_doubled();
        });
    }
}

/// The repetition may reach another replica, while the first is still at it.
#[test]
fn a_repetition_at_another_replica_finds_the_session() {
    World::cluster().replicas(2).run(async |world| {
        let spawn =
            |replica| world.asking(replica).spawn(GUEST).idempotency_key("order-7").idle_timeout("60s");
        let registration = world.service(0).nomad.hold("T /v1/job");
        let first = spawn(0).await;
        registration.arrived().await;
        let again = spawn(1).await;
        assert_eq!((first.spawned(), again.spawned(), &first.id), (true, false, &again.id));
        registration.release();
        registration.done().await;
        again.serves("/").await;
        again.never_doubled();
    });
}
