//! Templates that change while the service runs.

use std::path::PathBuf;
use std::time::Duration;

use bivouac_tests::World;
use bivouac_tests::eventually;
use bivouac_tests::world::GUEST;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

everywhere!(a_changed_template_is_taken_without_a_restart, a_template_that_turns_bad_stays_as_it_was);

fn file(world: &World) -> PathBuf {
    world.templates().join(GUEST).join("template.toml")
}

/// A whole file at once, as Nomad renders it.
fn write(world: &World, text: &str) {
    let unfinished = file(world).with_extension("new");
    std::fs::write(&unfinished, text).unwrap();
    std::fs::rename(unfinished, file(world)).unwrap();
}

async fn listed(world: &World, name: &str) -> Value {
    let all = world.get("/v1/templates").await.unwrap().json();
    all["templates"].as_array().unwrap().iter().find(|one| one["name"] == name).cloned().unwrap_or_default()
}

async fn a_changed_template_is_taken_without_a_restart(world: World) {
    let before = listed(&world, GUEST).await;
    let earlier = world.spawn(GUEST).field("idle_timeout", "10m").await;
    let text = std::fs::read_to_string(file(&world)).unwrap();
    write(&world, &text.replace(r#"max = "10m" }"#, r#"max = "9m" }"#));
    let after = eventually("the change is taken", SOON, async || {
        let now = listed(&world, GUEST).await;
        if now["hash"] == before["hash"] { Err(now.to_string()) } else { Ok(now) }
    })
    .await;
    assert_eq!((&after["idle_timeout"]["max"], &after["enabled"]), (&"9m".into(), &true.into()), "{after}");
    world.spawn(GUEST).field("idle_timeout", "10m").send().await.unwrap().is_problem(422, "invalid_field");
    let later = world.spawn(GUEST).field("idle_timeout", "9m").await;
    for session in [&earlier, &later] {
        session.serves("/").await;
    }
    let view = earlier.view().await;
    assert_eq!(
        view["policy"]["idle_timeout"], "10m",
        "a running session keeps what it was started with: {view}"
    );
}

async fn a_template_that_turns_bad_stays_as_it_was(world: World) {
    let before = listed(&world, GUEST).await;
    let text = std::fs::read_to_string(file(&world)).unwrap();
    let readiness = async || world.get("/readyz").await.map(|answer| (answer.status, answer.body));
    write(&world, "access = ");
    eventually("readiness says what is wrong", SOON, async || {
        let (status, body) = readiness().await?;
        assert_eq!(status, 200, "it is as ready as before: {body}");
        if body.contains("template.toml:1:10") { Ok(()) } else { Err(body) }
    })
    .await;
    assert_eq!(listed(&world, GUEST).await, before);
    world.spawn(GUEST).await.serves("/").await;
    write(&world, &text);
    eventually("it is whole again", SOON, async || {
        let (_, body) = readiness().await?;
        if body.contains("not in force") { Err(body) } else { Ok(()) }
    })
    .await;
}
