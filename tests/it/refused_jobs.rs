//! Jobs that the cluster refuses, or has no place for: a spawn says which, and what to do.

use std::time::Duration;

use bivouac_tests::world::{DEMANDING, Setup};
use bivouac_tests::{World, eventually};
use reqwest::Method;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

/// A world whose template asks for what is not there.
fn asks_for(variable: &str, value: &str) -> Setup {
    World::cluster().service_flag("template-var", &format!("{DEMANDING}.{variable}={value}"))
}

/// A spawn that waits hears of the reason.
async fn is_told(world: &World, code: &str, said: &[&str]) {
    let answer = world.spawn(DEMANDING).startup_timeout("2s").wait_ready().send().await.unwrap();
    answer.is_problem(502, "start_failed");
    let problem = answer.json();
    assert_eq!(problem["reason"]["code"], code, "{problem}");
    for text in said {
        assert!(problem["detail"].as_str().unwrap().contains(text), "{text:?} in {problem}");
    }
    world.nothing_runs().await;
}

/// A spawn of a template that cannot work is refused at once.
async fn is_disabled(world: &World, said: &[&str]) {
    let answer = world.spawn(DEMANDING).send().await.unwrap();
    answer.is_problem(409, "template_disabled");
    for text in said {
        assert!(answer.body.contains(text), "{text:?} in {}", answer.body);
    }
    assert_eq!(world.jobs().await.unwrap(), Vec::<Value>::new());
}

#[test]
fn a_driver_that_no_node_has() {
    asks_for("driver", "docker").run(async |world| {
        is_told(&world, "no_capacity", &["driver (\"docker\")", "enable it in the client's configuration"])
            .await;
    });
}

#[test]
fn more_memory_than_there_is() {
    asks_for("memory", "900000").run(async |world| {
        is_told(&world, "no_capacity", &["memory exhausted on 1 node", "ask for less"]).await;
    });
}

#[test]
fn a_node_pool_that_does_not_exist() {
    asks_for("pool", "nowhere").run(async |world| {
        is_disabled(&world, &["nonexistent node pool", "nowhere", "create that node pool"]).await;
    });
}

#[test]
fn a_namespace_that_does_not_exist() {
    asks_for("namespace", "nowhere").run(async |world| {
        is_disabled(&world, &["nonexistent namespace", "nowhere", "create that Nomad namespace"]).await;
    });
}

/// The namespace goes after the template was loaded, and the driver is taken from it: every spawn says so.
#[test]
fn a_namespace_that_changes() {
    let name = format!("team-{}", std::process::id());
    asks_for("namespace", &name).run(async |world| {
        is_disabled(&world, &["nonexistent namespace"]).await;
        world
            .site()
            .tell_nomad(Method::PUT, &format!("/v1/namespace/{name}"), &json!({ "Name": name }))
            .await;
        eventually("the template is usable without a restart", SOON, async || {
            let templates = world.get("/v1/templates").await?.json()["templates"].clone();
            let template =
                templates.as_array().and_then(|all| all.iter().find(|it| it["name"] == DEMANDING).cloned());
            if template.as_ref().is_some_and(|it| it["enabled"] == true) {
                Ok(())
            } else {
                Err(format!("{template:?}"))
            }
        })
        .await;
        let session = world.spawn(DEMANDING).idle_timeout("1s").await;
        session.ready().await;
        session.ended("idle").await;
        let no_driver = json!({ "Name": name, "Capabilities": { "DisabledTaskDrivers": ["raw_exec"] } });
        world.site().tell_nomad(Method::PUT, &format!("/v1/namespace/{name}"), &no_driver).await;
        is_told(&world, "start_failed", &["\"raw_exec\" is not allowed in namespace", "capabilities"]).await;
        world.site().tell_nomad(Method::DELETE, &format!("/v1/namespace/{name}"), &Value::Null).await;
        is_told(&world, "start_failed", &["nonexistent namespace", "create that Nomad namespace"]).await;
    });
}
