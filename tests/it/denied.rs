//! What each part of an installation may do on a locked cluster and, row by row, what it may not. The rights are those of
//! `terraform/modules/access/policies`, and those that ask are Nomad and Consul themselves.

mod consul;
mod nomad;
mod session;

use bivouac_tests::World;
use reqwest::Method;
use serde_json::{Value, json};

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
const KEYS: [&str; 8] = [
    "sessions/a",
    "members",
    "proxies/a",
    "tokens/a",
    "leader",
    "generation_floor",
    "revoked/a/b",
    "tickets/keys",
];

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

/// A job of no use, in a namespace.
fn job(world: &World, namespace: &str) -> Value {
    let task = json!({ "Name": "t", "Driver": "raw_exec", "Config": { "command": "true" } });
    json!({
        "ID": format!("session-{}", world.prefix()), "Name": "x", "Type": "batch", "Namespace": namespace,
        "Datacenters": ["dc1"], "TaskGroups": [{ "Name": "g", "Tasks": [task] }]
    })
}
