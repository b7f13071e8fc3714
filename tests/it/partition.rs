//! Ends of sessions as Nomad sees them: hosts that nobody hears from, drained nodes, more important jobs, operators'
//! hands.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bivouac_tests::agents::Client;
use bivouac_tests::world::{Answer, GUEST, LASTING, OVERLAPPING, Session, WAKING};
use bivouac_tests::{World, eventually};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// The host of a session. It can be cut off: its agents fall silent, and nothing connects to the session any more.
struct Host<'a> {
    client: &'a Client,
    backend: Pid,
    address: SocketAddr,
    plugs: Vec<TcpStream>,
}

impl<'a> Host<'a> {
    async fn of(world: &'a World, session: &Session) -> Self {
        let view = session.ready().await;
        let path = format!("/v1/allocation/{}", view["allocation"].as_str().unwrap());
        let allocation = world.site().nomad(Method::GET, &path).await.unwrap().json();
        let port = &allocation["AllocatedResources"]["Shared"]["Ports"][0];
        let (ip, port) = (port["HostIP"].as_str().unwrap(), port["Value"].as_u64().unwrap());
        let address = SocketAddr::new(ip.parse().unwrap(), u16::try_from(port).unwrap());
        session.known_to_run().await;
        let backend = session.starts().pop().expect("a start").pid;
        let backend = Pid::from_raw(backend).expect("a process");
        Self { client: world.site().client_of(&view), backend, address, plugs: Vec::new() }
    }

    /// Nothing gets through to it, and nothing gets an answer from it: what a lost network looks like from outside.
    fn vanishes(&mut self) {
        kill_process(self.backend, Signal::STOP).unwrap();
        self.client.nomad().freeze().unwrap();
        self.client.consul().freeze().unwrap();
        let patience = Duration::from_millis(500);
        while let Ok(plug) = TcpStream::connect_timeout(&self.address, patience) {
            self.plugs.push(plug);
        }
    }

    fn returns(&mut self) {
        self.plugs.clear();
        kill_process(self.backend, Signal::CONT).unwrap();
        self.client.consul().thaw().unwrap();
        self.client.nomad().thaw().unwrap();
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        let _ = kill_process(self.backend, Signal::CONT);
    }
}

/// Lets only the second client take sessions, so that the agents of the first, which services and proxies use, stay.
async fn only_the_second_host(world: &World) {
    eligible(world, 0, false).await;
}

async fn eligible(world: &World, client: usize, yes: bool) {
    let node = node(world, client).await;
    let path = format!("/v1/node/{node}/eligibility");
    let eligibility = if yes { "eligible" } else { "ineligible" };
    world.site().tell_nomad(Method::PUT, &path, &json!({ "Eligibility": eligibility })).await;
}

async fn node(world: &World, client: usize) -> String {
    let name = world.site().agents().client(client).nomad().name().to_owned();
    let nodes = world.site().nomad(Method::GET, "/v1/nodes").await.unwrap().json();
    let node = nodes.as_array().unwrap().iter().find(|node| node["Name"] == name.as_str()).unwrap();
    node["ID"].as_str().unwrap().to_owned()
}

/// A session on the second host. Once it is placed, the first may take sessions again.
async fn on_the_second_host(world: &World, template: &str) -> Session {
    only_the_second_host(world).await;
    let spawn = world.spawn(template).key("doc").idle_timeout("2m").env("GUEST_BACKLOG", "4");
    let session = spawn.await;
    session.ready().await;
    eligible(world, 0, true).await;
    session
}

/// A session whose host has vanished, which the API knows.
async fn on_a_host_that_vanished<'a>(world: &'a World, template: &str) -> (Session, Host<'a>) {
    let session = on_the_second_host(world, template).await;
    let mut host = Host::of(world, &session).await;
    host.vanishes();
    is_unreachable(&session).await;
    (session, host)
}

async fn is_unreachable(session: &Session) {
    eventually("the API says that its node is unreachable", SOON, async || {
        let view = session.try_view().await?;
        if view["unreachable"]["since"].is_string() { Ok(()) } else { Err(view.to_string()) }
    })
    .await;
}

async fn spawn_is_refused(world: &World, template: &str) -> Value {
    let refused = world.spawn(template).key("doc").send().await.unwrap();
    refused.is_problem(409, "session_unreachable");
    refused.json()
}

async fn abandon(world: &World, session: &Session) -> Answer {
    let path = format!("/v1/sessions/{}?abandon=true", session.id);
    Answer::to(world.call(Method::DELETE, &path)).await.unwrap()
}

/// A request that a new run serves; the one that was given up never gets one.
async fn is_served_elsewhere(session: &Session, old: Pid) -> i64 {
    let served = session.serves("/").await.json();
    let pid = served["pid"].as_i64().unwrap();
    assert_ne!(pid, i64::from(old.as_raw_nonzero().get()), "a session that was given up was routed");
    assert_eq!(served["generation"], "2");
    pid
}

/// The run that was given up has a successor on the host that is there, and when its own host is back it ends without
/// disturbing that.
async fn is_succeeded(session: &Session, mut host: Host<'_>) {
    let old = host.backend;
    let pid = is_served_elsewhere(session, old).await;
    host.returns();
    eventually("the run that was given up is stopped", SOON, async || {
        if rustix::process::test_kill_process(old).is_err() { Ok(()) } else { Err("it runs".to_owned()) }
    })
    .await;
    assert_eq!(is_served_elsewhere(session, old).await, pid, "the successor is not disturbed");
    assert_eq!(session.starts().len(), 2);
}

#[test]
fn an_unreachable_session_is_waited_for_and_goes_on() {
    World::own_cluster().run(async |world| {
        let session = on_the_second_host(&world, LASTING).await;
        let mut socket = session.websocket().await;
        socket.echoes("before").await;
        let mut host = Host::of(&world, &session).await;
        host.vanishes();
        is_unreachable(&session).await;
        assert_eq!(session.state().await, "ready", "its state stays");
        let refused = spawn_is_refused(&world, LASTING).await;
        assert!(refused["detail"].as_str().unwrap().contains("waited for"), "{refused}");
        let refused = session.get("/").await.unwrap();
        refused.is_problem(503, "session_unreachable");
        assert!(!refused.header("retry-after").is_empty(), "{refused:?}");
        host.returns();
        eventually("its node is back", SOON, async || {
            let view = session.try_view().await?;
            if view["unreachable"].is_null() { Ok(()) } else { Err(view.to_string()) }
        })
        .await;
        socket.echoes("the same backend").await;
        let again = world.spawn(LASTING).key("doc").await;
        assert_eq!((again.spawned(), again.generation()), (false, 1));
        session.serves("/").await;
        assert_eq!(session.starts().len(), 1);
        abandon(&world, &session).await.is_problem(409, "session_reachable");
        session.serves("/").await;
    });
}

#[test]
fn an_unreachable_session_is_given_up_by_an_operator() {
    World::own_cluster().run(async |world| {
        let (session, host) = on_a_host_that_vanished(&world, LASTING).await;
        spawn_is_refused(&world, LASTING).await;
        let stopped = world.bivouac(&["stop", &session.id, "--abandon"]).await;
        assert!(stopped.status.success(), "{stopped:?}");
        assert!(String::from_utf8_lossy(&stopped.stdout).contains("abandoned"), "{stopped:?}");
        session.ended("abandoned").await;
        // The key is free, and the next request starts it.
        is_succeeded(&session, host).await;
        session.stop().await;
        session.ended("requested").await;
        world.nothing_runs().await;
    });
}

/// A stop that was decided while nobody could hear of it blocks its key no more than a session that runs.
#[test]
fn a_stop_that_reaches_nobody_can_be_given_up() {
    World::own_cluster().run(async |world| {
        let (session, host) = on_a_host_that_vanished(&world, LASTING).await;
        session.stop().await;
        spawn_is_refused(&world, LASTING).await;
        assert_eq!(session.state().await, "stopping");
        let view = abandon(&world, &session).await.expect_status(200).unwrap().json();
        assert!(view["reason"]["detail"].as_str().unwrap().contains("requested"), "{view}");
        let again = world.spawn(LASTING).key("doc").await;
        assert_eq!((again.spawned(), again.generation()), (true, 2));
        is_succeeded(&session, host).await;
    });
}

#[test]
fn an_unreachable_session_is_given_up_where_its_template_says_so() {
    World::own_cluster().run(async |world| {
        let (session, host) = on_a_host_that_vanished(&world, OVERLAPPING).await;
        let refused = spawn_is_refused(&world, OVERLAPPING).await;
        assert!(refused["unreachable"]["given_up_at"].is_string(), "{refused}");
        session.ended("abandoned").await;
        is_succeeded(&session, host).await;
    });
}

#[test]
fn a_drained_session_moves_on_with_the_next_request() {
    World::own_cluster().run(async |world| {
        let session = on_the_second_host(&world, WAKING).await;
        let mut socket = session.websocket().await;
        socket.echoes("before").await;
        let before = session.view().await["node"].clone();
        let drain =
            json!({ "DrainSpec": { "Deadline": -1, "IgnoreSystemJobs": true }, "MarkEligible": false });
        let path = format!("/v1/node/{}/drain", node(&world, 1).await);
        world.site().tell_nomad(Method::PUT, &path, &drain).await;
        let _code = socket.ends().await;
        let view = session.ended("drained").await;
        assert!(view["reason"]["detail"].as_str().unwrap().contains(before.as_str().unwrap()), "{view}");
        session.serves("/").await;
        let view = session.ready_again(2).await;
        assert_ne!(view["node"], before, "it is woken elsewhere");
        session.never_doubled();
    });
}

#[test]
fn a_session_makes_room_for_a_more_important_job() {
    World::own_cluster().run(async |world| {
        let preempts = json!({ "PreemptionConfig": { "BatchSchedulerEnabled": true } });
        world.site().tell_nomad(Method::PUT, "/v1/operator/scheduler/configuration", &preempts).await;
        let session = on_the_second_host(&world, GUEST).await;
        let mut socket = session.websocket().await;
        only_the_second_host(&world).await;
        let task = json!({
            "Name": "main", "Driver": "raw_exec", "Config": { "command": "/bin/sleep", "args": ["600"] },
            "Resources": { "CPU": 100, "MemoryMB": 399_990 }, "LogConfig": { "MaxFiles": 1, "MaxFileSizeMB": 1 }
        });
        let job = json!({
            "ID": "important", "Name": "important", "Type": "batch", "Priority": 90, "Datacenters": ["*"],
            "TaskGroups": [{ "Name": "main", "Count": 1, "EphemeralDisk": { "SizeMB": 10 }, "Tasks": [task] }]
        });
        world.site().tell_nomad(Method::PUT, "/v1/jobs", &json!({ "Job": job })).await;
        let _code = socket.ends().await;
        session.ended("preempted").await;
        session.backends_gone().await;
        session.never_doubled();
        world.site().tell_nomad(Method::DELETE, "/v1/job/important?purge=true", &Value::Null).await;
        // Nomad would start it again as soon as there is room, were its job not stopped.
        world.nothing_runs().await;
        session.never_doubled();
    });
}

#[test]
fn an_allocation_that_was_stopped_by_hand_stays_stopped() {
    World::cluster().run(async |world| {
        let session = world.spawn(WAKING).key("doc").idle_timeout("1m").await;
        let mut socket = session.websocket().await;
        let view = session.ready().await;
        let path = format!("/v1/allocation/{}/stop", view["allocation"].as_str().unwrap());
        world.site().tell_nomad(Method::PUT, &path, &Value::Null).await;
        let _code = socket.ends().await;
        session.ended("operator").await;
        session.get("/").await.unwrap().is_problem(410, "session_ended");
        session.never_doubled();
    });
}
