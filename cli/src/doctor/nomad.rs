//! Nomad: reached, new enough, led, its event buffer, and each right that the service needs, tried without changing
//! anything.

use reqwest::Method;
use serde_json::{Value, json};

use super::Role;
use super::agents::{self, Agent, Heard, Silence};
use super::judge;
use super::report::Finding;

/// Major and minor number of the oldest that keeps a session of an unreachable node from being started twice.
const OLDEST: (u32, u32) = (1, 8);
/// Events that a server remembers by default are few: a service that was away for longer lists everything again.
const ROOMY_BUFFER: u64 = 1000;
/// A job that is never registered.
const PROBE: &str = "bivouac-doctor";

/// Looks at it. Returns the findings and, if it answered, one answer for the clocks.
pub(crate) async fn examine(
    agent: &Agent,
    role: Role,
    namespaces: &[String],
) -> (Vec<Finding>, Option<Heard>) {
    let leader = match agent.get(&["status", "leader"], &[]).await {
        Ok(leader) => leader,
        Err(silence) => {
            let fix = format!(
                "Start a Nomad agent, or set {} to one that is reached from here.",
                agent.target.address_variable
            );
            let found = format!("Nomad at {} does not answer: {}", agent.address, silence.0);
            return (vec![Finding::error("nomad.reachable", found, fix)], None);
        }
    };
    let mut findings = vec![
        Finding::ok("nomad.reachable", format!("Nomad answers at {}", agent.address)),
        judge::leader("nomad", &leader, "nothing is spawned"),
        token(agent).await,
    ];
    if leader.is_ok() {
        findings.extend(itself(agent).await);
        for namespace in namespaces {
            findings.extend(rights(agent, role, namespace).await);
        }
    }
    (findings, Some(leader))
}

async fn rights(agent: &Agent, role: Role, namespace: &str) -> Vec<Finding> {
    let within = [("namespace", namespace)];
    let list = agent.get(&["jobs"], &[within[0], ("per_page", "1")]).await;
    let read = agent.get(&["job", PROBE], &within).await;
    let mut findings = vec![
        may(list, "list jobs", "list-jobs", namespace),
        may(read, "read jobs", "read-job", namespace),
        events(agent, namespace).await,
    ];
    if role == Role::Service {
        findings.push(parse(agent, namespace).await);
        findings.push(plan(agent, namespace).await);
    }
    findings.extend(of_an_allocation(agent, role, namespace).await);
    findings
}

async fn token(agent: &Agent) -> Finding {
    const CHECK: &str = "nomad.token";
    const NO_ACLS: &str = "acls-disabled";
    let replace =
        format!("Put a valid token into {0} or the file that {0}_FILE names.", agent.target.token_variable);
    match agent.get(&["acl", "token", "self"], &[]).await {
        Err(silence) => Finding::error(CHECK, silence.0, "Look at the agent's log."),
        // What Nomad then shows is everybody's.
        Ok(heard) if heard.is_ok() && heard.json()["AccessorID"] != NO_ACLS && !agent.has_token => {
            Finding::error(CHECK, "there is no token, and Nomad's ACLs are on", replace)
        }
        Ok(heard) if heard.is_ok() && heard.json()["AccessorID"] != NO_ACLS => {
            match agents::time(&heard.json()["ExpirationTime"]) {
                None => Finding::ok(CHECK, "the token is valid and does not expire"),
                Some(end) => judge::expiry(CHECK, end, &replace),
            }
        }
        Ok(heard) if heard.is_ok() || heard.body.contains("ACL support disabled") => Finding::warning(
            CHECK,
            "ACLs are off: whoever reaches Nomad can run what they like",
            "Turn ACLs on and apply the policies of terraform/modules/access.",
        ),
        // A workload identity is no ACL token, and cannot be asked for here: the rights below tell.
        Ok(heard) if agent.has_token && heard.status != 403 => {
            Finding::ok(CHECK, "the token is a workload identity")
        }
        Ok(heard) if !agent.has_token => Finding::error(
            CHECK,
            format!("there is no token, and Nomad wants one ({})", heard.said()),
            replace,
        ),
        Ok(heard) => Finding::error(CHECK, format!("Nomad refuses the token ({})", heard.said()), replace),
    }
}

/// What the agent says of itself.
async fn itself(agent: &Agent) -> Vec<Finding> {
    let heard = match agent.get(&["agent", "self"], &[]).await {
        Ok(heard) if heard.is_ok() => heard,
        _ => {
            let why = "the token may not ask for it (agent policy \"read\")";
            return vec![
                Finding::skipped("nomad.version", why),
                Finding::skipped("nomad.events.buffer", why),
            ];
        }
    };
    let config = &heard.json()["config"];
    let version = config["Version"]["Version"].as_str().unwrap_or_default();
    let why = "keeping a session of an unreachable node from being started a second time";
    let mut findings = vec![judge::version("nomad.version", "Nomad", version, OLDEST, why)];
    findings.push(buffer(&config["Server"]));
    findings
}

fn buffer(server: &Value) -> Finding {
    const CHECK: &str = "nomad.events.buffer";
    if server["Enabled"] != Value::Bool(true) {
        return Finding::skipped(
            CHECK,
            "the agent is no server: ask one by NOMAD_ADDR to see its event buffer",
        );
    }
    match server["EventBufferSize"].as_u64() {
        Some(size) if size < ROOMY_BUFFER => Finding::warning(
            CHECK,
            format!(
                "the server remembers {size} events: a service that was away for more of them lists everything again"
            ),
            format!("Set event_buffer_size = {ROOMY_BUFFER} or more in the servers' `server` block."),
        ),
        Some(size) => Finding::ok(CHECK, format!("the server remembers {size} events")),
        None => Finding::skipped(CHECK, "the server does not tell the size of its event buffer"),
    }
}

async fn events(agent: &Agent, namespace: &str) -> Finding {
    let topics =
        [("topic", "Job"), ("topic", "Allocation"), ("topic", "Evaluation"), ("namespace", namespace)];
    let heard = agent.head_of(&["event", "stream"], &topics).await;
    may(heard, "follow the event stream", "read-job", namespace)
}

async fn parse(agent: &Agent, namespace: &str) -> Finding {
    let body = json!({"JobHCL": format!("job \"{PROBE}\" {{}}"), "Canonicalize": false});
    let heard = agent.send(Method::POST, &["jobs", "parse"], &[("namespace", namespace)], &body).await;
    may(heard, "parse jobs", "parse-job", namespace)
}

/// A plan is judged like a registration, and changes nothing.
async fn plan(agent: &Agent, namespace: &str) -> Finding {
    let task = json!({"Name": "probe", "Driver": "raw_exec", "Config": {"command": "true"}});
    let job = json!({
        "ID": PROBE, "Name": PROBE, "Type": "batch", "Namespace": namespace, "Datacenters": ["*"],
        "TaskGroups": [{"Name": "probe", "Count": 1, "Tasks": [task]}],
    });
    let heard = agent
        .send(
            Method::POST,
            &["job", PROBE, "plan"],
            &[("namespace", namespace)],
            &json!({"Job": job, "Diff": false}),
        )
        .await;
    may(heard, "submit jobs", "submit-job", namespace)
}

/// Rights that Nomad judges only for an allocation that exists: tried on a session's, with a task that does not.
async fn of_an_allocation(agent: &Agent, role: Role, namespace: &str) -> Vec<Finding> {
    let query = [("namespace", namespace), ("prefix", "session-")];
    let jobs = agent.get(&["jobs"], &query).await.map(|heard| heard.json()).unwrap_or_default();
    let live = jobs.as_array().into_iter().flatten().find(|job| job["Status"] == "running");
    let job = live.and_then(|job| job["ID"].as_str()).map(str::to_owned);
    let allocation = match &job {
        Some(job) => agent.get(&["job", job, "allocations"], &query[..1]).await.ok(),
        None => None,
    };
    let allocation = allocation.and_then(|heard| heard.json()[0]["ID"].as_str().map(str::to_owned));
    let Some(id) = allocation else {
        let why = "no session runs to try it on";
        let all = [Finding::skipped("nomad.read-logs", why), Finding::skipped("nomad.alloc-lifecycle", why)];
        return all.into_iter().take(if role == Role::Service { 2 } else { 1 }).collect();
    };
    let logs = [("task", PROBE), ("type", "stdout"), ("plain", "true"), ("namespace", namespace)];
    let read = agent.get(&["client", "fs", "logs", &id], &logs).await;
    let mut findings = vec![may(read, "read logs", "read-logs", namespace)];
    if role == Role::Service {
        let nobody = json!({"Task": PROBE, "Signal": "SIGCONT"});
        let path = ["client", "allocation", &id, "signal"];
        let signal = agent.send(Method::PUT, &path, &[("namespace", namespace)], &nobody).await;
        findings.push(may(signal, "signal allocations", "alloc-lifecycle", namespace));
    }
    findings
}

/// Everything but a refusal of the token shows that it was let through.
fn may(answer: Result<Heard, Silence>, what: &str, capability: &str, namespace: &str) -> Finding {
    let check = format!("nomad.{capability}");
    let refused =
        |heard: &Heard| matches!(heard.status, 401 | 403) || heard.body.contains("Permission denied");
    match answer {
        Ok(heard) if refused(&heard) => Finding::error(
            check,
            format!("the token may not {what} in namespace {namespace} ({})", heard.said()),
            format!(
                "Attach terraform/modules/access/policies/nomad/service.hcl for this namespace: it has \"{capability}\"."
            ),
        ),
        Ok(heard) if heard.body.contains("nonexistent namespace") => Finding::error(
            check,
            format!("namespace {namespace} does not exist in Nomad"),
            "Create it (`nomad namespace apply`), or give NOMAD_NAMESPACE another.",
        ),
        Ok(_) => Finding::ok(check, format!("the token may {what} in namespace {namespace}")),
        Err(silence) => {
            Finding::error(check, format!("cannot {what}: {}", silence.0), "Look at the agent's log.")
        }
    }
}
