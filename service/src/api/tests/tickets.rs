//! Who may let users in, and what a ticket may say.

use bivouac_protocol::ticket::{KeyRing, SigningKey, Use, open};

use super::*;

fn opened(text: &Value) -> bivouac_protocol::ticket::Claims {
    let key = SigningKey::of_secret(&"ticket".repeat(6).into()).unwrap();
    let ring: KeyRing = std::iter::once(key.public()).collect();
    open(text.as_str().unwrap(), &ring).unwrap()
}

#[tokio::test]
async fn a_ticket_says_what_was_asked_for_and_its_link_the_same() {
    let world = World::new();
    let spawned = world.spawn("", &json!({"template": "board"})).await.json;
    assert!(spawned["ticket"].is_null() && spawned["ticket_url"].is_null(), "a public session needs none");
    let path = format!("/v1/sessions/{}/tickets", spawned["id"].as_str().unwrap());
    let body = json!({"user": "ann", "claims": {"role": "editor"}, "ttl": "10m"});
    let given = world.with("token", "POST", &path, Some(body)).await;
    assert_eq!(given.status, 201, "{}", given.json);
    let bearer = opened(&given.json["ticket"]);
    assert_eq!((bearer.kind, bearer.sub.as_deref()), (Use::Bearer, Some("ann")));
    assert_eq!(bearer.aud.as_str(), spawned["id"]);
    assert!((600..=601).contains(&(bearer.exp - bearer.iat)), "rounded up to whole seconds: {bearer:?}");
    let (base, link) = given.json["url"].as_str().unwrap().split_once("?bivouac_ticket=").unwrap();
    assert_eq!(base, spawned["url"]);
    let link = opened(&link.into());
    assert_eq!((link.kind, &link.sub, &link.claims), (Use::Enter, &bearer.sub, &bearer.claims));
    assert_ne!(link.jti, bearer.jti);
    let revoked = world.call("DELETE", &format!("{path}?user=ann")).await;
    assert_eq!(revoked.status, 204);
}

#[tokio::test]
async fn what_a_ticket_may_not_say_is_refused() {
    let world = World::new();
    let spawned = world.spawn("", &json!({"template": "board"})).await.json;
    let path = format!("/v1/sessions/{}/tickets", spawned["id"].as_str().unwrap());
    let long = "x".repeat(257);
    for body in [
        json!({"user": ""}),
        json!({"user": long}),
        json!({"user": "a\nb"}),
        json!({"claims": []}),
        json!({"claims": {"a": "x".repeat(2048)}}),
        json!({"ttl": "25h"}),
        json!({"ttl": "0s"}),
        json!({"ttl": 60}),
    ] {
        world.with("token", "POST", &path, Some(body)).await.is_problem(422, "invalid_field");
    }
    world.with("token", "POST", &path, Some(json!({"sub": "x"}))).await.is_problem(422, "unknown_field");
    world.call("DELETE", &format!("{path}?user=")).await.is_problem(422, "invalid_field");
    world.call("DELETE", &format!("{path}?x=1")).await.is_problem(422, "unknown_field");
    let nowhere = "/v1/sessions/aaaaaaaaaaaaaaaaaaaa/tickets";
    world.with("token", "POST", nowhere, Some(json!({}))).await.is_problem(404, "session_unknown");
    world.call("DELETE", nowhere).await.is_problem(404, "session_unknown");
}

#[tokio::test]
async fn letting_users_in_takes_its_own_verb() {
    let world = World::new();
    let spawner = world.token(json!({"name": "spawner", "verbs": ["spawn"]})).await;
    let body = json!({"template": "board", "user": "ann"});
    let spawned = world.with(&spawner, "POST", "/v1/spawn", Some(body.clone())).await;
    assert_eq!(spawned.status, 201);
    assert!(spawned.json["ticket"].is_null(), "a user may be named all the same");
    let claims = json!({"template": "board", "user": "ann", "claims": {}});
    world.with(&spawner, "POST", "/v1/spawn", Some(claims)).await.is_problem(403, "forbidden");
    let path = format!("/v1/sessions/{}/tickets", spawned.json["id"].as_str().unwrap());
    world.with(&spawner, "POST", &path, Some(json!({}))).await.is_problem(403, "forbidden");
    world.with(&spawner, "DELETE", &path, None).await.is_problem(403, "forbidden");
    let both = world.token(json!({"name": "both", "verbs": ["spawn", "ticket"]})).await;
    let spawned = world.with(&both, "POST", "/v1/spawn", Some(body)).await;
    assert_eq!(opened(&spawned.json["ticket"]).sub.as_deref(), Some("ann"));
}
