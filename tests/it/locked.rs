//! On a locked cluster: tokens that are revoked, expire and are swapped, and below, certificates that are not trusted or
//! are replaced. Nothing is stopped or lost for it, it is told in words, and it heals without a restart.

mod distrust;
mod replaced;

use std::time::Duration;

use bivouac_tests::agents::{Locks, SESSIONS, replace, rules};
use bivouac_tests::world::{Answer, GUEST, Role, Session};
use bivouac_tests::{World, always, eventually};
use reqwest::Method;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// What the service's `/readyz` says of its access to the cluster.
async fn access(world: &World) -> Value {
    let ready = world.get("/readyz").await.expect("an answer").json();
    let checks = ready["checks"].as_array().cloned().unwrap_or_default();
    checks.into_iter().find(|check| check["name"] == "access").unwrap_or_else(|| panic!("{ready}"))
}

/// What a proxy's `/readyz` says of it; `null` if nothing is refused.
async fn refused_to_proxy(world: &World) -> Value {
    let admin = world.proxy(0).process.ready().admin.unwrap();
    Answer::to(world.http().get(format!("{admin}/readyz"))).await.expect("an answer").json()["checks"]["refused"].clone()
}

/// The service's metric about one of the two.
async fn accepted(world: &World, target: &str) -> bool {
    let metrics = world.get("/metrics").await.expect("the metrics").body;
    let line = format!("bivouac_cluster_access{{target=\"{target}\"}} ");
    let value = metrics.lines().find_map(|found| found.strip_prefix(&line));
    value.unwrap_or_else(|| panic!("no {line} in {metrics}")) == "1"
}

/// Waits until the service says, in words and as a metric, that one of the two refuses something.
async fn is_refused(world: &World, target: &str, words: &[&str]) {
    eventually(format!("{target} is told to refuse"), SOON, async || {
        let check = access(world).await;
        let told = check["detail"].as_str().unwrap_or_default();
        let all = check["ok"] == false && words.iter().all(|words| told.contains(words));
        if all && !accepted(world, target).await { Ok(()) } else { Err(check.to_string()) }
    })
    .await;
}

/// Waits until nothing is refused any more and spawns work.
async fn is_healed(world: &World, key: &str) -> Session {
    eventually("nothing is refused", SOON, async || {
        // Whoever asks for nothing is not permitted anything either.
        let spawned = world.spawn(GUEST).key(key).idle_timeout("60s").send().await?;
        let check = access(world).await;
        let ready = world.get("/readyz").await?;
        if check["ok"] == true && matches!(spawned.status, 200 | 201) && ready.status == 200 {
            Ok(())
        } else {
            Err(format!("{check} {} {}", spawned.status, ready.body))
        }
    })
    .await;
    let session = world.spawn(GUEST).key(key).await;
    session.serves("/").await;
    session
}

/// Spawns are told to try again later. One that comes before the service has noticed waits in the queue instead.
async fn spawns_wait(world: &World) {
    eventually("spawns are told to wait", SOON, async || {
        let answer = world.spawn(GUEST).send().await?;
        if answer.status == 503 { Ok(()) } else { Err(answer.body) }
    })
    .await;
}

/// Lines that the service logged about refusals. Each change is worth some, whatever is tried meanwhile.
fn lines(world: &World) -> usize {
    world.service(0).process.log().lines().filter(|line| line.contains("refuses what we ask")).count()
}

/// Nomad's and Consul's servers, and what opens them.
fn servers(world: &World) -> (String, String, &Locks) {
    let agents = world.site().agents();
    (agents.nomad().url(), agents.consul().url(), agents.locks().unwrap())
}

/// Revokes a role's token for Consul.
async fn revoke_for_consul(world: &World, role: Role) {
    let (_, consul, locks) = servers(world);
    let doors = world.doors();
    let granted = if role == Role::Service { &doors.service } else { &doors.proxy };
    let url = format!("{consul}/v1/acl/token/{}", granted.accessor);
    locks.manage(Method::DELETE, &url, &Value::Null).await.unwrap();
}

/// Revokes the service's token for Nomad.
async fn revoke_for_nomad(world: &World) {
    let (nomad, _, locks) = servers(world);
    let url = format!("{nomad}/v1/acl/token/{}", world.doors().nomad.accessor);
    locks.manage(Method::DELETE, &url, &Value::Null).await.unwrap();
}

/// Puts another token for Consul, with the same rights, into a role's file.
async fn renew_for_consul(world: &World, role: Role) {
    let (_, consul, locks) = servers(world);
    let name = if role == Role::Service { "service" } else { "proxy" };
    let names = [format!("{}-{name}", world.prefix()), format!("{}-register-{name}", world.prefix())];
    let next = locks.consul_token(&consul, &names).await.unwrap();
    replace(&world.doors().consul_token_file(role), &next.secret).unwrap();
}

/// Puts another token for Nomad, with the same rights, into the service's file.
async fn renew_for_nomad(world: &World) {
    let (nomad, _, locks) = servers(world);
    let text = rules("nomad/service.hcl", world.prefix(), SESSIONS);
    let next = locks.nomad_token(&nomad, &format!("{}-service", world.prefix()), &text).await.unwrap();
    replace(&world.doors().nomad_token_file(), &next.secret).unwrap();
}

#[test]
fn a_revoked_token_stops_nothing_and_its_successor_heals() {
    World::locked().run(async |world| {
        let session = world.spawn(GUEST).key("doc").idle_timeout("3s").await;
        let mut socket = session.websocket().await;
        // Not used at all: if a stop could be committed now, this is the one.
        let idle = world.spawn(GUEST).key("idle").idle_timeout("3s").await;
        idle.ready().await;

        revoke_for_consul(&world, Role::Service).await;
        is_refused(
            &world,
            "consul",
            &["Consul does not accept the token", "ACL not found", "service.consul"],
        )
        .await;
        spawns_wait(&world).await;
        let before = lines(&world);
        always("the session goes on", Duration::from_secs(4), async || {
            session.serves("/").await;
            idle.get("/healthz").await?.expect_status(200).map(drop)
        })
        .await;
        assert!(lines(&world) <= before + 1, "a refusal is logged once:\n{}", world.service(0).process.log());
        renew_for_consul(&world, Role::Service).await;
        is_healed(&world, "after").await.stop().await;

        revoke_for_nomad(&world).await;
        is_refused(&world, "nomad", &["Nomad refuses", "service.nomad"]).await;
        spawns_wait(&world).await;
        always("the session goes on", Duration::from_secs(2), async || {
            session.serves("/").await;
            Ok(())
        })
        .await;
        renew_for_nomad(&world).await;
        is_healed(&world, "after-that").await.stop().await;

        socket.echoes("connected through all of it").await;
        assert_eq!(session.starts().len(), 1);
        socket.close().await;
        session.ended("idle").await;
        idle.ended("idle").await;
        session.never_doubled();
    });
}

#[test]
fn a_right_that_was_put_back_is_noticed_though_nobody_uses_it() {
    World::locked().run(async |world| {
        let (nomad, _, locks) = servers(&world);
        let session = world.spawn(GUEST).key("doc").idle_timeout("60s").await;
        session.serves("/").await;
        let name = format!("{}-service", world.prefix());
        let text = rules("nomad/service.hcl", world.prefix(), SESSIONS);
        let fewer = text.replace("\"read-logs\",", "");
        assert_ne!(fewer, text);
        locks.nomad_token(&nomad, &name, &fewer).await.unwrap();
        eventually("the logs are refused, and it is told", SOON, async || {
            let logs = world.get(&format!("/v1/sessions/{}/logs", session.id)).await?;
            let check = access(&world).await;
            let told = check["detail"].as_str().unwrap_or_default().contains("GET /v1/client/fs");
            if told && logs.status != 200 { Ok(()) } else { Err(format!("{} {check}", logs.status)) }
        })
        .await;
        locks.nomad_token(&nomad, &name, &text).await.unwrap();
        eventually("nothing is refused", SOON, async || {
            let check = access(&world).await;
            if check["ok"] == true { Ok(()) } else { Err(check.to_string()) }
        })
        .await;
        assert_eq!(session.state().await, "ready");
    });
}

#[test]
fn an_expired_token_is_like_a_revoked_one() {
    World::locked().run(async |world| {
        let (nomad, _, locks) = servers(&world);
        let session = world.spawn(GUEST).key("doc").idle_timeout("60s").await;
        session.serves("/").await;
        let short = json!({
            "Name": "short", "Type": "client", "ExpirationTTL": "2s",
            "Policies": [format!("{}-service", world.prefix())]
        });
        let short = locks.manage(Method::PUT, &format!("{nomad}/v1/acl/token"), &short).await.unwrap();
        replace(&world.doors().nomad_token_file(), short["SecretID"].as_str().unwrap()).unwrap();
        is_refused(&world, "nomad", &["Nomad refuses", "has expired"]).await;
        session.serves("/").await;
        replace(&world.doors().nomad_token_file(), &world.doors().nomad.secret).unwrap();
        is_healed(&world, "after").await;
        assert_eq!(session.state().await, "ready");
        assert_eq!(session.starts().len(), 1);
    });
}

#[test]
fn swapped_tokens_stop_nothing() {
    World::locked().run(async |world| {
        let doors = world.doors();
        let session = world.spawn(GUEST).key("doc").idle_timeout("2s").await;
        let mut socket = session.websocket().await;
        let write = |role, token: &str| replace(&doors.consul_token_file(role), token).unwrap();
        write(Role::Service, &doors.proxy.secret);
        write(Role::Proxy, &doors.service.secret);
        is_refused(&world, "consul", &["Consul refuses", "is another process's", "service.consul"]).await;
        // The service's token may do all that a proxy does with keys, but not see where sessions and links are.
        eventually("the proxy says so, too", SOON, async || {
            // It looks a session up that it has not heard of.
            drop(
                world
                    .http()
                    .get(format!("http://{}.localhost:{}/", "a".repeat(20), world.proxy_port(0)))
                    .send()
                    .await,
            );
            let told = refused_to_proxy(&world).await;
            if told.as_str().is_some_and(|told| told.contains("proxy.consul")) {
                Ok(())
            } else {
                Err(told.to_string())
            }
        })
        .await;
        always("the session goes on", Duration::from_secs(4), async || {
            session.serves("/").await;
            Ok(())
        })
        .await;
        socket.echoes("still here").await;
        write(Role::Service, &doors.service.secret);
        write(Role::Proxy, &doors.proxy.secret);
        is_healed(&world, "after").await.stop().await;
        eventually("the proxy is refused nothing", SOON, async || {
            let told = refused_to_proxy(&world).await;
            if told.is_null() { Ok(()) } else { Err(told.to_string()) }
        })
        .await;
        socket.echoes("and still").await;
        socket.close().await;
        session.ended("idle").await;
        assert_eq!(session.starts().len(), 1);
    });
}
