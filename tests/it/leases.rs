//! Leases: a session that nobody uses lives on for as long as it was promised, and no longer.

use std::time::{Duration, Instant};

use bivouac_tests::world::{GUEST, Session};
use bivouac_tests::{World, always, elapse, eventually};
use jiff::Timestamp;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(40);

everywhere!(
    a_lease_keeps_an_unused_session_and_its_end_starts_the_idle_clock,
    a_release_starts_the_idle_clock,
    a_renewal_moves_the_end,
    a_lease_ends_with_the_lifetime,
    leases_that_are_refused,
    the_command_line_leases_and_releases,
);

fn time(text: &Value) -> Timestamp {
    text.as_str().unwrap_or_default().parse().unwrap_or_else(|_| panic!("{text} is a time"))
}

async fn stays_ready(session: &Session, during: Duration) {
    always("the session is ready", during, async || match session.try_view().await? {
        view if view["state"] == "ready" => Ok(()),
        view => Err(view.to_string()),
    })
    .await;
}

async fn a_lease_keeps_an_unused_session_and_its_end_starts_the_idle_clock(world: World) {
    let session = world.spawn(GUEST).idle_timeout("1s").await;
    session.ready().await;
    let view = session.lease("export", "4s").await;
    let until = time(&view["alive"]["leases"]["export"]);
    assert_eq!(view["alive"]["verdict"], "busy", "{view}");
    let told = time(&view["alive"]["ends_at"]);
    let exact = told.duration_since(until).as_millis();
    assert!((900..=1100).contains(&exact), "it ends its idle timeout after the lease: {view}");
    stays_ready(&session, Duration::from_millis(3500)).await;
    let view = session.ended("idle").await;
    let after = time(&view["timeline"]["stopping"]).duration_since(until).as_millis();
    assert!((950..=3000).contains(&after), "it was stopped {after} ms after the lease: {view}");
    assert_eq!(view["alive"], Value::Null);
    session.never_doubled();
}

async fn a_release_starts_the_idle_clock(world: World) {
    let session = world.spawn(GUEST).idle_timeout("1s").await;
    session.lease("export", "10m").await;
    session.lease("demo", "10m").await;
    session.ready().await;
    let view = session.release("demo").await;
    assert!(
        view["alive"]["leases"]["demo"].is_null() && view["alive"]["leases"]["export"].is_string(),
        "{view}"
    );
    stays_ready(&session, Duration::from_millis(2500)).await;
    let released = Instant::now();
    let view = session.release("export").await;
    assert_eq!((&view["alive"]["verdict"], &view["alive"]["leases"]), (&"idle".into(), &json!({})), "{view}");
    session.ended("idle").await;
    let after = released.elapsed();
    assert!(after >= Duration::from_secs(1), "it ended {after:?} after the release");
    let over = session.release("export").await;
    assert_eq!(over["state"], "ended", "there is nothing left to release: that is what was asked for");
}

async fn a_renewal_moves_the_end(world: World) {
    let session = world.spawn(GUEST).idle_timeout("500ms").await;
    session.ready().await;
    for _ in 0..5 {
        session.lease("editor", "2s").await;
        elapse(Duration::from_millis(700)).await;
    }
    let view = session.lease("editor", "1s").await;
    assert_eq!(view["state"], "ready");
    let until = time(&view["alive"]["leases"]["editor"]);
    let left = until.duration_since(Timestamp::now()).as_millis();
    assert!(left <= 1000, "a renewal may shorten it, too: {left} ms left");
    session.ended("idle").await;
    session.never_doubled();
}

async fn a_lease_ends_with_the_lifetime(world: World) {
    let session = world.spawn(GUEST).idle_timeout("1s").field("max_lifetime", "5s").await;
    let view = session.lease("export", "10m").await;
    let claimed = time(&view["timeline"]["claimed"]);
    let until = time(&view["alive"]["leases"]["export"]);
    assert_eq!(until.duration_since(claimed).as_millis(), 5000, "the answer says until when: {view}");
    assert_eq!(time(&view["alive"]["ends_at"]), until, "{view}");
    let view = session.ended("lifetime").await;
    assert!(time(&view["timeline"]["stopping"]) >= until, "{view}");
}

async fn leases_that_are_refused(world: World) {
    let session = world.spawn(GUEST).idle_timeout("60s").await;
    let refused = async |name: &str, body: Value, status: u16, code: &str| {
        let answer = session.try_lease(name, &body).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{name} {body}: {answer:?}");
        answer.is_problem(status, code);
    };
    for body in [
        json!({}),
        json!({ "for": "0s" }),
        json!({ "for": "500ms" }),
        json!({ "for": "-5m" }),
        json!({ "for": "soon" }),
        json!({ "for": 5 }),
        json!({ "for": "169h" }),
        json!({ "until": "2001-01-01T00:00:00Z" }),
        json!({ "until": "9999-01-01T00:00:00Z" }),
        json!({ "until": "tomorrow" }),
        json!({ "for": "5m", "until": "2030-01-01T00:00:00Z" }),
    ] {
        refused("export", body, 422, "invalid_field").await;
    }
    refused("export", json!({ "fro": "5m" }), 422, "unknown_field").await;
    for name in [".hidden", "-a", "a%20b", "a%2Fb", "%24%7Bx%7D", &"n".repeat(65)] {
        refused(name, json!({ "for": "5m" }), 422, "invalid_field").await;
    }
    assert_eq!(session.view().await["alive"]["leases"], json!({}), "nothing half-made stays behind");
    for n in 0..32 {
        session.lease(&format!("lease-{n}"), "5m").await;
    }
    refused("one-too-many", json!({ "for": "5m" }), 409, "too_many_leases").await;
    session.lease("lease-31", "6m").await;
    session.release("lease-0").await;
    session.lease("one-too-many", "5m").await;
    session.stop().await;
    session.ended("requested").await;
    refused("export", json!({ "for": "5m" }), 410, "session_ended").await;
    let stranger = Session::of(&world, json!({ "id": "abcdefghijklmnopqrst" }));
    let answer = stranger.try_lease("export", &json!({ "for": "5m" })).await.unwrap();
    answer.is_problem(404, "session_unknown");
}

async fn the_command_line_leases_and_releases(world: World) {
    let session = world.spawn(GUEST).key("doc-1").idle_timeout("60s").await;
    let told = async |args: &[&str]| {
        let output = world.bivouac(args).await;
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let leased = told(&["lease", "doc-1", "export", "--for", "10m"]).await;
    assert!(leased.contains("lease export: until 20"), "{leased}");
    let until = Timestamp::now() + Duration::from_secs(300);
    let json = told(&["lease", &session.id, "demo", "--until", &until.to_string(), "--json"]).await;
    let view: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(time(&view["alive"]["leases"]["demo"]), until, "{view}");
    session.ready().await;
    let status = told(&["status", "doc-1"]).await;
    assert!(status.contains("kept alive by 2 leases, ends in 10 min"), "{status}");
    let released = told(&["lease", "doc-1", "export", "--release"]).await;
    assert!(!released.contains("lease export"), "{released}");
    for wrong in [
        &["lease", "doc-1", "export"][..],
        &["lease", "doc-1", "export", "--for", "1m", "--release"],
        &["lease", "doc-1", "a/b", "--for", "1m"],
        &["lease", "doc-1", "export", "--for", "soon"],
    ] {
        assert_eq!(world.bivouac(wrong).await.status.code(), Some(2), "{wrong:?}");
    }
    let nobody = world.bivouac(&["lease", "nosuch", "export", "--for", "1m"]).await;
    assert_eq!(nobody.status.code(), Some(3), "{nobody:?}");
}

/// A lease that is set while a stop is being attempted moves the record: the commit, prepared against the old one, is
/// refused.
#[test]
fn a_lease_during_the_attempt_cancels_the_stop() {
    World::cluster().replicas(2).run(async |world| {
        let leader = eventually("somebody leads", SOON, async || world.leader().await).await;
        let session = world.asking(1 - leader).spawn(GUEST).key("doc").idle_timeout("2s").await;
        session.serves("/").await;
        let commit = session.commit_held(leader).await;
        let view = session.lease("export", "10m").await;
        assert!(view["alive"]["leases"]["export"].is_string(), "{view}");
        commit.release();
        commit.done().await;
        let told = session.asking(leader).view().await;
        assert_eq!(told["alive"]["leases"], view["alive"]["leases"], "both replicas tell the same");
        always("it is not stopped", Duration::from_secs(5), async || match session.try_view().await? {
            view if ["ready", "fencing"].map(Value::from).contains(&view["state"]) => Ok(()),
            view => Err(view.to_string()),
        })
        .await;
        assert_eq!(session.serves("/").await.json()["generation"], "1");
        session.asking(leader).release("export").await;
        session.ended("idle").await;
        session.never_doubled();
    });
}

/// The promise stands in the record: whoever made it may die, and so may the leader.
#[test]
fn a_lease_survives_its_replica_and_the_leader() {
    World::cluster().replicas(2).run(async |world| {
        let leader = eventually("somebody leads", SOON, async || world.leader().await).await;
        let session = world.asking(leader).spawn(GUEST).idle_timeout("1s").await;
        session.lease("export", "10m").await;
        session.ready().await;
        world.service(leader).process.kill();
        let session = session.asking(1 - leader);
        let led = async || match world.leader().await? {
            still if still == leader => Err("the dead one still holds the lock".to_owned()),
            _ => Ok(()),
        };
        eventually("the other one leads", SOON, led).await;
        stays_ready(&session, Duration::from_secs(4)).await;
        session.release("export").await;
        session.ended("idle").await;
        session.never_doubled();
    });
}

/// What is being stopped cannot be kept alive any more.
#[test]
fn a_session_that_is_being_stopped_takes_no_lease() {
    World::cluster().run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("60s").await;
        session.ready().await;
        let deletion = world.service(0).nomad.hold("DELETE /v1/job");
        session.stop().await;
        deletion.arrived().await;
        let refused = session.try_lease("export", &json!({ "for": "5m" })).await.unwrap();
        refused.is_problem(409, "session_stopping");
        deletion.release();
        deletion.done().await;
        session.ended("requested").await;
    });
}
