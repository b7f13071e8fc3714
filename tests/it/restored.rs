//! Consul is restored from an older snapshot: documents come back with the indices that they had, and what was written
//! since is forgotten. What runs goes on, and no number is given twice.

use std::time::Duration;

use bivouac_tests::world::{GUEST, Session, WAKING};
use bivouac_tests::{World, eventually};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

/// Waits until the record says so, and the service with it.
async fn recorded(world: &World, session: &Session, generation: u64, phase: &str) {
    eventually(format!("generation {generation} is {phase}"), SOON, async || {
        let record = world.document(&format!("sessions/{}", session.id)).await?;
        let told = (record["generation"].clone(), record["phase"].clone());
        if told != (Value::from(generation), Value::from(phase)) {
            return Err(format!("{told:?}"));
        }
        let view = session.try_view().await?;
        let state = view["state"].as_str().unwrap_or_default();
        let agrees = match phase {
            "running" => state == "ready",
            other => state == other,
        };
        if agrees && view["generation"] == generation { Ok(()) } else { Err(view.to_string()) }
    })
    .await;
}

#[test]
fn what_runs_goes_on_and_what_has_ended_ends_again() {
    World::own_cluster().run(async |world| {
        let woken = world.spawn(WAKING).key("woken").idle_timeout("1s").await;
        woken.serves("/").await;
        woken.ended("idle").await;
        let stopped = world.spawn(WAKING).key("stopped").idle_timeout("2m").await;
        stopped.serves("/").await;
        let steady = world.spawn(GUEST).key("steady").idle_timeout("4s").await;
        let mut in_steady = steady.websocket().await;
        recorded(&world, &stopped, 1, "running").await;
        recorded(&world, &steady, 1, "running").await;

        let snapshot = world.consul_snapshot().await;
        woken.serves("/").await;
        let mut in_woken = woken.websocket().await;
        recorded(&world, &woken, 2, "running").await;
        let late = world.spawn(GUEST).key("late").await;
        let mut in_late = late.websocket().await;
        recorded(&world, &late, 1, "running").await;
        stopped.stop().await;
        stopped.ended("requested").await;
        stopped.backends_gone().await;
        // Written once more, so that its index is another: what is known of it must go back as well.
        assert!(!world.spawn(GUEST).key("steady").await.spawned());
        world.restore_consul(snapshot).await;

        recorded(&world, &woken, 2, "running").await;
        recorded(&world, &late, 1, "running").await;
        recorded(&world, &stopped, 1, "ended").await;
        recorded(&world, &steady, 1, "running").await;
        for socket in [&mut in_steady, &mut in_woken, &mut in_late] {
            socket.echoes("nothing was cut").await;
        }
        for session in [&woken, &late, &steady] {
            session.serves("/").await;
        }
        stopped.serves("/").await;
        assert_eq!(stopped.view().await["generation"], 2, "a request wakes it as ever");
        in_steady.close().await;
        steady.ended("idle").await;
        in_woken.close().await;
        woken.ended("idle").await;
        for session in [&woken, &late, &stopped, &steady] {
            session.never_doubled();
        }
        in_late.close().await;
    });
}

/// A run that is over, and of which nobody has a record any more, still has had its number.
#[test]
fn a_generation_that_was_forgotten_is_not_given_twice() {
    World::own_cluster().run(async |world| {
        let session = world.spawn(WAKING).key("doc").idle_timeout("1s").await;
        session.serves("/").await;
        session.ended("idle").await;
        let snapshot = world.consul_snapshot().await;
        session.serves("/").await;
        session.ended("idle").await;
        recorded(&world, &session, 2, "ended").await;
        world.restore_consul(snapshot).await;
        recorded(&world, &session, 1, "ended").await;
        eventually("the lost number is noted", SOON, async || {
            let floor = world.document("generation_floor").await?;
            if floor["generation"] == 2 { Ok(()) } else { Err(floor.to_string()) }
        })
        .await;
        session.serves("/").await;
        assert_eq!(session.view().await["generation"], 3);
        session.never_doubled();
    });
}
