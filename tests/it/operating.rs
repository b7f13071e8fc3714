//! Starting and stopping the processes, and the command line.

use std::time::{Duration, Instant};

use bivouac_tests::World;
use bivouac_tests::world::{GUEST, WAKING};
use serde_json::Value;

everywhere!(the_command_line_tells_and_does_the_same, a_broken_template_fails_the_start);

async fn the_command_line_tells_and_does_the_same(world: World) {
    let spawned =
        world.bivouac(&["spawn", GUEST, "--key", "doc-1", "--idle-timeout", "60s", "--wait", "--json"]).await;
    assert!(spawned.status.success(), "{spawned:?}");
    let view: Value = serde_json::from_slice(&spawned.stdout).unwrap();
    assert_eq!((&view["spawned"], &view["state"]), (&true.into(), &"ready".into()));
    let id = view["id"].as_str().unwrap();
    let again = world.bivouac(&["spawn", GUEST, "--key", "doc-1"]).await;
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(text.contains(view["url"].as_str().unwrap()), "{text}");

    let listed = world.bivouac(&["ls", "--json"]).await;
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert!(listed.to_string().contains(id), "{listed}");
    let listed = world.bivouac(&["ls"]).await;
    assert!(String::from_utf8_lossy(&listed.stdout).contains("doc-1"), "{listed:?}");
    for name in [id, "doc-1"] {
        let status = world.bivouac(&["status", name, "--json"]).await;
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        assert_eq!(status["id"], id);
        assert!(world.bivouac(&["status", name]).await.status.success());
    }
    let members = world.bivouac(&["members", "ls", "--json"]).await;
    assert!(members.status.success(), "{members:?}");
    let stopped = world.bivouac(&["stop", "doc-1", "--json"]).await;
    assert!(stopped.status.success(), "{stopped:?}");

    assert_eq!(world.bivouac(&["status", "nosuch"]).await.status.code(), Some(3));
    assert_eq!(world.bivouac(&["spawn"]).await.status.code(), Some(2));
    assert_eq!(world.bivouac(&["spawn", GUEST, "--key", "../.."]).await.status.code(), Some(1));
    let nobody = world.bivouac(&["--addr", "http://127.0.0.1:9", "ls"]).await;
    let nobody = if nobody.status.code() == Some(2) {
        world.bivouac(&["ls", "--addr", "http://127.0.0.1:9"]).await
    } else {
        nobody
    };
    assert_eq!(nobody.status.code(), Some(4), "{nobody:?}");
    for output in [&spawned, &again, &members, &nobody] {
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!text.contains(&world.token()), "the token is printed: {text}");
    }
}

async fn a_broken_template_fails_the_start(world: World) {
    for (fault, line, text) in [
        ("no TOML", 2, "access = \"public\"\nidle_timeout = = \"5s\"\n[ports.http]\n"),
        ("an unknown field", 2, "access = \"public\"\nidel_timeout = \"5s\"\n[ports.http]\n"),
        ("a wrong type", 3, "access = \"public\"\n[ports.http]\nready_path = 5\n"),
        ("no duration", 2, "access = \"public\"\nidle_timeout = \"soon\"\n[ports.http]\n"),
        ("a reserved name", 3, "access = \"public\"\n[ports.http]\n[params.bivouac_key]\n"),
        ("no access", 1, "access = \"everybody\"\n[ports.http]\n"),
    ] {
        let folder = world.folder().join("broken");
        std::fs::create_dir_all(folder.join("faulty")).unwrap();
        std::fs::write(folder.join("faulty/template.toml"), text).unwrap();
        let output = world.started_with_templates(&folder).await;
        let told =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{fault}: {told}");
        assert!(
            told.contains(&format!("template.toml:{line}")),
            "{fault} names file and line {line}: {told}"
        );
        assert!(!told.contains("panicked"), "{fault}: {told}");
    }
}

#[test]
fn dev_ends_its_sessions_with_it() {
    World::embedded().run(async |world| {
        let session = world.spawn(GUEST).key("doc").await;
        let dying = world.spawn(WAKING).env("GUEST_START_MS", "60000").await;
        session.serves("/").await;
        let started = Instant::now();
        let status = world.dev().terminate().await;
        assert!(status.success(), "{status}");
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
        session.backends_gone().await;
        dying.backends_gone().await;
    });
}

#[test]
fn sessions_of_a_killed_dev_end_too() {
    World::embedded().run(async |world| {
        let session = world.spawn(GUEST).key("doc").await;
        session.serves("/").await;
        world.dev().kill();
        session.backends_gone().await;
        world.dev().start().await;
        assert!(world.sessions().await.unwrap().is_empty());
    });
}

#[test]
fn a_service_ends_cleanly_and_takes_no_session_along() {
    World::cluster().run(async |world| {
        let session = world.spawn(GUEST).key("doc").await;
        let mut socket = session.websocket().await;
        let status = world.service(0).process.terminate().await;
        assert!(status.success(), "{status}");
        socket.echoes("alive").await;
        world.service(0).start().await;
        assert_eq!(session.ready().await["generation"], 1);
        socket.close().await;
        let status = world.proxy(0).process.terminate().await;
        assert!(status.success(), "{status}");
    });
}

#[test]
fn ready_files_are_private() {
    World::embedded().run(async |world| {
        use std::os::unix::fs::PermissionsExt;
        let file = world.folder().join("dev.ready.json");
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        let log = world.dev().log();
        assert!(!log.contains(&world.token()), "the token is logged");
    });
}

/// A jobspec that Nomad refuses disables its template, and only it.
#[test]
fn a_jobspec_that_nomad_refuses_disables_its_template() {
    World::cluster().replicas(0).proxies(1).run(async |world| {
        let folder = world.templates().join("refused");
        std::fs::create_dir_all(&folder).unwrap();
        let toml = "access = \"public\"\n[ports.http]\n[nomad]\njobspec = \"job.nomad.hcl\"\n";
        std::fs::write(folder.join("template.toml"), toml).unwrap();
        std::fs::write(folder.join("job.nomad.hcl"), "job \"x\" { type = \"batch\" group {").unwrap();
        world.start_a_replica().await;
        world.spawn("refused").send().await.unwrap().is_problem(409, "template_disabled");
        let ready = world.get("/readyz").await.unwrap();
        assert!(ready.body.contains("refused"), "{ready:?}");
        let listed = world.get("/v1/templates").await.unwrap().json();
        let refused =
            listed["templates"].as_array().unwrap().iter().find(|t| t["name"] == "refused").unwrap();
        assert!(refused["enabled"] == false && refused["problem"].is_string(), "{refused}");
        world.spawn(GUEST).await.serves("/").await;
    });
}
