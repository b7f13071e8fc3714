//! What operators see and do in Nomad and Consul, and what callers cannot do there.

use std::collections::BTreeMap;
use std::time::Duration;

use bivouac_tests::world::{GUEST, STATIC, WAKING};
use bivouac_tests::{World, eventually};
use reqwest::Method;
use tokio::net::TcpListener;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn operators_see_which_session_a_job_is() {
    World::cluster().run(async |world| {
        let session = world.spawn(GUEST).key("doc-1").field("namespace", "team").idle_timeout("2s").await;
        let view = session.ready().await;
        let name = format!("session-{}-1", session.id);
        let job = world.job(&name).await.unwrap();
        let meta = &job["Meta"];
        assert_eq!(
            (&meta["bivouac_session"], &meta["bivouac_key"]),
            (&session.id.clone().into(), &"doc-1".into())
        );
        assert_eq!((&meta["bivouac_namespace"], &meta["bivouac_template"]), (&"team".into(), &GUEST.into()));
        assert_eq!(job["Type"], "batch");
        let group = &job["TaskGroups"][0];
        assert_eq!(
            (&group["RestartPolicy"]["Attempts"], &group["ReschedulePolicy"]["Attempts"]),
            (&0.into(), &0.into())
        );
        assert_eq!(group["Disconnect"]["Replace"], false);

        let listed = world.site().catalogue(&format!("session-{}", session.id)).await.unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
        let tags: Vec<&str> =
            listed[0]["ServiceTags"].as_array().unwrap().iter().filter_map(|t| t.as_str()).collect();
        for tag in ["template=guest", "namespace=team", "key=doc-1"] {
            assert!(tags.contains(&tag), "{tag} in {tags:?}");
        }
        let meta = &listed[0]["ServiceMeta"];
        assert_eq!(
            (&meta["bivouac_session"], &meta["bivouac_generation"]),
            (&session.id.clone().into(), &"1".into())
        );
        assert_eq!(meta["bivouac_allocation"], view["allocation"]);

        let record = world.document(&format!("sessions/{}", session.id)).await.unwrap();
        assert_eq!((&record["phase"], &record["key"]), (&"running".into(), &"doc-1".into()));
        session.ended("idle").await;
        world.nothing_runs().await;
        let record = world.document(&format!("sessions/{}", session.id)).await.unwrap();
        assert_eq!((&record["phase"], &record["reason"]["code"]), (&"ended".into(), &"idle".into()));
    });
}

#[test]
fn a_job_that_was_stopped_by_hand_stays_stopped() {
    World::cluster().run(async |world| {
        let session = world.spawn(WAKING).key("doc").await;
        let mut socket = session.websocket().await;
        let job = format!("/v1/job/session-{}-1", session.id);
        world.site().nomad(Method::DELETE, &job).await.unwrap().expect_status(200).unwrap();
        let _code = socket.ends().await;
        session.ended("operator").await;
        // Not even a template that wakes is started against an operator's will.
        session.get("/").await.unwrap().is_problem(410, "session_ended");
        let again = world.spawn(WAKING).key("doc").await;
        assert_eq!(again.generation(), 2);
        again.serves("/").await;
        session.never_doubled();
    });
}

#[test]
fn a_job_that_was_purged_by_hand_is_over() {
    World::cluster().run(async |world| {
        let session = world.spawn(GUEST).key("doc").await;
        session.serves("/").await;
        let job = format!("/v1/job/session-{}-1?purge=true", session.id);
        world.site().nomad(Method::DELETE, &job).await.unwrap().expect_status(200).unwrap();
        session.becomes("ended").await;
        session.backends_gone().await;
        world.spawn(GUEST).key("doc").await.serves("/").await;
        session.never_doubled();
    });
}

/// A backend is gone, nobody who would know can be asked, and a stranger listens on its port.
#[test]
fn a_recycled_port_never_serves_another_session() {
    World::cluster().proxy_flag("hold-timeout", "3s").run(async |world| {
        let session = world.spawn(GUEST).await;
        session.ready().await;
        let env = session.serves("/env").await.json();
        let port: u16 = env["PORT"].as_str().unwrap().parse().unwrap();
        world.service(0).process.kill();
        let backend = session.starts().remove(0).pid;
        let backend = rustix::process::Pid::from_raw(backend).unwrap();
        rustix::process::kill_process(backend, rustix::process::Signal::KILL).unwrap();
        eventually("Consul lists it no more", SOON, async || {
            let listed = world.site().catalogue(&format!("session-{}", session.id)).await?;
            if listed.is_empty() { Ok(()) } else { Err(format!("{listed:?}")) }
        })
        .await;
        let stranger = eventually("the port is free", SOON, async || {
            TcpListener::bind(("127.0.0.1", port)).await.map_err(|e| e.to_string())
        })
        .await;
        let app = axum::Router::new().fallback(async || "a stranger");
        let serving = tokio::spawn(async move { axum::serve(stranger, app).await });
        // For three seconds the proxy trusts what a link told it last.
        bivouac_tests::elapse(Duration::from_millis(3500)).await;
        for _ in 0..3 {
            let answer = session.get("/").await.expect("an answer");
            assert_ne!(answer.body, "a stranger", "a request reached another's port");
            assert!(answer.status >= 400, "{answer:?}");
            bivouac_tests::elapse(Duration::from_millis(700)).await;
        }
        serving.abort();
        world.service(0).start().await;
        session.becomes("ended").await;
        session.get("/").await.unwrap().is_problem(410, "session_ended");
    });
}

/// One port, one session after the other: the waiting one says what it waits for, and no request for the first ever
/// reaches the second.
#[test]
fn a_port_passes_from_session_to_session() {
    // Within the range that proxies accept, outside of those that Nomad chooses from.
    let port = 31_950 + std::process::id() % 50;
    let variable = format!("{STATIC}.port={port}");
    World::cluster().service_flag("template-var", &variable).proxy_flag("hold-timeout", "20s").run(
        async |world| {
            let first = world.spawn(STATIC).key("first").idle_timeout("60s").await;
            first.ready().await;
            first.serves("/").await;
            // Loopback has two addresses, and Nomad counts a port on each.
            let neighbour = world.spawn(STATIC).key("neighbour").idle_timeout("60s").await;
            neighbour.ready().await;
            assert_eq!(neighbour.serves("/").await.json()["session"], neighbour.id);
            let second = world.spawn(STATIC).key("second").idle_timeout("60s").await;
            eventually("it says what it waits for", SOON, async || {
                let view = second.try_view().await?;
                if view["waiting_for"].is_string() { Ok(()) } else { Err(view.to_string()) }
            })
            .await;
            assert_eq!(second.state().await, "queued");
            let hopeless = world.spawn(STATIC).startup_timeout("2s").await;
            hopeless.ended("no_capacity").await;
            let backend = rustix::process::Pid::from_raw(first.starts()[0].pid).unwrap();
            rustix::process::kill_process(backend, rustix::process::Signal::KILL).unwrap();
            let served = tokio::spawn({
                let second = second.clone();
                async move { second.serves("/").await.json()["session"].clone() }
            });
            for _ in 0..40 {
                let answer = first.get("/").await.expect("an answer");
                if answer.status == 200 {
                    assert_eq!(answer.json()["session"], first.id, "a request reached another session");
                }
                bivouac_tests::elapse(Duration::from_millis(50)).await;
            }
            assert_eq!(served.await.unwrap(), second.id);
            first.becomes("ended").await;
            first.get("/").await.unwrap().is_problem(410, "session_ended");
        },
    );
}

/// Texts that mean something to Nomad, to HCL, to a shell or to a template engine.
const HOSTILE: [&str; 16] = [
    "${node.unique.name}",
    "${attr.kernel.name}",
    "${env[\"PATH\"]}",
    "${NOMAD_META_bivouac_session}",
    "$${NOMAD_ALLOC_ID}",
    "$$${x}",
    "%{ if true }yes%{ endif }",
    "%%{ x }",
    "${file(\"/etc/passwd\")}",
    "{{ env \"HOME\" }}",
    "$(id) `id` ; && | > <",
    "\"}] , \"Driver\": \"raw_exec\"",
    "line one\nline two\ttab",
    "ünïcödé 🏕 \u{202e}",
    "\\${x} \\\" \\n",
    "${${x}}${",
];

#[test]
fn callers_texts_arrive_literally_and_interpolate_nothing() {
    World::cluster().run(async |world| {
        let mut spawn = world.spawn(GUEST).key("a.b:c@d/e+f=g~h-i").field("user", HOSTILE[0]);
        for (n, text) in HOSTILE.iter().enumerate() {
            spawn = spawn.env(&format!("CALLER_{n}"), text);
        }
        let args: Vec<&str> = HOSTILE.to_vec();
        // Labels are shown in one line: no control characters.
        let shown = HOSTILE.iter().filter(|text| !text.contains('\n'));
        let labels: BTreeMap<String, &str> =
            shown.enumerate().map(|(n, text)| (format!("l{n}"), *text)).collect();
        let whole = HOSTILE.join(" ");
        let session = spawn
            .param("text", &whole)
            .field("args", args.clone())
            .field("labels", serde_json::to_value(&labels).unwrap())
            .await;
        let env = session.serves("/env").await.json();
        for (n, text) in HOSTILE.iter().enumerate() {
            assert_eq!(env[format!("CALLER_{n}")], *text);
        }
        assert_eq!((&env["TEXT"], &env["BIVOUAC_KEY"]), (&whole.clone().into(), &"a.b:c@d/e+f=g~h-i".into()));
        let told = session.serves("/args").await.json();
        let told: Vec<&str> = told.as_array().unwrap().iter().filter_map(|arg| arg.as_str()).collect();
        // The operator's own argument refers to the parameter's meta; the caller's arguments follow.
        assert_eq!(told[0], format!("text={whole}"));
        assert_eq!(told[1..], args[..]);
        let view = session.view().await;
        assert_eq!(view["labels"], serde_json::to_value(&labels).unwrap());
        assert_eq!(view["user"], HOSTILE[0]);
        let job = world.job(&format!("session-{}-1", session.id)).await.unwrap();
        assert_eq!(job["TaskGroups"].as_array().unwrap().len(), 1);
        assert_eq!(job["TaskGroups"][0]["Tasks"].as_array().unwrap().len(), 1);
        assert_eq!(job["TaskGroups"][0]["Tasks"][0]["Driver"], "raw_exec");
    });
}
