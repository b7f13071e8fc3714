//! What the service and a proxy may do in Consul.

use bivouac_tests::World;
use reqwest::Method;
use serde_json::json;

use super::Verdict::{Allowed, Denied};
use super::{KEYS, furnish, hold, row, service_named, write};

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
            get(Allowed, "read revocations", format!("/v1/kv/{prefix}/revoked/?recurse")),
            put(Denied, "forget a revocation", "revoked/a/b"),
            get(Allowed, "read the ticket keys", format!("/v1/kv/{prefix}/tickets/keys")),
            put(Denied, "add a ticket key", "tickets/keys"),
            put(Allowed, "note that a link was used", "tickets/used/a"),
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
