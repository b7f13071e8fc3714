//! API tokens: who may do what, on every replica, and for how long.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use bivouac_tests::world::{Answer, GUEST, WAKING};
use bivouac_tests::{World, always, eventually};
use reqwest::Method;
use serde_json::{Value, json};

everywhere!(a_token_opens_what_its_scope_says, events_and_lists_are_of_the_scope);

/// What a revocation takes to reach every replica: a second, and slow machines.
const REVOKED_WITHIN: Duration = Duration::from_secs(4);

/// A token that was made by the command line, and where it is.
struct Token {
    text: String,
    file: PathBuf,
}

/// Makes one.
async fn token(world: &World, name: &str, flags: &[&str]) -> Token {
    let file = world.folder().join(format!("{name}.token"));
    let out = file.display().to_string();
    let args: Vec<&str> =
        ["token", "create", name, "--out", &out].into_iter().chain(flags.iter().copied()).collect();
    let made = world.bivouac(&args).await;
    assert!(made.status.success(), "{made:?}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = read(&file);
    is_not_told(&made, &text);
    Token { text, file }
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn is_not_told(output: &Output, token: &str) {
    let told = told(output);
    // `bvk_<name>_<secret>`; a secret may have underscores, too.
    assert!(!told.contains(token.splitn(3, '_').nth(2).unwrap()), "the secret is printed: {told}");
}

/// A call with another token than the world's own.
async fn ask(world: &World, token: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
    let request = world.http().request(method, format!("{}{path}", world.api_url())).bearer_auth(token);
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    Answer::to(request).await.expect("an answer")
}

async fn status(world: &World, token: &str) -> u16 {
    ask(world, token, Method::GET, "/v1/sessions", None).await.status
}

/// Waits until a replica refuses a token.
async fn is_refused(world: &World, token: &str) {
    eventually("the token is refused", REVOKED_WITHIN, async || {
        let answer = ask(world, token, Method::GET, "/v1/sessions", None).await;
        if answer.status == 401 { Ok(answer) } else { Err(format!("{} {}", answer.status, answer.body)) }
    })
    .await
    .is_problem(401, "unauthenticated");
}

async fn a_token_opens_what_its_scope_says(world: World) {
    let flags = [
        "--namespace",
        "team-*",
        "--template",
        GUEST,
        "--verb",
        "spawn",
        "--verb",
        "read",
        "--expires-in",
        "90d",
    ];
    let team = token(&world, "team", &flags).await;
    let spawn = async |body: Value| ask(&world, &team.text, Method::POST, "/v1/spawn", Some(body)).await;
    let spawned =
        spawn(json!({"template": GUEST, "namespace": "team-a", "key": "doc", "idle_timeout": "60s"})).await;
    assert_eq!(spawned.status, 201, "{spawned:?}");
    assert_eq!(spawned.json()["spawned_by"], "team");
    let id = spawned.json()["id"].as_str().unwrap().to_owned();

    for (body, part, name) in [
        (json!({"template": GUEST, "key": "doc"}), "namespace", "default"),
        (json!({"template": WAKING, "namespace": "team-a"}), "template", WAKING),
    ] {
        let refused = spawn(body).await;
        refused.is_problem(403, "forbidden");
        assert_eq!(refused.json()["missing"][part], name, "{refused:?}");
    }
    let refused = ask(&world, &team.text, Method::DELETE, &format!("/v1/sessions/{id}"), None).await;
    refused.is_problem(403, "forbidden");
    assert_eq!(refused.json()["missing"]["verb"], "stop", "{refused:?}");

    // By the command line with that token, as its holder does it.
    let file = team.file.display().to_string();
    let ls = world.command(&["ls", "--json", "--token-file", &file]).output().await.unwrap();
    assert!(told(&ls).contains(&id), "{ls:?}");
    let stop = world.command(&["stop", &id, "--token-file", &file]).output().await.unwrap();
    assert!(stop.status.code() == Some(1) && told(&stop).contains("verb stop"), "{stop:?}");
    is_not_told(&stop, &team.text);

    eventually("its use is noted", Duration::from_secs(10), async || {
        let listed = world.bivouac(&["token", "ls", "--json"]).await;
        is_not_told(&listed, &team.text);
        let listed: Value = serde_json::from_slice(&listed.stdout).map_err(|e| e.to_string())?;
        let used = listed["tokens"][0]["last_used_at"].is_string();
        if used { Ok(()) } else { Err(listed.to_string()) }
    })
    .await;
    if !world.is_embedded() {
        spawned_by_is_told(&world, &id).await;
        let document = world.document("tokens/team").await.unwrap();
        assert!(
            document["digest"].is_string() && !document.to_string().contains(&team.text[9..]),
            "{document}"
        );
    }
    let revoked = world.bivouac(&["token", "revoke", "team"]).await;
    assert!(revoked.status.success(), "{revoked:?}");
    is_refused(&world, &team.text).await;
    assert_eq!(world.bivouac(&["token", "revoke", "team"]).await.status.code(), Some(3));
}

/// In Nomad's job and in Consul's catalogue, where operators look.
async fn spawned_by_is_told(world: &World, id: &str) {
    let job = world.job(&format!("session-{id}-1")).await.unwrap();
    assert_eq!(job["Meta"]["bivouac_spawned_by"], "team", "{}", job["Meta"]);
    eventually("Consul tells who spawned it", Duration::from_secs(20), async || {
        let found = world.site().catalogue(&format!("session-{id}")).await?;
        match found.first().map(|entry| &entry["ServiceMeta"]["bivouac_spawned_by"]) {
            Some(name) if name == "team" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn events_and_lists_are_of_the_scope(world: World) {
    let theirs = world.spawn(GUEST).field("namespace", "theirs").key("doc").idle_timeout("60s").await;
    let mine = world.spawn(GUEST).field("namespace", "mine").key("doc").idle_timeout("60s").await;
    mine.ready().await;
    let token =
        token(&world, "mine", &["--namespace", "mine", "--verb", "read", "--verb", "stop"]).await.text;
    let listed = ask(&world, &token, Method::GET, "/v1/sessions", None).await.json();
    assert!(listed.to_string().contains(&mine.id) && !listed.to_string().contains(&theirs.id), "{listed}");
    let events = world.http().get(format!("{}/v1/events", world.api_url())).bearer_auth(&token);
    let mut events = events.send().await.unwrap();
    let stopped = ask(&world, &token, Method::DELETE, &format!("/v1/sessions/{}", theirs.id), None).await;
    stopped.is_problem(404, "session_unknown");
    theirs.stop().await;
    theirs.ended("requested").await;
    mine.stop().await;
    let mut seen = String::new();
    while !seen.contains("requested") {
        let chunk = events.chunk().await.unwrap().expect("the stream goes on");
        seen.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(seen.contains(&mine.id) && !seen.contains(&theirs.id), "{seen}");
    world.bivouac(&["token", "revoke", "mine"]).await;
    let ends = async { while events.chunk().await.unwrap().is_some() {} };
    tokio::time::timeout(REVOKED_WITHIN, ends).await.expect("the stream ends with its token");
}

#[test]
fn revoked_on_one_replica_it_is_refused_on_the_other() {
    World::cluster().replicas(2).run(async |world| {
        let other = world.asking(1);
        let ci = token(&world, "ci", &[]).await;
        assert_eq!(status(&other, &ci.text).await, 200, "what was made here opens there at once");

        let out = ci.file.display().to_string();
        let rotated =
            world.bivouac(&["token", "rotate", "ci", "--overlap", "60s", "--out", &out, "--json"]).await;
        let next = read(&ci.file);
        is_not_told(&rotated, &next);
        assert_ne!(next, ci.text);
        assert_eq!(status(&other, &next).await, 200);
        always("the old secret is accepted, too", Duration::from_secs(3), async || {
            match (status(&world, &ci.text).await, status(&other, &ci.text).await) {
                (200, 200) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        world.bivouac(&["token", "rotate", "ci", "--overlap", "0s", "--out", &out]).await;
        let last = read(&ci.file);
        for old in [&ci.text, &next] {
            is_refused(&world, old).await;
            is_refused(&other, old).await;
        }
        assert_eq!(status(&other, &last).await, 200);
        world.bivouac(&["token", "revoke", "ci"]).await;
        is_refused(&world, &last).await;
        is_refused(&other, &last).await;
    });
}

#[test]
fn an_expired_token_is_refused() {
    World::cluster().replicas(2).run(async |world| {
        let short = token(&world, "short", &["--expires-in", "3s"]).await.text;
        assert_eq!(status(&world, &short).await, 200);
        for world in [&world, &world.asking(1)] {
            eventually("it has expired", Duration::from_secs(8), async || {
                match status(world, &short).await {
                    401 => Ok(()),
                    other => Err(other.to_string()),
                }
            })
            .await;
        }
        let listed = world.bivouac(&["token", "ls"]).await;
        assert!(told(&listed).contains("EXPIRED"), "{listed:?}");
    });
}

#[test]
fn the_bootstrap_token_is_changed_without_a_restart() {
    World::cluster().run(async |world| {
        let file = world.folder().join("token.secret");
        let (old, new) = (world.token(), "a-new-bootstrap-token".to_owned());
        assert_eq!(status(&world, &new).await, 401);
        let becomes = async |content: &str, expected: (u16, u16)| {
            let next = file.with_extension("next");
            std::fs::write(&next, content).unwrap();
            std::fs::rename(&next, &file).unwrap();
            eventually("the file was read again", Duration::from_secs(10), async || {
                let seen = (status(&world, &old).await, status(&world, &new).await);
                if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) }
            })
            .await;
        };
        becomes(&format!("{new}\n{old}\n"), (200, 200)).await;
        becomes(&format!("{new}\n"), (401, 200)).await;
        std::fs::write(&file, "").unwrap();
        always("an empty file is not believed", Duration::from_secs(3), async || {
            match status(&world, &new).await {
                200 => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await;
    });
}

#[test]
fn while_the_ledger_is_away_only_the_bootstrap_token_opens() {
    World::cluster().run(async |world| {
        let ci = token(&world, "ci", &[]).await.text;
        assert_eq!(status(&world, &ci).await, 200);
        world.service(0).consul.refuse();
        eventually("what was known of it is too old", Duration::from_secs(10), async || {
            let answer = ask(&world, &ci, Method::GET, "/v1/sessions", None).await;
            if answer.status == 503 { Ok(answer) } else { Err(answer.status.to_string()) }
        })
        .await
        .is_problem(503, "ledger_unavailable");
        assert_eq!(status(&world, &world.token()).await, 200);
        let stranger = ask(&world, "bvk_nobody_x", Method::GET, "/v1/sessions", None).await;
        stranger.is_problem(401, "unauthenticated");
        world.service(0).consul.heal();
        eventually("it opens again", Duration::from_secs(10), async || match status(&world, &ci).await {
            200 => Ok(()),
            other => Err(other.to_string()),
        })
        .await;
    });
}
