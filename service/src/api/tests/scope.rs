//! What a scope keeps from a caller, also where a session changes between a look and an act.

use bivouac_protocol::{Record, SessionId};

use super::*;
use crate::api::sessions::until_decided;
use crate::session::view::View;
use crate::session::{CommandError, LeaseLength};

const SECRET: &str = "sesame";

#[tokio::test]
async fn what_a_session_printed_is_told_to_those_who_may_read_logs() {
    let world = World::new();
    let blind = world.token(json!({"name": "blind", "verbs": ["spawn", "read", "stop", "lease"]})).await;
    let sighted = world.token(json!({"name": "sighted", "verbs": ["spawn", "read", "logs"]})).await;
    let body = json!({"template": "loud", "key": "k"});
    let failed = world.with(&blind, "POST", "/v1/spawn?wait=ready", Some(body.clone())).await;
    failed.is_problem(502, "start_failed");
    assert_eq!(failed.json["reason"]["exit_code"], 3, "{}", failed.json);
    assert!(!failed.json.to_string().contains(SECRET), "{}", failed.json);

    let id = failed.json["session"].as_str().unwrap().to_owned();
    let mut watch = world.control.sessions.watch(&id.parse().unwrap()).unwrap();
    watch.wait_for(|view| view.state == crate::session::view::State::Ended).await.unwrap();
    let session = format!("/v1/sessions/{id}");
    for path in [&session, "/v1/sessions", "/v1/keys/default/k"] {
        let told = world.with(&blind, "GET", path, None).await;
        assert!(told.status == 200 && told.json.to_string().contains("exit_code"), "{path}: {}", told.json);
        assert!(!told.json.to_string().contains(SECRET), "{path}: {}", told.json);
        let told = world.with(&sighted, "GET", path, None).await;
        assert!(told.json.to_string().contains(SECRET), "{path}: {}", told.json);
    }
    for (method, path) in [("DELETE", session.clone()), ("DELETE", format!("{session}/leases/x"))] {
        let told = world.with(&blind, method, &path, None).await;
        assert!(told.status == 200 && !told.json.to_string().contains(SECRET), "{path}: {}", told.json);
    }
    for (token, shown) in [(&blind, false), (&sighted, true)] {
        for path in ["/v1/events", &format!("{session}/events")] {
            let events = Request::builder()
                .uri(path)
                .header("host", "localhost")
                .header("authorization", format!("Bearer {token}"));
            let response = world.router.clone().oneshot(events.body(Body::empty()).unwrap()).await.unwrap();
            let snapshot = response.into_body().into_data_stream().next().await.unwrap().unwrap();
            let snapshot = String::from_utf8_lossy(&snapshot).into_owned();
            assert!(snapshot.contains(&id), "{snapshot}");
            assert_eq!(snapshot.contains(SECRET), shown, "{path}: {snapshot}");
        }
    }
    let failed = world.with(&sighted, "POST", "/v1/spawn?wait=ready", Some(body)).await;
    assert!(failed.json["reason"]["log_tail"].to_string().contains(SECRET), "{}", failed.json);
}

#[tokio::test]
async fn a_key_that_is_another_templates_by_now_is_not_acted_on() {
    let world = World::new();
    let sessions = &world.control.sessions;
    let spawned = world.spawn("?wait=ready", &json!({"template": "plot", "key": "k"})).await;
    let id: SessionId = spawned.json["id"].as_str().unwrap().parse().unwrap();
    let lease = "x".parse().unwrap();
    // The callers found the key's session while it was of "board".
    let board = |record: &Record| record.template.as_str() == "board";
    let plot = |record: &Record| record.template.as_str() == "plot";
    let hour = LeaseLength::For("1h".parse().unwrap());
    sessions.lease(&id, &lease, hour, plot).await.unwrap();
    for declined in [
        sessions.stop(&id, false, board).await,
        sessions.stop(&id, true, board).await,
        sessions.abandon(&id, board).await,
        sessions.lease(&id, &lease, hour, board).await,
        // Its bounds are not told either.
        sessions.lease(&id, &lease, LeaseLength::For("9000d".parse().unwrap()), board).await,
        sessions.release(&id, &lease, board).await,
    ] {
        assert!(matches!(declined, Err(CommandError::Unknown)), "{declined:?}");
    }
    let view = sessions.find(&id).await.unwrap().unwrap();
    assert_eq!(view.state, crate::session::view::State::Ready);
    assert!(view.alive.as_ref().unwrap().leases.contains_key(&lease), "{view:?}");

    // Nor does it change between the look and the write: what is written is what was asked about.
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let once = |_: &Record| asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
    let later = sessions.lease(&id, &lease, hour, once).await;
    assert!(matches!(later, Err(CommandError::Unknown)), "{later:?}");
    sessions.release(&id, &lease, plot).await.unwrap();
    sessions.stop(&id, true, plot).await.unwrap();
}

#[tokio::test]
async fn a_spawn_does_not_wait_for_another_templates_session() {
    let world = World::new();
    let spawned = world.spawn("?wait=ready", &json!({"template": "plot", "key": "k"})).await;
    let id = spawned.json["id"].as_str().unwrap().parse().unwrap();
    let now = world.control.sessions.find(&id).await.unwrap().unwrap();
    let board = View { template: "board".parse().unwrap(), ..View::clone(&now) };
    let decided = until_decided(&world.control, Arc::new(board)).await.map_err(|why| why.code()).unwrap();
    assert_eq!(decided.template.as_str(), "plot", "the caller is told that the key is another template's");
}

#[tokio::test]
async fn templates_out_of_scope_are_refused_alike() {
    let world = World::new();
    let token = world.token(json!({"name": "team", "templates": ["board"], "verbs": ["spawn"]})).await;
    let mut answers = Vec::new();
    for template in ["plot", "none", "nope"] {
        for more in [
            json!({}),
            json!({"idle_timeout": "1ms"}),
            json!({"idle_timeout": "soon"}),
            json!({"params": {"a": "b"}}),
            json!({"env": {"A-B": "x"}}),
            json!({"image": "x"}),
        ] {
            let mut body = more;
            body["template"] = json!(template);
            let answer = world.with(&token, "POST", "/v1/spawn", Some(body)).await;
            answer.is_problem(403, "forbidden");
            let mut document = answer.json;
            document["request_id"] = Value::Null;
            answers.push(document.to_string().replace(template, "TEMPLATE"));
        }
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let own = json!({"template": "board", "idle_timeout": "soon"});
    world.with(&token, "POST", "/v1/spawn", Some(own)).await.is_problem(422, "invalid_field");
}
