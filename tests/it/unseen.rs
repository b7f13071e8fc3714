//! Ends that nobody saw: what is concluded from what Nomad still remembers.

use std::time::Duration;

use bivouac_tests::world::{GUEST, Session};
use bivouac_tests::{World, eventually};
use reqwest::Method;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// Waits until the job's backend is over, and then, if `kept`, keeps the job itself from being collected: one of which a
/// version has a name stays, without its allocations.
async fn is_over(world: &World, job: &str, kept: bool) {
    eventually("the backend is over", SOON, async || {
        let status = world.allocations(job).await?[0]["ClientStatus"].clone();
        if status == "complete" || status == "failed" { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    if kept {
        let path = format!("/v1/job/{job}/versions/kept/tag");
        world.site().tell_nomad(Method::POST, &path, &json!({ "Version": 0 })).await;
    }
}

/// Waits until Nomad remembers none of the job's allocations, and the job itself only if it was kept.
async fn is_collected(world: &World, job: &str, kept: bool) {
    eventually("Nomad has collected it", SOON, async || {
        world.site().nomad(Method::PUT, "/v1/system/gc").await?.expect_status(200)?;
        let left = world.allocations(job).await?;
        let job_is_left = world.job(job).await.is_ok();
        if left.is_empty() && job_is_left == kept { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

/// Nobody of us was there when an operator stopped the job, and Nomad has forgotten how its allocation fared.
#[test]
fn a_session_that_ended_unseen_ends_for_the_right_reason() {
    World::own_cluster().run(async |world| {
        let [kept, forgotten] =
            ["kept", "forgotten"].map(|key| world.spawn(GUEST).key(key).idle_timeout("2m"));
        let (kept, forgotten) = (kept.await, forgotten.await);
        let job = |session: &Session| format!("session-{}-1", session.id);
        for session in [&kept, &forgotten] {
            session.ready().await;
        }
        world.service(0).process.kill();
        for session in [&kept, &forgotten] {
            world.site().tell_nomad(Method::DELETE, &format!("/v1/job/{}", job(session)), &Value::Null).await;
        }
        is_over(&world, &job(&kept), true).await;
        is_over(&world, &job(&forgotten), false).await;
        is_collected(&world, &job(&kept), true).await;
        is_collected(&world, &job(&forgotten), false).await;
        world.service(0).start().await;
        kept.ended("operator").await;
        // With the job, all is gone that would tell.
        forgotten.ended("lost").await;
        for session in [&kept, &forgotten] {
            session.backends_gone().await;
        }
    });
}

/// Of a job that is stopped while its node is away, an evaluation goes on waiting for a year, and Nomad never calls it dead.
#[test]
fn a_session_that_was_stopped_while_its_node_was_away_ends_unseen() {
    World::own_cluster().run(async |world| {
        let session = world.spawn(GUEST).key("doc").idle_timeout("2m").await;
        session.ready().await;
        let job = format!("session-{}-1", session.id);
        let is = async |status: &str| {
            eventually(format!("Nomad calls it {status}"), SOON, async || {
                let seen = world.allocations(&job).await?[0]["ClientStatus"].clone();
                if seen == status { Ok(()) } else { Err(seen.to_string()) }
            })
            .await;
        };
        is("running").await;
        let client = world.site().client_of(&session.view().await);
        world.service(0).process.kill();
        client.nomad().freeze().unwrap();
        is("unknown").await;
        world.site().tell_nomad(Method::DELETE, &format!("/v1/job/{job}"), &Value::Null).await;
        client.nomad().thaw().unwrap();
        is_over(&world, &job, false).await;
        is_collected(&world, &job, true).await;
        assert_eq!(world.job(&job).await.unwrap()["Status"], "pending");
        world.service(0).start().await;
        session.ended("operator").await;
        // What is left of it in Nomad is removed after a while, like that of any session that did not end on purpose.
        assert!(world.spawn(GUEST).key("doc").await.spawned());
    });
}

/// The stop was carried out, and nobody of us was left to see it.
#[test]
fn a_stop_whose_run_was_collected_ends() {
    World::own_cluster().failpoints("deleted=abort").run(async |world| {
        let session = world.spawn(GUEST).key("doc").idle_timeout("2m").await;
        session.ready().await;
        let _answer = session.try_stop().await;
        world.service(0).process.ends().await;
        let job = format!("session-{}-1", session.id);
        is_over(&world, &job, true).await;
        is_collected(&world, &job, true).await;
        world.service(0).failpoints("");
        world.service(0).start().await;
        session.ended("requested").await;
        assert!(world.spawn(GUEST).key("doc").await.spawned());
    });
}

/// The host restarts before Nomad has reported anything of the start: its first report tells of both.
#[test]
fn a_backend_that_was_started_twice_before_the_first_report_is_not_the_session() {
    World::own_cluster().run(async |world| {
        // Late enough that the client has written down that it started it, early enough that it has not told.
        let session = world.spawn(GUEST).key("doc").idle_timeout("60s").env("GUEST_START_MS", "150").await;
        session.ready().await;
        let first = session.starts().remove(0);
        let client = world.site().client_of(&session.view().await);
        client.nomad().kill9().unwrap();
        first.kill_with_its_executor();
        client.nomad().start().unwrap();
        world.site().agents().wait_ready(SOON).await.unwrap();
        session.ended("lost").await;
        session.backends_gone().await;
        world.nothing_runs().await;
    });
}
