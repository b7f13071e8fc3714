//! On a locked cluster: tokens that are revoked, expire and are swapped, certificates that are not trusted or are
//! replaced. Nothing is stopped or lost for it, it is told in words, and it heals without a restart.

use std::path::PathBuf;
use std::time::Duration;

use bivouac_tests::agents::{Agent, Authority, Certified, Locks, SESSIONS, Validity, replace, rules};
use bivouac_tests::world::{Answer, GUEST, Role, Session, Socket};
use bivouac_tests::{World, always, eventually};
use futures::future::join_all;
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

fn server(world: &World) -> (String, String, &Locks) {
    let agents = world.site().agents();
    (agents.nomad().url(), agents.consul().url(), agents.locks().unwrap())
}

#[test]
fn a_revoked_token_stops_nothing_and_its_successor_heals() {
    World::locked().run(async |world| {
        let (nomad, consul, locks) = server(&world);
        let session = world.spawn(GUEST).key("doc").idle_timeout("3s").await;
        let mut socket = session.websocket().await;
        // Not used at all: if a stop could be committed now, this is the one.
        let idle = world.spawn(GUEST).key("idle").idle_timeout("3s").await;
        idle.ready().await;

        let doors = world.doors();
        let url = format!("{consul}/v1/acl/token/{}", doors.service.accessor);
        locks.manage(Method::DELETE, &url, &Value::Null).await.unwrap();
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
        let names = [format!("{}-service", world.prefix()), format!("{}-register-service", world.prefix())];
        let next = locks.consul_token(&consul, &names).await.unwrap();
        replace(&doors.consul_token_file(Role::Service), &next.secret).unwrap();
        is_healed(&world, "after").await.stop().await;

        let url = format!("{nomad}/v1/acl/token/{}", doors.nomad.accessor);
        locks.manage(Method::DELETE, &url, &Value::Null).await.unwrap();
        is_refused(&world, "nomad", &["Nomad refuses", "service.nomad"]).await;
        spawns_wait(&world).await;
        always("the session goes on", Duration::from_secs(2), async || {
            session.serves("/").await;
            Ok(())
        })
        .await;
        let text = rules("nomad/service.hcl", world.prefix(), SESSIONS);
        let next = locks.nomad_token(&nomad, &format!("{}-service", world.prefix()), &text).await.unwrap();
        replace(&doors.nomad_token_file(), &next.secret).unwrap();
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
fn an_expired_token_is_like_a_revoked_one() {
    World::locked().run(async |world| {
        let (nomad, _, locks) = server(&world);
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

/// A client of Nomad, with what is right and one thing that is not.
fn client(
    world: &World,
    address: &str,
    wrong: impl FnOnce(&mut bivouac_nomad::Config),
) -> bivouac_nomad::Client {
    let mut config = bivouac_nomad::Config::new(address.parse().unwrap());
    let own = world.doors().certified(Role::Service);
    config.token = Some(world.doors().nomad.secret.clone().into());
    config.tls.ca_file = Some(world.site().locks().unwrap().ca_file());
    (config.tls.certificate_file, config.tls.key_file) = (Some(own.certificate), Some(own.key));
    wrong(&mut config);
    bivouac_nomad::Client::new(config).unwrap()
}

#[test]
fn distrust_says_what_is_wrong_and_what_to_do() {
    World::locked().replicas(0).proxies(1).run(async |world| {
        let nomad = world.site().agents().nomad().url();
        let stranger = Authority::new("Somebody else").unwrap();
        let file = |name: &str| world.folder().join(name);
        let certified = |name: &str| Certified {
            certificate: file(&format!("{name}.pem")),
            key: file(&format!("{name}.key")),
        };
        replace(&file("stranger.pem"), &stranger.pem()).unwrap();
        let locks = world.site().locks().unwrap();
        locks.authority().issue(&certified("expired"), &["service"], Validity::Expired).unwrap();
        stranger.issue(&certified("foreign"), &["service"], Validity::Good).unwrap();
        let identity = |config: &mut bivouac_nomad::Config, own: Option<Certified>| {
            (config.tls.certificate_file, config.tls.key_file) =
                own.map(|own| (own.certificate, own.key)).unzip();
        };
        let plain = nomad.replace("https://", "http://");
        let proxy = format!("https://127.0.0.1:{}", world.proxy_port(0));
        let named = |name: &str| Some(name.to_owned());
        let own = |name| Some(certified(name));
        let clients = [
            ("no authority", client(&world, &nomad, |c| c.tls.ca_file = None), "NOMAD_CACERT is not set"),
            (
                "another's",
                client(&world, &nomad, |c| c.tls.ca_file = Some(file("stranger.pem"))),
                "stranger.pem",
            ),
            (
                "a name",
                client(&world, &nomad, |c| c.tls.server_name = named("x.nomad")),
                "NOMAD_TLS_SERVER_NAME",
            ),
            ("no certificate", client(&world, &nomad, |c| identity(c, None)), "NOMAD_CLIENT_CERT"),
            ("an expired one", client(&world, &nomad, |c| identity(c, own("expired"))), "expired.pem"),
            ("a foreign one", client(&world, &nomad, |c| identity(c, own("foreign"))), "foreign.pem"),
            ("no TLS", client(&world, &plain, |_| {}), "https://"),
            ("no TLS there", client(&world, &proxy, |_| {}), "http://"),
        ];
        for (what, client, words) in &clients {
            let error = client.leader().await.expect_err(what).to_string();
            assert!(error.contains(words), "{what}: {error}");
        }
        client(&world, &nomad, |c| c.tls.server_name = named("server.global.nomad")).leader().await.unwrap();
    });
}

/// How many sessions live through the worst of days here: 200 by hand, see CONTRIBUTING.md.
fn many() -> usize {
    std::env::var("BIVOUAC_TEST_SESSIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

/// Every agent of the cluster, servers first.
fn agents(world: &World) -> Vec<&Agent> {
    let agents = world.site().agents();
    let clients = agents.clients().iter().flat_map(|client| [client.consul(), client.nomad()]);
    [agents.consul(), agents.nomad()].into_iter().chain(clients).collect()
}

/// Certificates of the agents and of the processes, from the authority that signs at present.
fn certify_all(world: &World) {
    let locks = world.site().locks().unwrap();
    for agent in agents(world) {
        let kind = match agent.name() {
            "consul-server" => "server.dc1.consul",
            "nomad-server" => "server.global.nomad",
            name if name.starts_with("consul") => "client.dc1.consul",
            _ => "client.global.nomad",
        };
        locks.issue(agent.name(), &[kind]).unwrap();
    }
    for role in [Role::Service, Role::Proxy] {
        world.doors().certify(world.site(), role, Validity::Good);
    }
}

/// All agents read their files again. One after the other in time: a Nomad agent that is told so again while it opens its
/// listener anew may be left without one.
async fn reload_all(world: &World) {
    agents(world).iter().for_each(|agent| agent.reload().unwrap());
    bivouac_tests::elapse(Duration::from_secs(1)).await;
    world.site().agents().wait_ready(SOON).await.unwrap();
}

async fn all_echo(sockets: &mut [(Session, Socket)], words: &str) {
    join_all(sockets.iter_mut().map(|(_, socket)| socket.echoes(words))).await;
}

#[test]
fn tokens_certificates_and_servers_are_replaced_under_load() {
    World::own_locked().unproxied().run(async |world| {
        let (nomad, consul, locks) = server(&world);
        // Not all at once: how a machine of two cores fares with hundreds of handshakes is another question.
        let mut sockets = Vec::new();
        while sockets.len() < many() {
            let first = sockets.len();
            let opened = (first..many().min(first + 20)).map(async |n| {
                let session = world.spawn(GUEST).key(&format!("doc-{n}")).idle_timeout("5s").await;
                let socket = session.websocket().await;
                (session, socket)
            });
            sockets.extend(join_all(opened).await);
        }
        all_echo(&mut sockets, "hello").await;

        // The tokens.
        let doors = world.doors();
        for granted in [&doors.service, &doors.proxy] {
            let url = format!("{consul}/v1/acl/token/{}", granted.accessor);
            locks.manage(Method::DELETE, &url, &Value::Null).await.unwrap();
        }
        let url = format!("{nomad}/v1/acl/token/{}", doors.nomad.accessor);
        locks.manage(Method::DELETE, &url, &Value::Null).await.unwrap();
        is_refused(&world, "consul", &[]).await;
        is_refused(&world, "nomad", &[]).await;
        all_echo(&mut sockets, "without any token").await;
        for (role, name) in [(Role::Service, "service"), (Role::Proxy, "proxy")] {
            let names = [format!("{}-{name}", world.prefix()), format!("{}-register-{name}", world.prefix())];
            let next = locks.consul_token(&consul, &names).await.unwrap();
            replace(&doors.consul_token_file(role), &next.secret).unwrap();
        }
        let text = rules("nomad/service.hcl", world.prefix(), SESSIONS);
        let next = locks.nomad_token(&nomad, &format!("{}-service", world.prefix()), &text).await.unwrap();
        replace(&doors.nomad_token_file(), &next.secret).unwrap();
        is_healed(&world, "with-other-tokens").await.stop().await;
        all_echo(&mut sockets, "with other tokens").await;

        // The authority: first it is trusted beside the old one, then it signs, then it is alone.
        locks.succeed().unwrap();
        reload_all(&world).await;
        certify_all(&world);
        reload_all(&world).await;
        is_healed(&world, "with-other-certificates").await.stop().await;
        locks.trust_the_newest().unwrap();
        reload_all(&world).await;
        is_healed(&world, "with-another-authority").await.stop().await;
        all_echo(&mut sockets, "with another authority").await;

        // The servers.
        world.site().agents().consul().restart().unwrap();
        world.site().agents().nomad().restart().unwrap();
        all_echo(&mut sockets, "without servers").await;
        world.site().agents().wait_ready(SOON).await.unwrap();
        is_healed(&world, "with-other-servers").await.stop().await;
        all_echo(&mut sockets, "through all of it").await;

        for (session, _) in &sockets {
            assert_eq!(session.state().await, "ready");
            assert_eq!(session.starts().len(), 1);
        }
        join_all(sockets.into_iter().map(async |(session, socket)| {
            socket.close().await;
            session.ended("idle").await;
        }))
        .await;
        world.nothing_runs().await;
    });
}

#[test]
fn a_service_that_is_not_trusted_says_so_and_heals() {
    World::locked().unproxied().run(async |world| {
        let own = world.doors().certified(Role::Service);
        let session = world.spawn(GUEST).key("doc").idle_timeout("60s").await;
        session.serves("/").await;
        let stranger = Authority::new("Bivouac's tests").unwrap();
        let read = |file: &PathBuf| std::fs::read_to_string(file).unwrap();
        let (certificate, key) = (read(&own.certificate), read(&own.key));
        stranger.issue(&own, &["service"], Validity::Good).unwrap();
        is_refused(&world, "nomad", &["does not accept our certificate", "service.pem"]).await;
        is_refused(&world, "consul", &["does not accept our certificate", "service.pem"]).await;
        spawns_wait(&world).await;
        session.serves("/").await;
        // Not in one moment: for a while certificate and key do not fit.
        replace(&own.certificate, &certificate).unwrap();
        spawns_wait(&world).await;
        replace(&own.key, &key).unwrap();
        is_healed(&world, "after").await;
        assert_eq!(session.starts().len(), 1);
    });
}
