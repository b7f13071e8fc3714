//! Consul: reached, new enough, led, and each right that we need, tried without leaving anything behind.

use bivouac_ledger::consul::PROBES;
use bivouac_ledger::directory::consul::service_name;
use bivouac_ledger::{installation, leader, members, records, tokens};
use reqwest::Method;
use serde_json::{Value, json};

use super::Role;
use super::agents::{self, Agent, Heard};
use super::judge;
use super::report::Finding;
use crate::environment::OLDEST_CONSUL;

/// Looks at it. Returns the findings and, if it answered, one answer for the clocks.
pub(crate) async fn examine(agent: &Agent, role: Role, prefix: &str) -> (Vec<Finding>, Option<Heard>) {
    let leader = match agent.get(&["status", "leader"], &[]).await {
        Ok(leader) => leader,
        Err(silence) => {
            let fix = format!(
                "Start a Consul agent on this host, or set {} to one that is reached from here.",
                agent.target.address_variable
            );
            let found = format!("Consul at {} does not answer: {}", agent.address, silence.0);
            return (vec![Finding::error("consul.reachable", found, fix)], None);
        }
    };
    let mut findings = vec![
        Finding::ok("consul.reachable", format!("Consul answers at {}", agent.address)),
        judge::leader("consul", &leader, "nothing is spawned or stopped for idleness"),
        token(agent).await,
    ];
    if leader.is_ok() {
        findings.push(version(agent).await);
        findings.push(may_read(agent, prefix).await);
        findings.extend(may_write_all(agent, &written_keys(role, prefix)).await);
        // Each role is asked for what it needs, and no more is granted to it: the service looks nothing up in the
        // catalogue, a proxy does not look who leads, and an operator changes nothing.
        if role != Role::Operator {
            findings.push(session(agent).await);
        }
        if role != Role::Service {
            findings.push(catalogue(agent, prefix).await);
        }
        if role != Role::Proxy {
            findings.push(bivouacs_leader(agent, prefix).await);
        }
    }
    (findings, Some(leader))
}

/// Whether the token is one, and for how long.
async fn token(agent: &Agent) -> Finding {
    const CHECK: &str = "consul.token";
    let replace =
        format!("Put a valid token into {0} or the file that {0}_FILE names.", agent.target.token_variable);
    match agent.get(&["acl", "token", "self"], &[]).await {
        Err(silence) => Finding::error(CHECK, silence.0, "Look at the agent's log."),
        // What Consul then shows is everybody's.
        Ok(heard) if heard.is_ok() && !agent.has_token => {
            Finding::error(CHECK, "there is no token, and Consul's ACLs are on", replace)
        }
        Ok(heard) if heard.is_ok() => match agents::time(&heard.json()["ExpirationTime"]) {
            None => Finding::ok(CHECK, "the token is valid and does not expire"),
            Some(end) => judge::expiry(CHECK, end, &replace),
        },
        Ok(heard) if heard.body.contains("ACL support disabled") => Finding::warning(
            CHECK,
            "ACLs are off: whoever reaches Consul can write the records that decide",
            "Turn ACLs on with default_policy = \"deny\" and apply the policies of terraform/modules/access.",
        ),
        Ok(heard) if !agent.has_token => Finding::error(
            CHECK,
            format!("there is no token, and Consul wants one ({})", heard.said()),
            replace,
        ),
        Ok(heard) => {
            Finding::error(CHECK, format!("Consul does not know the token ({})", heard.said()), replace)
        }
    }
}

async fn version(agent: &Agent) -> Finding {
    const CHECK: &str = "consul.version";
    match agent.get(&["agent", "self"], &[]).await {
        Ok(heard) if heard.is_ok() => {
            let json = heard.json();
            let version = json["Config"]["Version"].as_str().unwrap_or_default();
            judge::version(CHECK, "Consul", version, OLDEST_CONSUL, "transactions and ACL rules that we use")
        }
        // Not a right that service or proxy need.
        Ok(_) | Err(_) => Finding::skipped(CHECK, "the token may not ask for it (agent:read)"),
    }
}

async fn may_read(agent: &Agent, prefix: &str) -> Finding {
    let key = format!("{prefix}/{}", members::KEY);
    match agent.get(&["kv", &key], &[("consistent", "")]).await {
        Ok(heard) if heard.is_ok() || heard.status == 404 => {
            Finding::ok("consul.read", format!("the token may read {key}"))
        }
        answer => denied("consul.read", &format!("read {key}"), answer),
    }
}

/// What a process of this role writes, or has judged as if it did.
fn written_keys(role: Role, prefix: &str) -> Vec<String> {
    let below = |folder: &str| format!("{folder}doctor");
    let (record, proxy) = (below(records::PREFIX), below(members::PREFIX));
    let keys = match role {
        Role::Service => vec![
            leader::KEY.to_owned(),
            members::KEY.to_owned(),
            records::FLOOR_KEY.to_owned(),
            installation::KEY.to_owned(),
            record,
            proxy,
            below(tokens::PREFIX),
            below(PROBES),
        ],
        Role::Proxy => vec![members::KEY.to_owned(), proxy, record],
        Role::Operator => Vec::new(),
    };
    keys.iter().map(|key| format!("{prefix}/{key}")).collect()
}

/// One line if all may be written, else one for each that may not.
async fn may_write_all(agent: &Agent, keys: &[String]) -> Vec<Finding> {
    let mut refused = Vec::new();
    for key in keys {
        refused.extend(may_write(agent, key).await.err());
    }
    if refused.is_empty() && !keys.is_empty() {
        refused.push(Finding::ok("consul.write", format!("the token may write {}", keys.join(", "))));
    }
    refused
}

/// Whether a key may be written: by a transaction that contradicts itself, so that it is judged and never applied.
async fn may_write(agent: &Agent, key: &str) -> Result<(), Finding> {
    const CHECK: &str = "consul.write";
    let impossible = json!([
        {"KV": {"Verb": "set", "Key": key, "Value": ""}},
        {"KV": {"Verb": "check-not-exists", "Key": key}},
    ]);
    match agent.send(Method::PUT, &["txn"], &[], &impossible).await {
        Ok(heard) if heard.status == 409 && !heard.body.contains("Permission denied") => Ok(()),
        answer => Err(denied(CHECK, &format!("write {key}"), answer)),
    }
}

async fn session(agent: &Agent) -> Finding {
    const CHECK: &str = "consul.session";
    let wanted = json!({"Name": "bivouac doctor", "TTL": "10s", "LockDelay": "0s", "NodeChecks": []});
    match agent.send(Method::PUT, &["session", "create"], &[], &wanted).await {
        Ok(heard) if heard.is_ok() => {
            let id = heard.json()["ID"].as_str().unwrap_or_default().to_owned();
            match agent.send(Method::PUT, &["session", "destroy", &id], &[], &Value::Null).await {
                Ok(heard) if heard.is_ok() => {
                    Finding::ok(CHECK, "the token may open and close sessions, for the leader's lock")
                }
                // It ends by itself.
                answer => denied(CHECK, "close a session", answer),
            }
        }
        answer => denied(CHECK, "open a session", answer),
    }
}

async fn catalogue(agent: &Agent, prefix: &str) -> Finding {
    const CHECK: &str = "consul.catalogue";
    let service = service_name(prefix, "link");
    match agent.get(&["health", "service", &service], &[]).await {
        Ok(heard) if heard.is_ok() && !heard.filtered => match heard.json().as_array().map_or(0, Vec::len) {
            0 => Finding::warning(
                CHECK,
                format!("the catalogue is readable, and has no replica of {service}"),
                "Start the service: proxies find its replicas there. Or give --prefix, if it is another.",
            ),
            replicas => Finding::ok(CHECK, format!("the catalogue has {replicas} of {service}")),
        },
        Ok(heard) if heard.filtered => Finding::error(
            CHECK,
            format!("the token does not see all of {service} in the catalogue"),
            "Give it service_prefix \"\" or the name, and node_prefix \"\", with policy = \"read\".",
        ),
        answer => denied(CHECK, "read the catalogue", answer),
    }
}

/// Whether some replica leads: its lock is in the ledger.
async fn bivouacs_leader(agent: &Agent, prefix: &str) -> Finding {
    const CHECK: &str = "service.leader";
    let key = format!("{prefix}/{}", leader::KEY);
    match agent.get(&["kv", &key], &[("consistent", "")]).await {
        Ok(heard) if heard.is_ok() && heard.json()[0]["Session"].is_string() => {
            Finding::ok(CHECK, "a replica of the service leads")
        }
        Ok(heard) if heard.is_ok() || heard.status == 404 => Finding::error(
            CHECK,
            format!("no replica of the service leads: nobody holds the lock {key}"),
            "Start the service, or look into the log of one that runs. Until one leads, nothing is stopped for idleness \
             or at the end of its lifetime.",
        ),
        answer => denied(CHECK, &format!("read {key}"), answer),
    }
}

fn denied(check: &str, what: &str, answer: Result<Heard, agents::Silence>) -> Finding {
    match answer {
        Ok(heard) => Finding::error(
            check,
            format!("the token may not {what} ({})", heard.said()),
            "Attach the policy of terraform/modules/access/policies/consul for this role, with the prefix in use.",
        ),
        Err(silence) => {
            Finding::error(check, format!("cannot {what}: {}", silence.0), "Look at the agent's log.")
        }
    }
}
