//! The service is killed at every step of the loop, and started again: no session is lost, none is doubled, nothing is
//! left behind.

use std::time::Duration;

use bivouac_tests::world::{GUEST, Session, WAKING};
use bivouac_tests::{World, eventually};

const SOON: Duration = Duration::from_secs(30);

/// Spawns again and again, as a client does that got no answer.
async fn spawned_in_the_end(world: &World, key: &str) -> Session {
    eventually(format!("{key} is spawned"), SOON, async || {
        let answer = world.spawn(GUEST).key(key).idle_timeout("3s").send().await?;
        if matches!(answer.status, 200 | 201) {
            Ok(())
        } else {
            Err(format!("{} {}", answer.status, answer.body))
        }
    })
    .await;
    world.spawn(GUEST).key(key).await
}

/// The service dies at a step of the start; its successor finishes what it began.
async fn dies_while_starting(world: World) {
    let spawn = world.spawn(GUEST).key("doc").idle_timeout("3s").send();
    let service = world.service(0);
    // Whether there is an answer depends on the step.
    let (_answer, _status) = tokio::join!(spawn, service.process.ends());
    service.failpoints("");
    service.start().await;
    let session = spawned_in_the_end(&world, "doc").await;
    session.serves("/").await;
    session.never_doubled();
    session.ended("idle").await;
    session.backends_gone().await;
    session.never_doubled();
    world.nothing_runs().await;
}

#[test]
fn between_claim_and_registration() {
    World::cluster().failpoints("claimed=abort").run(dies_while_starting);
}

#[test]
fn between_registration_and_reply() {
    World::cluster().failpoints("registered=abort").run(dies_while_starting);
}

#[test]
fn after_the_pin() {
    World::cluster().failpoints("pinned=abort").run(dies_while_starting);
}

/// The service dies at a step of an idle stop, while a request is on its way; the request is served in the end.
async fn dies_while_stopping(world: World) -> Session {
    let session = world.spawn(WAKING).key("doc").idle_timeout("1s").await;
    session.serves("/").await;
    world.service(0).process.ends().await;
    let request = tokio::spawn({
        let session = session.clone();
        async move { session.get("/").await }
    });
    world.service(0).failpoints("");
    world.service(0).start().await;
    let answer = request.await.unwrap().expect("the request was lost").expect_status(200);
    answer.unwrap_or_else(|seen| panic!("the request was not served: {seen}"));
    session.never_doubled();
    session.ended("idle").await;
    session.backends_gone().await;
    session.never_doubled();
    world.nothing_runs().await;
    session
}

#[test]
fn between_fence_and_commit() {
    World::cluster().failpoints("fenced=abort").run(async |world| {
        let session = dies_while_stopping(world).await;
        assert_eq!(session.starts().len(), 1, "what was not committed did not happen");
    });
}

#[test]
fn between_commit_and_delete() {
    World::cluster().failpoints("committed=abort").run(async |world| {
        let session = dies_while_stopping(world).await;
        assert_eq!(session.starts().len(), 2, "what was committed was finished, and the request woke it");
    });
}

/// The replica that comes back is found at once, however many in the catalogue never will.
#[test]
fn between_commit_and_delete_with_many_dead_replicas_in_the_catalogue() {
    World::cluster().failpoints("committed=abort").run(async |world| {
        world.register_dead_replicas(200).await;
        let session = dies_while_stopping(world).await;
        assert_eq!(session.starts().len(), 2, "what was committed was finished, and the request woke it");
    });
}

#[test]
fn between_delete_and_the_end() {
    World::cluster().failpoints("deleted=abort").run(async |world| {
        dies_while_stopping(world).await;
    });
}

#[test]
fn while_sessions_run() {
    World::cluster().run(async |world| {
        let session = world.spawn(GUEST).key("doc").idle_timeout("4s").await;
        let mut socket = session.websocket().await;
        for _ in 0..3 {
            world.service(0).crash_and_restart().await;
            socket.echoes("the connection is still there").await;
            assert_eq!(session.ready().await["generation"], 1);
            assert!(!world.spawn(GUEST).key("doc").await.spawned());
        }
        assert_eq!(session.starts().len(), 1);
        socket.close().await;
        session.ended("idle").await;
        world.nothing_runs().await;
    });
}

/// Whatever the moment: many sessions in all phases, and the service dies again and again.
#[test]
fn at_any_moment() {
    World::cluster().run(async |world| {
        let rounds = 6u64;
        let clients = futures::future::join_all((0..8).map(|n| {
            let world = world.clone();
            async move {
                let key = format!("any-{n}");
                let started = std::time::Instant::now();
                while started.elapsed() < Duration::from_secs(2 * rounds) {
                    let spawned = world.spawn(WAKING).key(&key).idle_timeout("500ms").send().await;
                    if let Ok(answer) = spawned
                        && matches!(answer.status, 200 | 201)
                    {
                        let id = answer.json()["id"].as_str().unwrap().to_owned();
                        let port = world.proxy_port(0);
                        let url = format!("http://{id}.localhost:{port}/");
                        let served = bivouac_tests::world::Answer::to(world.http().get(url)).await;
                        served
                            .expect("a request was lost")
                            .expect_status(200)
                            .expect("a request was not served");
                    }
                    bivouac_tests::elapse(Duration::from_millis(300 + 70 * n)).await;
                }
                key
            }
        }));
        let crashes = async {
            for round in 0..rounds {
                bivouac_tests::elapse(Duration::from_millis(1100 + 130 * round)).await;
                world.service(0).crash_and_restart().await;
            }
        };
        let (keys, ()) = tokio::join!(clients, crashes);
        for key in keys {
            let session = spawned_in_the_end_any(&world, &key).await;
            session.never_doubled();
            session.ended("idle").await;
            session.backends_gone().await;
            session.never_doubled();
        }
        world.nothing_runs().await;
    });
}

async fn spawned_in_the_end_any(world: &World, key: &str) -> Session {
    eventually(format!("{key} is spawned"), SOON, async || {
        let answer = world.spawn(WAKING).key(key).idle_timeout("500ms").send().await?;
        if matches!(answer.status, 200 | 201) {
            Ok(())
        } else {
            Err(format!("{} {}", answer.status, answer.body))
        }
    })
    .await;
    world.spawn(WAKING).key(key).idle_timeout("500ms").await
}
