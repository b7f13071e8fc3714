//! What the service may do in Nomad, and what becomes of jobs that call themselves sessions.

use std::time::Duration;

use bivouac_tests::agents::{OTHERS, SESSIONS};
use bivouac_tests::{World, eventually};
use reqwest::Method;
use serde_json::{Value, json};

use super::Verdict::{Allowed, Denied};
use super::{hold, job, row};

const SOON: Duration = Duration::from_secs(60);

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
