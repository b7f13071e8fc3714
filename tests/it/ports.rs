//! Further ports of a session: hostnames of their own, readiness of their own, and one life with all the others.

use std::time::{Duration, Instant};

use bivouac_tests::world::{GUEST_JOB, Raw, Session, Setup};
use bivouac_tests::{World, always, eventually};
use reqwest::Method;

everywhere!(with with_ports;
    each_port_has_its_own_readiness,
    an_unknown_port_is_said_to_be,
    a_failed_start_is_told_on_each_port,
    one_use_on_any_port_keeps_the_session,
    a_full_session_says_so,
);

const PORTS: &str = "ports";
const SEATS: usize = 4;
const SOON: Duration = Duration::from_secs(30);

/// A template whose further ports have a path of their own to be ready at. One of them is asked for it over HTTP/2.
fn with_ports(world: Setup) -> Setup {
    let toml = format!(
        r#"access = "public"
idle_timeout = {{ default = "2s", min = "500ms", max = "10m" }}
max_connections = {SEATS}
allow = ["env"]
[ports.http]
default = true
[ports.admin]
ready_path = "/healthz"
[ports.api]
protocol = "h2c"
ready_path = "/healthz"
[params.text]
default = ""
"#
    );
    let job = GUEST_JOB
        .replace("port \"http\" {}", "port \"http\" {}\n      port \"admin\" {}\n      port \"api\" {}");
    world.template(PORTS, &toml, &job)
}

/// Sends a GET that the session must answer on its further port.
async fn admin_serves(session: &Session, path: &str) -> serde_json::Value {
    let answer = session.at("admin").serves(path).await;
    assert_eq!(answer.header("guest-port"), "admin", "{answer:?}");
    assert_eq!(answer.json()["uri"], path);
    answer.json()
}

/// The same on its default port.
async fn default_serves(session: &Session, path: &str) -> serde_json::Value {
    let answer = session.serves(path).await;
    assert_eq!(answer.header("guest-port"), "", "{answer:?}");
    answer.json()
}

async fn each_port_has_its_own_readiness(world: World) {
    let late = world.spawn(PORTS).env("GUEST_ADMIN_START_MS", "2500").idle_timeout("1m").await;
    let started = Instant::now();
    let (admin, (default, served)) = tokio::join!(admin_serves(&late, "/waited"), async {
        late.ready().await;
        (default_serves(&late, "/at-once").await, started.elapsed())
    });
    assert!(served < started.elapsed(), "the session does not wait for its further port");
    assert!(started.elapsed() > Duration::from_millis(2000), "served before it listened?");
    assert_eq!((&admin["session"], &admin["pid"]), (&default["session"], &default["pid"]));
    let early = world.spawn(PORTS).env("GUEST_START_MS", "3000").idle_timeout("1m").await;
    admin_serves(&early, "/first").await;
    assert_ne!(early.state().await, "ready", "the further port waits for nobody");
    let default = default_serves(&early, "/then").await;
    let named = early.at("http").serves("/by-its-name").await;
    assert_eq!(named.header("guest-port"), "", "the default port has a name, too");
    let api = early.at("api").serves("/over-http-2").await;
    assert_eq!(
        (api.header("guest-port").as_str(), api.json()["pid"].clone()),
        ("api", default["pid"].clone())
    );
    let mut socket = early.at("admin").websocket().await;
    socket.echoes("over a further port").await;
}

async fn an_unknown_port_is_said_to_be(world: World) {
    let session = world.spawn(PORTS).env("GUEST_START_MS", "1500").idle_timeout("1m").await;
    let unknown = session.at("nope");
    unknown.get("/").await.unwrap().is_problem(404, "port_unknown");
    default_serves(&session, "/").await;
    unknown.get("/").await.unwrap().is_problem(404, "port_unknown");
    admin_serves(&session, "/").await;
    let page = unknown.request(Method::GET, "/").header("accept", "text/html").send().await.unwrap();
    assert!(page.text().await.unwrap().contains("This session has no such port"));
    for label in ["xn", "a--b", "-admin", "admin-"] {
        let host = format!("{label}--{}", session.authority());
        let answer = Raw::send(world.proxy_port(0), format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert!(answer.status == 404 && answer.has_code("host_unknown"), "{host}: {}", answer.text);
    }
}

async fn a_failed_start_is_told_on_each_port(world: World) {
    let session = world.spawn(PORTS).env("GUEST_MODE", "dead").await;
    for port in ["admin", "http", "api"] {
        let told = session.at(port).get("/").await.unwrap();
        told.is_problem(502, "start_failed");
        assert_eq!(told.json()["reason"]["exit_code"], 3, "{told:?}");
    }
    session.ended("start_failed").await;
}

async fn one_use_on_any_port_keeps_the_session(world: World) {
    let session = world.spawn(PORTS).idle_timeout("1500ms").await;
    let mut socket = session.at("admin").websocket().await;
    always("it is not stopped under its further port's user", Duration::from_secs(4), async || {
        socket.echoes("here").await;
        let state = session.try_view().await?["state"].clone();
        // A leader that has not heard of the use yet may try to fence, and gives up.
        if state == "ready" || state == "fencing" { Ok(()) } else { Err(state.to_string()) }
    })
    .await;
    socket.close().await;
    session.ended("idle").await;
    session.at("admin").get("/").await.unwrap().is_problem(410, "session_ended");
    assert_eq!(session.starts().len(), 1);
}

async fn a_full_session_says_so(world: World) {
    let session = world.spawn(PORTS).idle_timeout("1m").await;
    let mut sockets = Vec::new();
    for port in ["http", "admin", "http", "admin"] {
        sockets.push(session.at(port).websocket().await);
    }
    assert_eq!(sockets.len(), SEATS);
    for port in ["http", "admin"] {
        let refused = session.at(port).get("/").await.unwrap();
        refused.is_problem(503, "too_many_connections");
        assert_eq!(refused.header("retry-after"), "1");
    }
    for socket in &mut sockets {
        socket.echoes("whoever is in stays").await;
    }
    sockets.remove(0).close().await;
    eventually("there is room again", SOON, async || session.get("/").await?.expect_status(200)).await;
}

/// A proxy that has never heard of the session finds its ports in Consul, with nobody there to ask.
#[test]
fn a_further_port_is_found_while_the_service_is_away() {
    with_ports(World::cluster()).proxies(2).run(async |world| {
        let session = world.spawn(PORTS).idle_timeout("5m").await;
        session.ready().await;
        admin_serves(&session, "/before").await;
        world.service(0).process.kill();
        let newcomer = world.proxy(1);
        newcomer.process.kill();
        newcomer.process.start().await;
        for proxy in [0, 1] {
            let session = session.via(proxy);
            admin_serves(&session, "/away").await;
            default_serves(&session, "/away").await;
            session.at("nope").get("/").await.unwrap().is_problem(404, "port_unknown");
        }
        session.via(1).at("admin").websocket().await.echoes("over a further port").await;
    });
}
