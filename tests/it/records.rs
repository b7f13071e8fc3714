//! The record decides: what happens when it is kept, purged, or lost.

use std::time::Duration;

use bivouac_tests::world::GUEST;
use bivouac_tests::{World, eventually};
use reqwest::Method;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_purged_key_goes_on_counting() {
    World::cluster().service_flag("retention", "2s").run(async |world| {
        let session = world.spawn(GUEST).key("doc").idle_timeout("500ms").await;
        session.ended("idle").await;
        eventually("record and job are purged", SOON, async || {
            let record = world.document(&format!("sessions/{}", session.id)).await?;
            let jobs = world.jobs().await?;
            if record.is_null() && jobs.is_empty() { Ok(()) } else { Err(format!("{record} {jobs:?}")) }
        })
        .await;
        let path = format!("/v1/sessions/{}", session.id);
        let gone =
            eventually("the API has forgotten it", SOON, async || world.get(&path).await?.expect_status(404));
        gone.await.is_problem(404, "session_unknown");
        session.get("/").await.unwrap().is_problem(404, "session_unknown");
        let again = world.spawn(GUEST).key("doc").await;
        assert_eq!((&again.id, again.generation()), (&session.id, 2), "generations rise for ever");
        assert_eq!(again.serves("/").await.json()["generation"], "2");
        session.never_doubled();
    });
}

/// Consul was restored from an older snapshot, or somebody erred: the job's meta is enough to write the record again.
#[test]
fn a_lost_record_is_written_again_from_its_job() {
    World::cluster().run(async |world| {
        let session = world.spawn(GUEST).key("doc").idle_timeout("3s").param("text", "kept").await;
        let mut socket = session.websocket().await;
        let key = format!("/v1/kv/{}/sessions/{}", world.prefix(), session.id);
        world.site().consul(Method::DELETE, &key).await.unwrap().expect_status(200).unwrap();
        world.service(0).crash_and_restart().await;
        let record = eventually("the record is there again", SOON, async || {
            let record = world.document(&format!("sessions/{}", session.id)).await?;
            if record["phase"] == "running" { Ok(record) } else { Err(record.to_string()) }
        })
        .await;
        assert_eq!((&record["key"], &record["generation"]), (&"doc".into(), &1.into()));
        assert_eq!(record["request"]["params"]["text"], "kept");
        socket.echoes("still the same backend").await;
        let same = world.spawn(GUEST).key("doc").await;
        assert_eq!((same.spawned(), &same.id), (false, &session.id));
        socket.close().await;
        session.ended("idle").await;
        assert_eq!(session.starts().len(), 1);
        world.nothing_runs().await;
    });
}
