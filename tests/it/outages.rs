//! Nomad and Consul go away and come back: running sessions go on, nothing is stopped or given up by mistake.

use std::time::{Duration, Instant};

use bivouac_tests::world::{GUEST, Session};
use bivouac_tests::{World, always, eventually};

const SOON: Duration = Duration::from_secs(60);

/// Fails unless the session is served and neither stopped nor given up, for the whole time.
async fn goes_on(session: &Session, during: Duration) {
    always(format!("session {} goes on", session.id), during, async || {
        session.serves("/").await;
        match session.try_view().await {
            Ok(view) if matches!(view["state"].as_str(), Some("stopping" | "ended")) => Err(view.to_string()),
            _ => Ok(()),
        }
    })
    .await;
}

/// Fails unless a spawn is refused at once, and says when to try again.
async fn spawns_wait(world: &World) {
    let started = Instant::now();
    let answer = world.spawn(GUEST).key("in-the-outage").send().await.expect("an answer");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(["ledger_unavailable", "cluster_unavailable"].contains(&answer.code().as_str()), "{answer:?}");
    assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
    assert!(started.elapsed() < Duration::from_secs(15), "an answer after {:?}", started.elapsed());
}

async fn spawned_again(world: &World) -> Session {
    eventually("spawns work again", SOON, async || {
        let answer = world.spawn(GUEST).key("after").idle_timeout("2s").send().await?;
        if matches!(answer.status, 200 | 201) {
            Ok(())
        } else {
            Err(format!("{} {}", answer.status, answer.body))
        }
    })
    .await;
    world.spawn(GUEST).key("after").await
}

#[test]
fn agents_are_killed_and_return() {
    World::own_cluster().run(async |world| {
        let agents = world.site().agents();
        let session = world.spawn(GUEST).key("doc").idle_timeout("4s").await;
        let mut socket = session.websocket().await;

        agents.nomad().kill9().unwrap();
        goes_on(&session, Duration::from_secs(4)).await;
        spawns_wait(&world).await;
        agents.nomad().start().unwrap();
        agents.wait_ready(SOON).await.unwrap();
        spawned_again(&world).await.serves("/").await;
        goes_on(&session, Duration::from_secs(2)).await;

        agents.consul().kill9().unwrap();
        goes_on(&session, Duration::from_secs(5)).await;
        spawns_wait(&world).await;
        agents.consul().start().unwrap();
        agents.wait_ready(SOON).await.unwrap();
        let later = spawned_again(&world).await;
        later.serves("/").await;
        goes_on(&session, Duration::from_secs(2)).await;

        let client = agents.client(0);
        client.consul().kill9().unwrap();
        goes_on(&session, Duration::from_secs(4)).await;
        client.consul().start().unwrap();
        agents.wait_ready(SOON).await.unwrap();

        for client in agents.clients() {
            client.nomad().kill9().unwrap();
        }
        goes_on(&session, Duration::from_secs(3)).await;
        for client in agents.clients() {
            client.nomad().start().unwrap();
        }
        agents.wait_ready(SOON).await.unwrap();
        goes_on(&session, Duration::from_secs(2)).await;

        socket.echoes("connected through all of it").await;
        assert_eq!(session.starts().len(), 1);
        socket.close().await;
        session.ended("idle").await;
        later.ended("idle").await;
        world.nothing_runs().await;
    });
}

/// A host is away and returns: its session is neither given up nor started a second time.
#[test]
fn a_client_goes_away_and_comes_back() {
    World::own_cluster().run(async |world| {
        let session = world.spawn(GUEST).key("doc").idle_timeout("4s").await;
        let client = world.site().client_of(&session.ready().await);
        let mut socket = session.websocket().await;
        let job = format!("session-{}-1", session.id);
        session.known_to_run().await;
        client.nomad().freeze().unwrap();
        eventually("Nomad misses the client", SOON, async || {
            let status = world.allocations(&job).await?[0]["ClientStatus"].clone();
            if status == "unknown" { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
        // Here the host's processes are reachable all the same.
        goes_on(&session, Duration::from_secs(4)).await;
        let same = world.spawn(GUEST).key("doc").await;
        assert_eq!((same.spawned(), same.generation()), (false, 1));
        client.nomad().thaw().unwrap();
        eventually("the client is back", SOON, async || {
            let status = world.allocations(&job).await?[0]["ClientStatus"].clone();
            if status == "running" { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
        goes_on(&session, Duration::from_secs(2)).await;
        assert_eq!(world.allocations(&job).await.unwrap().len(), 1);
        socket.echoes("the same backend").await;
        socket.close().await;
        session.ended("idle").await;
        assert_eq!(session.starts().len(), 1);
    });
}

/// The host restarts: Nomad starts the task again on the same allocation, and that is not the session that was used.
#[test]
fn a_backend_that_nomad_started_again_is_not_the_session() {
    World::own_cluster().run(async |world| {
        let agents = world.site().agents();
        let session = world.spawn(GUEST).key("doc").idle_timeout("60s").await;
        session.serves("/").await;
        // Nomad reports a start up to a second late. Of a task that is started again before that, nothing tells.
        eventually("Nomad has told of the start", SOON, async || {
            let view = session.try_view().await?;
            if view["timeline"]["started"].is_string() { Ok(()) } else { Err(view["timeline"].to_string()) }
        })
        .await;
        let first = session.starts().remove(0);
        for client in agents.clients() {
            client.nomad().kill9().unwrap();
        }
        first.kill_with_its_executor();
        for client in agents.clients() {
            client.nomad().start().unwrap();
        }
        agents.wait_ready(SOON).await.unwrap();
        let ended = session.becomes("ended").await;
        assert!(["lost", "exited"].contains(&ended["reason"]["code"].as_str().unwrap()), "{ended}");
        session.backends_gone().await;
        world.nothing_runs().await;
    });
}

/// The wires are cut rather than the agents killed: nothing answers, nothing refuses.
#[test]
fn agents_fall_silent() {
    World::cluster().run(async |world| {
        let session = world.spawn(GUEST).key("doc").idle_timeout("3s").await;
        session.serves("/").await;
        let service = world.service(0);
        service.consul.blackhole();
        world.proxy(0).consul.blackhole();
        goes_on(&session, Duration::from_secs(6)).await;
        spawns_wait(&world).await;
        service.consul.heal();
        world.proxy(0).consul.heal();
        service.nomad.blackhole();
        goes_on(&session, Duration::from_secs(6)).await;
        service.nomad.heal();
        spawned_again(&world).await.serves("/").await;
        session.ended("idle").await;
        assert_eq!(session.starts().len(), 1);
        world.nothing_runs().await;
    });
}
