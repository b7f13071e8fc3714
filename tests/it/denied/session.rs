//! What a session may do with identities of its own, if its template asks for them.

use bivouac_tests::World;
use bivouac_tests::agents::{SESSIONS, rules};
use bivouac_tests::world::GUEST;
use reqwest::Method;
use serde_json::{Value, json};

use super::Verdict::Denied;
use super::{furnish, hold, job, row, service_named, write};

/// A template whose task asks for all identities that there are. None is given unless it asks.
fn identified(world: &World) {
    let (from, to) = (world.templates().join(GUEST), world.templates().join("identified"));
    std::fs::create_dir_all(&to).unwrap();
    std::fs::copy(from.join("template.toml"), to.join("template.toml")).unwrap();
    let job = std::fs::read_to_string(from.join("job.nomad.hcl")).unwrap();
    let driver = "driver = \"raw_exec\"";
    let asking =
        job.replace(driver, &format!("{driver}\n      consul {{}}\n      identity {{ env = true }}"));
    assert_ne!(asking, job);
    std::fs::write(to.join("job.nomad.hcl"), asking).unwrap();
}

#[test]
fn a_session_with_its_own_identity() {
    World::locked().replicas(0).run(async |world| {
        let (site, prefix) = (world.site(), world.prefix());
        let (consul, nomad) = (site.consul_url(), site.agents().nomad().url());
        let locks = site.locks().unwrap();
        let (policy, server) = (format!("{prefix}-sessions"), site.agents().consul().url());
        locks.policy(&server, &policy, &rules("consul/sessions.hcl", prefix, SESSIONS)).await.unwrap();
        locks.bind_sessions(&server, &policy).await.unwrap();
        // Others would not be understood by the service that runs here.
        furnish(&world, &["revoked/a/b"]).await;
        identified(&world);
        world.start_a_replica().await;
        let other = world.spawn(GUEST).idle_timeout("60s").await;
        other.serves("/").await;
        let session = world.spawn("identified").idle_timeout("60s").await;
        let environment = session.serves("/env").await.json();
        let bare = other.serves("/env").await.json();
        let secrets = |environment: &Value| {
            let named = |name: &&String| name.contains("TOKEN") || name.contains("SECRET_ID");
            environment.as_object().unwrap().keys().filter(named).cloned().collect::<Vec<_>>()
        };
        assert_eq!(
            secrets(&bare),
            Vec::<String>::new(),
            "a session has no token unless its template asks for one"
        );
        let token =
            |name: &str| environment[name].as_str().unwrap_or_else(|| panic!("no {name}: {environment}"));

        let put = |what, key: &str| row(Denied, what, Method::PUT, format!("/v1/kv/{key}")).with(json!({}));
        let get = |what, path: String| row(Denied, what, Method::GET, path);
        let register = |what, name: &str| {
            row(Denied, what, Method::PUT, "/v1/agent/service/register").with(service_named(name))
        };
        let own = format!("session-{}", session.id);
        let others = site.catalogue(&format!("session-{}", other.id)).await.unwrap().remove(0);
        let registered = others["ServiceID"].as_str().unwrap().to_owned();
        let rows = vec![
            put("write its own record", &format!("{prefix}/sessions/{}", session.id)),
            put("write the members", &format!("{prefix}/members")),
            put("write a token's hash", &format!("{prefix}/tokens/b")),
            get("read its own record", format!("/v1/kv/{prefix}/sessions/{}", session.id)),
            get("list records", format!("/v1/kv/{prefix}/?recurse")),
            get("read a revocation", format!("/v1/kv/{prefix}/revoked/a/b")),
            row(Denied, "write in a transaction", Method::PUT, "/v1/txn")
                .with(write(&format!("{prefix}/leader"))),
            row(Denied, "open a session", Method::PUT, "/v1/session/create").with(json!({})),
            register("register itself again", &own),
            register("register another session", &format!("session-{}", other.id)),
            register("register a link", &format!("{prefix}-link")),
            row(
                Denied,
                "deregister another",
                Method::PUT,
                format!("/v1/agent/service/deregister/{registered}"),
            ),
            get("see where the service is", format!("/v1/catalog/service/{prefix}-link")),
            row(Denied, "make a token", Method::PUT, "/v1/acl/token").with(json!({})),
        ];
        hold(&world, "a session in Consul", token("CONSUL_TOKEN"), &consul, rows).await;

        let others_job = format!("session-{}-1", other.id);
        let rows = vec![
            get("list sessions", format!("/v1/jobs?namespace={SESSIONS}")),
            get("read another session's job", format!("/v1/job/{others_job}?namespace={SESSIONS}")),
            row(
                Denied,
                "stop another session",
                Method::DELETE,
                format!("/v1/job/{others_job}?namespace={SESSIONS}"),
            ),
            row(Denied, "register a job", Method::PUT, format!("/v1/jobs?namespace={SESSIONS}"))
                .with(json!({ "Job": job(&world, SESSIONS) })),
            get("read secrets", format!("/v1/var/secret?namespace={SESSIONS}")),
            get("see nodes", "/v1/nodes".to_owned()),
        ];
        hold(&world, "a session in Nomad", token("NOMAD_TOKEN"), &nomad, rows).await;
        other.serves("/").await;
        session.serves("/").await;
    });
}
