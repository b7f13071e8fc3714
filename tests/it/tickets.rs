//! Who may enter a session: tickets in each of their forms, what is wrong with others, and what becomes of those that are
//! revoked.

mod wrong;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use bivouac_tests::guest::record::{needle_free, recorded};
use bivouac_tests::world::{Answer, GUEST_JOB, Session, Setup, Socket};
use bivouac_tests::{World, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use wrong::every_wrong_ticket_has_its_code;

everywhere!(with with_tickets;
    a_ticket_opens_its_session,
    a_link_works_once_and_becomes_a_cookie,
    every_wrong_ticket_has_its_code,
    nothing_of_ours_is_recorded,
    a_revoked_user_is_cut,
    nobody_without_a_ticket_wakes_or_keeps_alive,
);

/// A template whose sessions want tickets, as one does that says nothing of it.
const PRIVATE: &str = "private";
const SOON: Duration = Duration::from_secs(30);

fn with_tickets(world: Setup) -> Setup {
    let toml = r#"wake = true
idle_timeout = { default = "2s", min = "500ms", max = "10m" }
allow = ["env"]
[ports.http]
[params.text]
default = ""
"#;
    world.template(PRIVATE, toml, GUEST_JOB)
}

/// A ticket, and a link for the same user.
struct Given {
    ticket: String,
    /// The link's path and query.
    link: String,
}

impl Given {
    fn bearer(&self) -> String {
        format!("Bearer {}", self.ticket)
    }
}

async fn issue(session: &Session, world: &World, body: Value) -> Given {
    let path = format!("/v1/sessions/{}/tickets", session.id);
    let answer = Answer::to(world.call(Method::POST, &path).json(&body)).await.unwrap();
    let given = answer.expect_status(201).unwrap().json();
    given_by(&given["ticket"], &given["url"])
}

fn given_by(ticket: &Value, url: &Value) -> Given {
    let url: url::Url = url.as_str().expect("a link").parse().unwrap();
    Given {
        ticket: ticket.as_str().expect("a ticket").to_owned(),
        link: format!("{}?{}", url.path(), url.query().unwrap()),
    }
}

async fn revoke(session: &Session, world: &World, query: &str) {
    let path = format!("/v1/sessions/{}/tickets{query}", session.id);
    Answer::to(world.call(Method::DELETE, &path)).await.unwrap().expect_status(204).unwrap();
}

async fn get(session: &Session, path: &str, fields: &[(&str, &str)]) -> Answer {
    let mut request = session.request(Method::GET, path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    Answer::to(request).await.unwrap()
}

/// What the backend was asked, with a ticket that it must accept.
async fn seen(session: &Session, path: &str, fields: &[(&str, &str)]) -> Value {
    get(session, path, fields).await.expect_status(200).unwrap().json()
}

/// Follows a link as a browser does; the cookie.
async fn follow(session: &Session, link: &str) -> String {
    let answer = get(session, link, &[("accept", "text/html"), ("sec-fetch-mode", "navigate")]).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(!answer.header("location").contains("bivouac_ticket"), "{answer:?}");
    let cookie = answer.header("set-cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

async fn a_ticket_opens_its_session(world: World) {
    let session = world
        .spawn(PRIVATE)
        .idle_timeout("1m")
        .field("user", "ann é")
        .field("claims", json!({"role": "editor"}))
        .await;
    session.ready().await;
    let given = given_by(&session.first["ticket"], &session.first["ticket_url"]);
    let bearer = given.bearer();
    let forged = [("authorization", bearer.as_str()), ("X-Bivouac-User", "root"), ("x_bivouac_claims", "{}")];
    let echo = seen(&session, "/hello?x=1", &forged).await;
    assert_eq!(echo["headers"]["x-bivouac-user"], json!(["ann%20%C3%A9"]), "{echo}");
    assert_eq!(echo["headers"]["x-bivouac-claims"], json!([r#"{"role":"editor"}"#]), "{echo}");
    assert!(
        echo["headers"]["authorization"].is_null() && echo["headers"]["x_bivouac_claims"].is_null(),
        "{echo}"
    );
    assert_eq!(echo["uri"], "/hello?x=1");

    let protocols = format!("bivouac.v1, bivouac.ticket.{}", given.ticket);
    let mut socket =
        Socket::open_with(&session.authority(), "/ws", &[("sec-websocket-protocol", &protocols)])
            .await
            .unwrap();
    socket.echoes("hello").await;
    // Another's ticket is issued by whoever may.
    let other = issue(&session, &world, json!({"user": "bob", "ttl": "10m"})).await;
    let echo = seen(&session, "/", &[("authorization", &other.bearer())]).await;
    assert_eq!(echo["headers"]["x-bivouac-user"], json!(["bob"]));
    assert!(echo["headers"]["x-bivouac-claims"].is_null());
}

async fn a_link_works_once_and_becomes_a_cookie(world: World) {
    let session = world.spawn(PRIVATE).idle_timeout("1m").await;
    session.ready().await;
    let given = issue(&session, &world, json!({"user": "ann"})).await;
    let preview = get(&session, &given.link, &[]).await;
    assert_eq!(
        (preview.status, preview.code().as_str()),
        (403, "ticket_misplaced"),
        "it is not used up by that"
    );
    let cookie = follow(&session, &given.link).await;
    let mixed = format!("theme=dark; {cookie}; lang=de");
    let echo = seen(&session, "/page", &[("cookie", &mixed)]).await;
    assert_eq!(echo["headers"]["cookie"], json!(["theme=dark; lang=de"]), "{echo}");
    assert_eq!(echo["headers"]["x-bivouac-user"], json!(["ann"]));
    let again = get(&session, &given.link, &[("accept", "application/json, text/html")]).await;
    assert_eq!(again.status, 403, "{again:?}");
    assert!(again.body.contains("ticket_used"), "{again:?}");
    let mut socket = Socket::open_with(&session.authority(), "/ws", &[("cookie", &cookie)]).await.unwrap();
    socket.echoes("hello").await;
}

async fn nothing_of_ours_is_recorded(world: World) {
    let folder = world.folder().join("records");
    let session = world
        .spawn(PRIVATE)
        .idle_timeout("1m")
        .env("GUEST_MODE", "record")
        .env("GUEST_RECORDS", &folder.to_string_lossy())
        .await;
    session.ready().await;
    let given = issue(&session, &world, json!({"user": "ann"})).await;
    let cookie = follow(&session, &given.link).await;
    let bearer = given.bearer();
    let referer = format!("http://{}{}", session.authority(), given.link);
    let with_all = [
        ("authorization", bearer.as_str()),
        ("cookie", &format!("a=1; {cookie}")),
        ("referer", &referer),
        ("sec-websocket-protocol", &format!("bivouac.v1, bivouac.ticket.{}", given.ticket)),
    ];
    for path in ["/", "/?bivouac_ticket=x", "/p?y=1&bivouac_ticket=z"] {
        get(&session, path, &with_all).await.expect_status(200).unwrap();
    }
    let protocols = format!("bivouac.v1, chat, bivouac.ticket.{}", given.ticket);
    let fields = [("sec-websocket-protocol", protocols.as_str()), ("cookie", cookie.as_str())];
    // Its answer chooses no subprotocol, so that ours is chosen.
    drop(Socket::open_with(&session.authority(), "/ws", &fields).await.unwrap());
    let records = recorded(&folder, &session.id);
    let asked = || records.iter().flat_map(|record| &record.requests);
    assert_eq!(asked().filter(|asked| asked.target == "/p?y=1").count(), 1);
    assert!(asked().any(|asked| asked.values("sec-websocket-protocol").eq(["chat"])));
    let link_ticket = given.link.split_once('=').unwrap().1;
    let ours = [
        "bivouac_ticket",
        "__Host-bivouac",
        "bivouac=",
        "bivouac.ticket.",
        "bivouac.v1",
        &given.ticket,
        link_ticket,
    ];
    needle_free(&records, &ours);
}

async fn a_revoked_user_is_cut(world: World) {
    let session = world.spawn(PRIVATE).idle_timeout("1m").await;
    session.ready().await;
    let ann = issue(&session, &world, json!({"user": "ann"})).await;
    let bob = issue(&session, &world, json!({"user": "bob"})).await;
    let open = async |given: &Given| {
        Socket::open_with(&session.authority(), "/ws", &[("authorization", &given.bearer())]).await.unwrap()
    };
    let (mut anns, mut bobs) = (open(&ann).await, open(&bob).await);
    anns.echoes("hello").await;
    revoke(&session, &world, "?user=ann").await;
    assert_eq!(anns.closed().await, (4403, "ticket_revoked".to_owned()));
    bobs.echoes("still here").await;
    get(&session, "/", &[("authorization", &ann.bearer())]).await.is_problem(403, "ticket_revoked");
    let again = issue(&session, &world, json!({"user": "ann"})).await;
    seen(&session, "/", &[("authorization", &again.bearer())]).await;
    revoke(&session, &world, "").await;
    assert_eq!(bobs.closed().await, (4403, "ticket_revoked".to_owned()));
    get(&session, "/", &[("authorization", &again.bearer())]).await.is_problem(403, "ticket_revoked");
}

async fn nobody_without_a_ticket_wakes_or_keeps_alive(world: World) {
    let session = world.spawn(PRIVATE).key("doc-1").idle_timeout("1s").await;
    session.ready().await;
    // Asking all the time, and never let in.
    let asking = async {
        loop {
            session.get("/").await.unwrap().is_problem(401, "ticket_missing");
        }
    };
    tokio::select! {
        _ = session.ended("idle") => {}
        () = asking => {}
    }
    session.get("/").await.unwrap().is_problem(401, "ticket_missing");
    assert_eq!(session.state().await, "ended", "it was not woken");
    let given = issue(&session, &world, json!({})).await;
    seen(&session, "/", &[("authorization", &given.bearer())]).await;
    session.ready_again(2).await;
}

#[test]
fn revoked_users_are_cut_on_every_proxy() {
    with_tickets(World::cluster().replicas(2).proxies(2)).run(async |world| {
        let session = world.spawn(PRIVATE).idle_timeout("1m").await;
        session.ready().await;
        let ann = issue(&session, &world, json!({"user": "ann"})).await;
        let mut sockets = Vec::new();
        for proxy in [0, 1] {
            let authority = session.via(proxy).authority();
            let mut socket =
                Socket::open_with(&authority, "/ws", &[("authorization", &ann.bearer())]).await.unwrap();
            socket.echoes("hello").await;
            sockets.push(socket);
        }
        revoke(&session, &world.asking(1), "?user=ann").await;
        for socket in &mut sockets {
            assert_eq!(socket.closed().await, (4403, "ticket_revoked".to_owned()));
        }
        // It is state: whoever comes later knows it, too.
        world.proxy(1).process.kill();
        world.proxy(1).process.start().await;
        let answer = get(&session.via(1), "/", &[("authorization", &ann.bearer())]).await;
        answer.is_problem(403, "ticket_revoked");
    });
}

#[test]
fn two_keys_during_a_rotation() {
    with_tickets(World::cluster()).run(async |world| {
        let session = world.spawn(PRIVATE).idle_timeout("1m").await;
        session.ready().await;
        let old = issue(&session, &world, json!({})).await;
        let file = world.folder().join("ticket.secret");
        let secret = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{}\n{secret}\n", "the next secret, of forty characters ...")).unwrap();
        let key = |given: &Given| given.ticket.split('.').next().map(str::to_owned);
        let new = eventually("tickets are signed with the new key", SOON, async || {
            let new = issue(&session, &world, json!({})).await;
            if key(&new) == key(&old) { Err("the old one signs".to_owned()) } else { Ok(new) }
        })
        .await;
        for given in [&old, &new] {
            seen(&session, "/", &[("authorization", &given.bearer())]).await;
        }
    });
}

#[test]
fn proxies_check_tickets_while_the_service_is_away() {
    with_tickets(World::cluster()).run(async |world| {
        let session = world.spawn(PRIVATE).idle_timeout("1m").await;
        session.ready().await;
        let (ann, bob) = (
            issue(&session, &world, json!({"user": "ann"})).await,
            issue(&session, &world, json!({"user": "bob"})).await,
        );
        revoke(&session, &world, "?user=bob").await;
        world.service(0).process.kill();
        world.proxy(0).process.kill();
        world.proxy(0).process.start().await;
        seen(&session, "/", &[("authorization", &ann.bearer())]).await;
        get(&session, "/", &[("authorization", &bob.bearer())]).await.is_problem(403, "ticket_revoked");
        session.get("/").await.unwrap().is_problem(401, "ticket_missing");
        follow(&session, &ann.link).await;
    });
}

#[test]
fn the_command_line_lets_users_in_and_out() {
    with_tickets(World::embedded()).run(async |world| {
        let session = world.spawn(PRIVATE).key("doc/1").idle_timeout("1m").await;
        session.ready().await;
        let run = async |args: &[&str]| {
            let output = world.bivouac(args).await;
            let told = String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned();
            assert!(output.status.success(), "{args:?}: {told}");
            (String::from_utf8(output.stdout).unwrap().trim().to_owned(), told)
        };
        let file = world.folder().join("ann.ticket");
        let out = file.to_string_lossy();
        let claims = "{\"role\": \"editor\"}";
        let issue = ["ticket", "doc/1", "--user", "ann", "--claims", claims, "--ttl", "5m", "--out", &out];
        let (printed, told) = run(&issue).await;
        assert_eq!(printed, out);
        let ticket = std::fs::read_to_string(&file).unwrap();
        assert!(!told.contains(ticket.trim()), "the ticket is not printed");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let bearer = format!("Bearer {}", ticket.trim());
        let echo = seen(&session, "/", &[("authorization", &bearer)]).await;
        assert_eq!(echo["headers"]["x-bivouac-user"], json!(["ann"]));
        let (url, _) = run(&["ticket", "doc/1", "--user", "bob", "--url"]).await;
        let url: url::Url = url.parse().unwrap();
        let cookie = follow(&session, &format!("{}?{}", url.path(), url.query().unwrap())).await;
        run(&["ticket", "doc/1", "--user", "ann", "--revoke"]).await;
        get(&session, "/", &[("authorization", &bearer)]).await.is_problem(403, "ticket_revoked");
        assert_eq!(
            seen(&session, "/", &[("cookie", &cookie)]).await["headers"]["x-bivouac-user"],
            json!(["bob"])
        );
        run(&["ticket", "doc/1", "--revoke"]).await;
        get(&session, "/", &[("cookie", &cookie)]).await.is_problem(403, "ticket_revoked");
    });
}
