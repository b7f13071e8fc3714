//! Several replicas of the service, of which one leads.

use std::time::Duration;

use bivouac_tests::world::{GUEST, WAKING};
use bivouac_tests::{World, eventually};
use futures::future::join_all;

const SOON: Duration = Duration::from_secs(40);

async fn leader(world: &World) -> usize {
    eventually("somebody leads", SOON, async || world.leader().await).await
}

#[test]
fn all_replicas_tell_the_same_story() {
    World::cluster().replicas(2).run(async |world| {
        let session = world.spawn(GUEST).key("doc").idle_timeout("3s").await;
        session.serves("/").await;
        let same = world.asking(1).spawn(GUEST).key("doc").await;
        assert!(!same.spawned());
        assert_eq!(same.id, session.id);
        same.asking(1).ready().await;
        session.asking(1).ended("idle").await;
        session.asking(0).ended("idle").await;
    });
}

#[test]
fn a_hundred_spawns_of_a_key_at_two_replicas_make_one_session() {
    World::cluster().replicas(2).run(async |world| {
        let answers = join_all((0..100).map(|n| {
            let world = world.asking(n % 2);
            async move { world.spawn(GUEST).key("crowd").send().await.expect("an answer") }
        }))
        .await;
        let made = answers.iter().filter(|answer| answer.status == 201).count();
        let found = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!((made, found), (1, 99));
        let session = world.spawn(GUEST).key("crowd").await;
        session.serves("/").await;
        assert_eq!(session.starts().len(), 1);
    });
}

#[test]
fn the_leader_is_killed() {
    World::cluster().replicas(2).run(async |world| {
        let first = leader(&world).await;
        let other = world.asking(1 - first);
        let session = other.spawn(GUEST).key("doc").idle_timeout("2s").await;
        session.serves("/").await;
        world.service(first).process.kill();
        session.used_for(Duration::from_secs(2), Duration::from_millis(300)).await;
        let later = other.spawn(GUEST).key("later").idle_timeout("2s").await;
        later.serves("/").await;
        // Idle stops wait for the lock's TTL at most.
        session.ended("idle").await;
        later.ended("idle").await;
        session.never_doubled();
        world.service(first).start().await;
        world.asking(first).spawn(GUEST).key("doc").await.serves("/").await;
        session.never_doubled();
    });
}

/// A leader is paused between fence and commit, deposed, and goes on: its commit must be refused.
#[test]
fn a_deposed_leaders_commit_is_refused() {
    World::cluster().replicas(2).run(async |world| {
        let first = leader(&world).await;
        let session = world.asking(1 - first).spawn(WAKING).key("doc").idle_timeout("2s").await;
        session.serves("/").await;
        let commit = session.commit_held(first).await;
        world.service(first).process.freeze();
        // A request meets the fence of a leader that is gone: it is served without him.
        session.serves("/").await;
        let mut socket = session.websocket().await;
        eventually("the other leads", SOON, async || match world.leader().await? {
            still if still == first => Err("the frozen one still holds the lock".to_owned()),
            _ => Ok(()),
        })
        .await;
        commit.release();
        world.service(first).process.thaw();
        commit.done().await;
        socket.echoes("not stopped by a leader of yesterday").await;
        socket.close().await;
        session.ended("idle").await;
        assert_eq!(session.starts().len(), 1, "{:?}", session.starts());
    });
}

/// A replica dies between claim and registration and does not return: another takes the claim over.
#[test]
fn a_claim_is_taken_over() {
    World::cluster().replicas(2).failpoints("claimed=abort").run(async |world| {
        let dying = world.service(0);
        let (_answer, _status) = tokio::join!(world.spawn(GUEST).key("doc").send(), dying.process.ends());
        let session = world.asking(1).spawn(GUEST).key("doc").await;
        assert!(!session.spawned());
        session.serves("/").await;
        session.never_doubled();
        session.stop().await;
        session.ended("requested").await;
    });
}

/// A replica is paused between claim and registration, loses the claim, and goes on.
#[test]
fn a_late_registration_touches_no_successor() {
    World::cluster().replicas(2).run(async |world| {
        let slow = world.service(0);
        let registration = slow.nomad.hold("T /v1/job");
        let first = world.spawn(GUEST).key("doc").await;
        registration.arrived().await;
        slow.process.freeze();
        let session = first.asking(1);
        assert_eq!(session.serves("/").await.json()["generation"], "2", "the claim was taken over");
        registration.release();
        registration.done().await;
        slow.process.thaw();
        eventually("only the successor runs", SOON, async || {
            let running = world.jobs().await?.into_iter().filter(|job| job["Status"] != "dead");
            let running: Vec<_> =
                running.map(|job| job["ID"].as_str().unwrap_or_default().to_owned()).collect();
            if running == [format!("session-{}-2", session.id)] {
                Ok(())
            } else {
                Err(format!("{running:?}"))
            }
        })
        .await;
        assert_eq!(session.serves("/").await.json()["generation"], "2");
    });
}
