//! What each part of an installation may do on a locked cluster and, row by row, what it may not. The rights are those of
//! `terraform/modules/access/policies`, and those that ask are Nomad and Consul themselves.

use std::time::Duration;

use bivouac_tests::agents::{OTHERS, SESSIONS, rules};
use bivouac_tests::world::GUEST;
use bivouac_tests::{World, eventually};
use reqwest::Method;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// What an agent makes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allowed,
    Denied,
}
use Verdict::{Allowed, Denied};

/// One call, in words, and as it is made.
struct Row {
    verdict: Verdict,
    what: &'static str,
    method: Method,
    path: String,
    body: Option<Value>,
}

fn row(verdict: Verdict, what: &'static str, method: Method, path: impl Into<String>) -> Row {
    Row { verdict, what, method, path: path.into(), body: None }
}

impl Row {
    fn with(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }
}

/// Makes each call with the token and compares; all that differ are told at once.
async fn hold(world: &World, whose: &str, token: &str, agent: &str, rows: Vec<Row>) {
    let mut wrong = Vec::new();
    for row in rows {
        let url = format!("{agent}{}", row.path);
        let call = world.site().locks().unwrap().call_as(Some(token), row.method, &url, row.body.as_ref());
        let reply = call.await.unwrap();
        let refused = ["Permission denied", "permission denied", "not found", "ACL not found"];
        let body = reply.body.trim();
        let verdict = match reply.status {
            401 | 403 => Denied,
            409 | 500 if refused.iter().any(|words| body.contains(words)) => Denied,
            // What may not be read is left out; here it is there.
            404 => Denied,
            200 if matches!(body, "[]" | "{}" | "null") => Denied,
            200..300 => Allowed,
            _ => panic!("{whose}: {}: {} {body}", row.what, reply.status),
        };
        if verdict != row.verdict {
            wrong.push(format!("{} is {verdict:?}: {} {body}", row.what, reply.status));
        }
    }
    assert!(wrong.is_empty(), "{whose}:\n{}", wrong.join("\n"));
}

/// A key of each kind.
const KEYS: [&str; 7] =
    ["sessions/a", "members", "proxies/a", "tokens/a", "leader", "generation_floor", "revoked/a/b"];

/// Keys and services that are there to be read, or not.
async fn furnish(world: &World, keys: &[&str]) {
    let (site, prefix) = (world.site(), world.prefix());
    let locks = site.locks().unwrap();
    let consul = site.consul_url();
    for key in keys {
        let url = format!("{consul}/v1/kv/{prefix}/{key}");
        locks.manage(Method::PUT, &url, &json!({})).await.unwrap();
    }
    locks.manage(Method::PUT, &format!("{consul}/v1/kv/elsewhere/{prefix}"), &json!({})).await.unwrap();
    for name in [format!("{prefix}-link"), format!("session-{prefix}"), format!("web-{prefix}")] {
        let service = json!({ "ID": name, "Name": name, "Address": "127.0.0.1", "Port": 1 });
        site.register(&service).await.unwrap();
    }
}

fn service_named(name: &str) -> Value {
    json!({ "ID": format!("{name}-mine"), "Name": name, "Port": 1 })
}

/// A transaction that writes this key.
fn write(key: &str) -> Value {
    json!([{ "KV": { "Verb": "set", "Key": key, "Value": "e30=" } }])
}

#[test]
fn the_service_in_consul() {
    World::locked().replicas(0).proxies(0).run(async |world| {
        furnish(&world, &KEYS).await;
        let prefix = world.prefix();
        let put = |verdict, what, key: &str| {
            row(verdict, what, Method::PUT, format!("/v1/kv/{key}")).with(json!({}))
        };
        let get = |verdict, what, path: String| row(verdict, what, Method::GET, path);
        let register = |verdict, what, name: &str| {
            row(verdict, what, Method::PUT, "/v1/agent/service/register").with(service_named(name))
        };
        let rows = vec![
            put(Allowed, "write a record", &format!("{prefix}/sessions/b")),
            put(Allowed, "write a token's hash", &format!("{prefix}/tokens/b")),
            put(Allowed, "raise the floor", &format!("{prefix}/generation_floor")),
            get(Allowed, "read a token's hash", format!("/v1/kv/{prefix}/tokens/a")),
            get(Allowed, "list all records", format!("/v1/kv/{prefix}/sessions/?recurse")),
            row(Allowed, "open a session", Method::PUT, "/v1/session/create")
                .with(json!({ "NodeChecks": [] })),
            register(Allowed, "register itself", &format!("{prefix}-service")),
            register(Allowed, "register its link", &format!("{prefix}-link")),
            put(Denied, "write another key", &format!("elsewhere/{prefix}")),
            put(Denied, "write beside its folder", &format!("{prefix}x")),
            get(Denied, "read another key", format!("/v1/kv/elsewhere/{prefix}")),
            get(Denied, "list all keys", "/v1/kv/elsewhere?recurse".to_owned()),
            row(Denied, "write another key in a transaction", Method::PUT, "/v1/txn")
                .with(write(&format!("elsewhere/{prefix}"))),
            register(Denied, "register a session", &format!("session-{prefix}")),
            register(Denied, "register a proxy", &format!("{prefix}-proxy")),
            register(Denied, "register anything else", &format!("web-{prefix}")),
            row(
                Denied,
                "deregister a session",
                Method::PUT,
                format!("/v1/agent/service/deregister/session-{prefix}"),
            ),
            get(Denied, "see policies", "/v1/acl/policies".to_owned()),
            row(Denied, "make a token", Method::PUT, "/v1/acl/token").with(json!({})),
            row(Denied, "fire an event", Method::PUT, "/v1/event/fire/x"),
            row(Denied, "have the agent leave", Method::PUT, "/v1/agent/leave"),
        ];
        hold(&world, "the service", &world.doors().service.secret, &world.site().consul_url(), rows).await;
    });
}

#[test]
fn a_proxy_in_consul() {
    World::locked().replicas(0).proxies(0).run(async |world| {
        furnish(&world, &KEYS).await;
        let prefix = world.prefix();
        let put = |verdict, what, key: &str| {
            row(verdict, what, Method::PUT, format!("/v1/kv/{prefix}/{key}")).with(json!({}))
        };
        let get = |verdict, what, path: String| row(verdict, what, Method::GET, path);
        let register = |verdict, what, name: &str| {
            row(verdict, what, Method::PUT, "/v1/agent/service/register").with(service_named(name))
        };
        let rows = vec![
            put(Allowed, "join the members", "members"),
            put(Allowed, "write its own document", "proxies/b"),
            // The revision of a record, so that a leader that it has lost cannot commit: Consul knows no narrower right.
            put(Allowed, "raise a record's revision", "sessions/a"),
            get(Allowed, "read a record", format!("/v1/kv/{prefix}/sessions/a")),
            row(Allowed, "open its session", Method::PUT, "/v1/session/create")
                .with(json!({ "NodeChecks": [] })),
            register(Allowed, "register itself", &format!("{prefix}-proxy")),
            get(Allowed, "see where links are", format!("/v1/health/service/{prefix}-link")),
            get(Allowed, "see where a session is", format!("/v1/catalog/service/session-{prefix}")),
            get(Denied, "read a token's hash", format!("/v1/kv/{prefix}/tokens/a")),
            get(Denied, "list tokens", format!("/v1/kv/{prefix}/tokens/?recurse")),
            put(Denied, "write a token's hash", "tokens/b"),
            put(Denied, "write the leader's key", "leader"),
            row(Denied, "write the leader's key in a transaction", Method::PUT, "/v1/txn")
                .with(write(&format!("{prefix}/leader"))),
            put(Denied, "raise the floor", "generation_floor"),
            put(Denied, "forget a revocation", "revoked/a/b"),
            row(Denied, "write another key", Method::PUT, format!("/v1/kv/elsewhere/{prefix}"))
                .with(json!({})),
            get(Denied, "read another key", format!("/v1/kv/elsewhere/{prefix}")),
            register(Denied, "register a service", &format!("{prefix}-service")),
            register(Denied, "register a link", &format!("{prefix}-link")),
            register(Denied, "register a session", &format!("session-{prefix}")),
            row(
                Denied,
                "deregister a session",
                Method::PUT,
                format!("/v1/agent/service/deregister/session-{prefix}"),
            ),
            get(Denied, "see another service", format!("/v1/catalog/service/web-{prefix}")),
            get(Denied, "see policies", "/v1/acl/policies".to_owned()),
            row(Denied, "make a token", Method::PUT, "/v1/acl/token").with(json!({})),
        ];
        hold(&world, "a proxy", &world.doors().proxy.secret, &world.site().consul_url(), rows).await;
    });
}

/// A job of no use, in a namespace.
fn job(world: &World, namespace: &str) -> Value {
    let task = json!({ "Name": "t", "Driver": "raw_exec", "Config": { "command": "true" } });
    json!({
        "ID": format!("session-{}", world.prefix()), "Name": "x", "Type": "batch", "Namespace": namespace,
        "Datacenters": ["dc1"], "TaskGroups": [{ "Name": "g", "Tasks": [task] }]
    })
}

#[test]
fn the_service_in_nomad() {
    World::locked().replicas(0).proxies(0).run(async |world| {
        let locks = world.site().locks().unwrap();
        let nomad = world.site().agents().nomad().url();
        for namespace in [OTHERS, "default"] {
            let url = format!("{nomad}/v1/jobs?namespace={namespace}");
            locks.manage(Method::PUT, &url, &json!({ "Job": job(&world, namespace) })).await.unwrap();
        }
        let variable = json!({ "Path": "secret", "Items": { "a": "b" } });
        let secret = format!("{nomad}/v1/var/secret?namespace={SESSIONS}");
        locks.manage(Method::PUT, &secret, &variable).await.unwrap();

        let id = format!("session-{}", world.prefix());
        let get = |verdict, what, path: String| row(verdict, what, Method::GET, path);
        let register = |verdict, what, namespace: &str| {
            row(verdict, what, Method::PUT, format!("/v1/jobs?namespace={namespace}"))
                .with(json!({ "Job": job(&world, namespace) }))
        };
        let mut rows = vec![
            row(Allowed, "parse a job", Method::PUT, format!("/v1/jobs/parse?namespace={SESSIONS}"))
                .with(json!({ "JobHCL": "job \"x\" {}" })),
            row(Allowed, "have a job validated", Method::PUT, "/v1/validate/job")
                .with(json!({ "Job": job(&world, SESSIONS) })),
            register(Allowed, "register a session", SESSIONS),
            get(Allowed, "list sessions", format!("/v1/jobs?namespace={SESSIONS}")),
            get(Allowed, "read a session's job", format!("/v1/job/{id}?namespace={SESSIONS}")),
            row(Allowed, "stop a session", Method::DELETE, format!("/v1/job/{id}?namespace={SESSIONS}")),
            get(Allowed, "see Nomad's version", "/v1/agent/self".to_owned()),
            get(Denied, "read secrets", format!("/v1/var/secret?namespace={SESSIONS}")),
            get(Denied, "see nodes", "/v1/nodes".to_owned()),
            get(Denied, "see tokens", "/v1/acl/tokens".to_owned()),
            row(Denied, "make a token", Method::PUT, "/v1/acl/token").with(json!({ "Type": "management" })),
            row(Denied, "make a namespace", Method::PUT, "/v1/namespace/mine")
                .with(json!({ "Name": "mine" })),
            get(Denied, "see the scheduler's settings", "/v1/operator/scheduler/configuration".to_owned()),
            row(Denied, "collect garbage", Method::PUT, "/v1/system/gc"),
        ];
        for namespace in [OTHERS, "default"] {
            rows.extend([
                get(Denied, "list jobs elsewhere", format!("/v1/jobs?namespace={namespace}")),
                get(Denied, "read a job elsewhere", format!("/v1/job/{id}?namespace={namespace}")),
                get(
                    Denied,
                    "see allocations elsewhere",
                    format!("/v1/job/{id}/allocations?namespace={namespace}"),
                ),
                register(Denied, "register a job elsewhere", namespace),
                row(
                    Denied,
                    "stop a job elsewhere",
                    Method::DELETE,
                    format!("/v1/job/{id}?namespace={namespace}"),
                ),
            ]);
        }
        hold(&world, "the service", &world.doors().nomad.secret, &nomad, rows).await;
        for namespace in [OTHERS, "default"] {
            let url = format!("{nomad}/v1/job/{id}?namespace={namespace}");
            locks.manage(Method::GET, &url, &Value::Null).await.expect("it was not stopped");
            let purge = format!("{url}&purge=true");
            locks.manage(Method::DELETE, &purge, &Value::Null).await.unwrap();
        }
    });
}

/// Only where sessions run may a job register a service by a session's name: who may register jobs elsewhere would be
/// sent what is meant for a session.
#[test]
fn a_job_elsewhere_that_calls_itself_a_session() {
    World::locked().replicas(0).proxies(0).run(async |world| {
        let (site, nomad) = (world.site(), world.site().agents().nomad().url());
        let locks = site.locks().unwrap();
        let name = format!("session-{}", world.prefix());
        for namespace in [OTHERS, SESSIONS] {
            let mut job = job(&world, namespace);
            let group = &mut job["TaskGroups"][0];
            group["Services"] = json!([{ "Name": name, "Provider": "consul" }]);
            group["RestartPolicy"] = json!({ "Attempts": 0, "Mode": "fail" });
            group["ReschedulePolicy"] = json!({ "Attempts": 0, "Unlimited": false });
            group["Tasks"][0]["Config"] = json!({ "command": "sleep", "args": ["600"] });
            let url = format!("{nomad}/v1/jobs?namespace={namespace}");
            locks.manage(Method::PUT, &url, &json!({ "Job": job })).await.unwrap();
            let of_job = format!("{nomad}/v1/job/{name}");
            let url = format!("{of_job}/allocations?namespace={namespace}");
            let expected = if namespace == SESSIONS { "running" } else { "failed" };
            eventually(format!("the job in {namespace} is {expected}"), SOON, async || {
                let allocations =
                    locks.manage(Method::GET, &url, &Value::Null).await.map_err(|error| error.to_string())?;
                if allocations[0]["ClientStatus"] == expected { Ok(()) } else { Err(allocations.to_string()) }
            })
            .await;
            if namespace == SESSIONS {
                eventually("its service is there", SOON, async || match site.catalogue(&name).await {
                    Ok(found) if found.is_empty() => Err("none".to_owned()),
                    Ok(_) => Ok(()),
                    Err(error) => Err(error.to_string()),
                })
                .await;
            } else {
                assert_eq!(site.catalogue(&name).await.unwrap(), Vec::<Value>::new());
            }
            let purge = format!("{of_job}?namespace={namespace}&purge=true");
            locks.manage(Method::DELETE, &purge, &Value::Null).await.unwrap();
        }
    });
}

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

        let job = format!("session-{}-1", other.id);
        let rows = vec![
            get("list sessions", format!("/v1/jobs?namespace={SESSIONS}")),
            get("read another session's job", format!("/v1/job/{job}?namespace={SESSIONS}")),
            row(
                Denied,
                "stop another session",
                Method::DELETE,
                format!("/v1/job/{job}?namespace={SESSIONS}"),
            ),
            row(Denied, "register a job", Method::PUT, format!("/v1/jobs?namespace={SESSIONS}"))
                .with(json!({ "Job": self::job(&world, SESSIONS) })),
            get("read secrets", format!("/v1/var/secret?namespace={SESSIONS}")),
            get("see nodes", "/v1/nodes".to_owned()),
        ];
        hold(&world, "a session in Nomad", token("NOMAD_TOKEN"), &nomad, rows).await;
        other.serves("/").await;
        session.serves("/").await;
    });
}
