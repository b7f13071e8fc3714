//! Proxies die, return, join and stand alone.

use std::time::Duration;

use bivouac_tests::world::{GUEST, WAKING, free_port};
use bivouac_tests::{World, always, elapse, eventually};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_killed_proxy_returns_and_serves_again() {
    World::cluster().run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("3s").await;
        session.serves("/").await;
        world.proxy(0).process.kill();
        world.proxy(0).process.start().await;
        session.serves("/").await;
        session.never_doubled();
        // Its former boot is a member no more: its lock file was free for the new process to take.
        session.ended("idle").await;
        let members = world.members().await.unwrap();
        assert_eq!(members.len(), 1, "{members:?}");
    });
}

#[test]
fn nothing_is_stopped_while_a_member_is_silent() {
    World::cluster().proxies(2).run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("1s").await;
        session.serves("/").await;
        world.proxy(1).process.kill();
        always("the session is not stopped", Duration::from_secs(5), async || {
            session.serves("/").await;
            elapse(Duration::from_millis(1500)).await;
            match session.state().await.as_str() {
                "ready" | "fencing" => Ok(()),
                other => Err(other.to_owned()),
            }
        })
        .await;
        world.proxy(1).process.start().await;
        session.ended("idle").await;
    });
}

#[test]
fn an_operator_forgets_a_dead_proxy() {
    World::cluster().proxies(2).run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("1s").await;
        session.serves("/").await;
        let before = world.members().await.unwrap();
        assert_eq!(before.len(), 2, "{before:?}");
        let pid = world.proxy(1).process.pid().unwrap();
        world.proxy(1).process.kill();
        let dead = before.iter().find(|member| member["pid"] == pid).expect("the member with its pid");
        let boot = dead["boot"].as_str().unwrap();
        let forget =
            world.call(reqwest::Method::DELETE, &format!("/v1/members/{boot}")).send().await.unwrap();
        assert!(forget.status().is_success(), "{}", forget.status());
        session.ended("idle").await;
    });
}

#[test]
fn a_proxy_that_is_told_to_stop_drains_and_takes_leave() {
    World::cluster().proxies(2).run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("2s").await;
        session.serves("/").await;
        session.via(1).serves("/").await;
        let slow = tokio::spawn({
            let session = session.via(1);
            async move { session.get("/slow?ms=2000").await }
        });
        in_use(&session, 1).await;
        let status = world.proxy(1).process.terminate().await;
        assert!(status.success(), "{status}");
        assert_eq!(slow.await.unwrap().expect("the request in flight is finished").status, 200);
        eventually("it took its leave", SOON, async || {
            let members = world.members().await?;
            if members.len() == 1 { Ok(()) } else { Err(format!("{members:?}")) }
        })
        .await;
        session.ended("idle").await;
    });
}

#[test]
fn the_proxy_alone_goes_on_serving() {
    World::cluster().run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("2s").await;
        let unseen = world.spawn(GUEST).idle_timeout("60s").await;
        let mut socket = session.websocket().await;
        unseen.ready().await;
        world.service(0).process.terminate().await;
        session.used_for(Duration::from_secs(8), Duration::from_millis(400)).await;
        socket.echoes("still connected").await;
        unseen.serves("/resolved-from-consul").await;
        // Even a proxy that starts now finds its way, from the record and the catalogue.
        let later = world.prepare_proxy(free_port()).await;
        later.process.start().await;
        unseen.via(1).serves("/").await;
        session.via(1).serves("/").await;
        world.service(0).start().await;
        socket.close().await;
        session.ended("idle").await;
        session.never_doubled();
        unseen.serves("/").await;
        unseen.never_doubled();
    });
}

#[test]
fn what_is_used_through_one_proxy_is_idle_for_none() {
    World::cluster().proxies(2).run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("1s").await;
        let socket = session.via(1).websocket().await;
        session.serves("/").await;
        always("the session is ready", Duration::from_secs(4), async || {
            match session.state().await.as_str() {
                "ready" => Ok(()),
                other => Err(other.to_owned()),
            }
        })
        .await;
        socket.close().await;
        session.ended("idle").await;
    });
}

/// Requests through a proxy that joins just then, at the edge of an idle stop.
#[test]
fn a_proxy_joins_in_the_middle_of_a_stop() {
    World::cluster().replicas(1).run(async |world| {
        for round in 0..3u64 {
            let session = world.spawn(WAKING).key(&format!("joined-{round}")).idle_timeout("1s").await;
            session.serves("/").await;
            let newcomer = world.prepare_proxy(free_port()).await;
            // The commit's transaction waits on the wire while the newcomer joins and admits a request.
            let commit = session.commit_held(0).await;
            let number = world.proxies().len() - 1;
            newcomer.process.launch();
            let joined = async {
                newcomer.process.serves().await;
                session.via(number).serves("/through-the-newcomer").await
            };
            let answer = tokio::join!(joined, async {
                // In each round at another moment of the newcomer's start.
                elapse(Duration::from_millis(700 + 400 * round)).await;
                commit.release();
            });
            assert!(answer.0.json()["generation"].is_string());
            session.never_doubled();
            session.ended("idle").await;
        }
    });
}

/// The link is silent, both ends live: all verdicts are unknown, and the proxy serves on.
#[test]
fn a_service_that_falls_silent_stops_nothing_and_hinders_nothing() {
    World::cluster().run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("1s").await;
        session.serves("/").await;
        world.service(0).process.freeze();
        for _ in 0..5 {
            session.serves("/").await;
            elapse(Duration::from_millis(1500)).await;
        }
        world.service(0).process.thaw();
        session.ended("idle").await;
        session.never_doubled();
    });
}

async fn in_use(session: &bivouac_tests::world::Session, wanted: u64) {
    eventually("a request is open", SOON, async || {
        let view = session.try_view().await?;
        let proxies = view["alive"]["proxies"].as_array().cloned().unwrap_or_default();
        let open: u64 = proxies.iter().filter_map(|proxy| proxy["open"].as_u64()).sum();
        if open >= wanted { Ok(()) } else { Err(view["alive"].to_string()) }
    })
    .await;
}

/// The network between proxy and service is gone; both reach everything else.
#[test]
fn a_split_between_proxy_and_service() {
    World::cluster().faults_on_links().run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("1s").await;
        session.serves("/").await;
        for silence in [false, true] {
            let service = world.service(0);
            if silence {
                service.link().blackhole()
            } else {
                service.link().refuse()
            }
            for _ in 0..4 {
                session.serves("/").await;
                elapse(Duration::from_millis(2000)).await;
                // A leader that has not missed the link yet may try to fence, and gives up.
                let state = session.state().await;
                assert!(["ready", "fencing"].contains(&state.as_str()), "{state}");
            }
            service.link().heal();
            session.serves("/").await;
        }
        session.ended("idle").await;
        session.never_doubled();
    });
}

/// The link is lost between fence and commit: the proxy lifts the fence by itself, and the commit is refused.
#[test]
fn a_link_is_lost_while_a_session_is_fenced() {
    World::cluster().faults_on_links().run(async |world| {
        let session = world.spawn(WAKING).key("doc").idle_timeout("1s").await;
        session.serves("/").await;
        let service = world.service(0);
        let commit = session.commit_held(0).await;
        service.link().refuse();
        let mut socket = session.websocket().await;
        commit.release();
        commit.done().await;
        service.link().heal();
        always("it is not stopped under a user", Duration::from_secs(3), async || {
            socket.echoes("here").await;
            Ok(())
        })
        .await;
        socket.close().await;
        session.ended("idle").await;
        assert_eq!(session.starts().len(), 1);
    });
}

/// It will not come back, and says nothing: after a time that the operator chose it is believed to be dead.
#[test]
fn a_proxy_that_died_with_its_host_is_presumed_dead() {
    World::cluster().proxies(2).service_flag("presume-dead-after", "3s").run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("1s").await;
        session.serves("/").await;
        world.proxy(1).process.kill();
        eventually("it is a member no more", SOON * 2, async || {
            let members = world.members().await?;
            if members.len() == 1 { Ok(()) } else { Err(format!("{members:?}")) }
        })
        .await;
        session.ended("idle").await;
    });
}
