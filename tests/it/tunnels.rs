//! Connections that change their protocol: as if the proxy were not there, whatever is sent when, and cheap.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bivouac_tests::guest::raw::{Script, Witness, play, read_head};
use bivouac_tests::world::{GUEST, Session, WAKING};
use bivouac_tests::{World, eventually};
use futures::StreamExt;
use reqwest::Method;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::upgrade::{WithTls as _, certificate, secure};

const SOON: Duration = Duration::from_secs(30);
/// Handshakes under way at the same time. Some wait for a second: see `tunnel::pump` in the proxy.
const AT_ONCE: usize = 128;

everywhere!(half_a_close_each_way, each_end_has_its_code);

/// A session whose guest follows scripts.
async fn scripted(world: &World) -> Session {
    let session = world.spawn(GUEST).idle_timeout("10m").env("GUEST_MODE", "raw").await;
    session.ready().await;
    session
}

/// The same, but every byte asks before it passes.
async fn scripted_and_watched(world: &World) -> Session {
    let spawn = world.spawn(GUEST).idle_timeout("10m").quiet_timeout("5m");
    let session = spawn.env("GUEST_MODE", "raw").await;
    session.ready().await;
    session
}

/// Where its guest listens.
async fn backend_of(session: &Session) -> String {
    session.serves("/").await.body
}

/// How a client reaches a session's backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    Plain,
    /// At this port of the proxy.
    Tls(u16),
}

impl Way {
    /// Plays a seed's script against a session.
    async fn handshake(self, session: &Session, backend: &str, seed: u64) -> Result<Witness, String> {
        match self {
            Self::Direct => handshake(connect(backend).await?, session, self, seed).await,
            Self::Plain => handshake(connect(&proxy_of(session)).await?, session, self, seed).await,
            Self::Tls(port) => handshake(secure(port, session).await, session, self, seed).await,
        }
    }

    /// Under which name guests remember.
    fn run(self, seed: u64) -> String {
        let name = if self == Self::Direct { "direct" } else { "proxied" };
        format!("{name}/{seed}")
    }
}

fn proxy_of(session: &Session) -> String {
    format!("127.0.0.1:{}", session.authority().rsplit(':').next().unwrap_or_default())
}

async fn connect(to: &str) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(to).await.map_err(|error| format!("no connection: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(stream)
}

/// Asks for an upgrade, plays the client's side of a script, and tells what it has seen.
async fn handshake(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    session: &Session,
    way: Way,
    seed: u64,
) -> Result<Witness, String> {
    let (script, host) = (Script::of(seed), session.authority());
    let mut ask = format!(
        "GET /play/{} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: {}\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        way.run(seed),
        script.protocol
    )
    .into_bytes();
    ask.extend_from_slice(&script.client.early);
    stream.write_all(&ask).await.map_err(|error| format!("not asked: {error}"))?;
    stream.flush().await.map_err(|error| format!("not asked: {error}"))?;
    let (head, ahead) = read_head(&mut stream).await.map_err(|error| format!("no answer: {error}"))?;
    if !head.starts_with("HTTP/1.1 101 ") {
        return Err(head);
    }
    Ok(play(stream, &script.client, ahead).await)
}

/// Plays the scripts of these seeds against sessions in turn: what the clients have seen.
async fn play_all(
    sessions: &[(Session, String)],
    way: Way,
    seeds: u64,
) -> BTreeMap<u64, Result<Witness, String>> {
    let playing = futures::stream::iter(0..seeds).map(|seed| {
        let (session, backend) = sessions[seed as usize % sessions.len()].clone();
        let playing = tokio::spawn(async move { way.handshake(&session, &backend, seed).await });
        async move { (seed, playing.await.unwrap()) }
    });
    playing.buffer_unordered(AT_ONCE).collect().await
}

/// What the guests have seen, by run and seed, once all connections are over.
async fn witnesses(sessions: &[(Session, String)], expected: usize) -> BTreeMap<String, Witness> {
    eventually("every connection is over at its backend", SOON, async || {
        let mut all = BTreeMap::new();
        for (session, _) in sessions {
            let told = session.get("/witnesses").await?.expect_status(200)?;
            let told: BTreeMap<String, Witness> = serde_json::from_str(&told.body).unwrap();
            all.extend(told);
        }
        if all.len() == expected { Ok(all) } else { Err(format!("{} of {expected}", all.len())) }
    })
    .await
}

/// So many handshakes with frames that are sent early, pauses and half-closes leave both sides with what they would have
/// without a proxy.
async fn handshakes_are_as_if_direct(world: &World, way: Way, seeds: u64) {
    let mut sessions = Vec::new();
    // A machine has not enough ports for so many connections to one address.
    for _ in 0..2 {
        for session in [scripted(world).await, scripted_and_watched(world).await] {
            let backend = backend_of(&session).await;
            sessions.push((session, backend));
        }
    }
    let direct = play_all(&sessions, Way::Direct, seeds).await;
    let proxied = play_all(&sessions, way, seeds).await;
    for (seed, seen) in &direct {
        assert!(seen.as_ref().is_ok_and(|seen| seen.end == "clean"), "seed {seed}: {seen:?}");
        assert_eq!(&proxied[seed], seen, "the client of seed {seed}: {:?}", Script::of(*seed));
    }
    let witnesses = witnesses(&sessions, 2 * direct.len()).await;
    for seed in direct.keys() {
        let (direct, proxied) = (Way::Direct.run(*seed), way.run(*seed));
        assert_eq!(witnesses[&proxied], witnesses[&direct], "the backend of seed {seed}");
    }
}

#[test]
fn twenty_thousand_handshakes_are_as_if_direct() {
    World::embedded().run(async |world| handshakes_are_as_if_direct(&world, Way::Plain, 20_000).await);
}

#[test]
fn handshakes_in_a_cluster_are_as_if_direct() {
    World::cluster().run(async |world| handshakes_are_as_if_direct(&world, Way::Plain, 500).await);
}

#[test]
fn handshakes_over_tls_are_as_if_direct() {
    let folder = tempfile::tempdir().unwrap();
    let issued = certificate(folder.path(), "proxy");
    World::cluster().with_tls(&issued).run(async |world| {
        let way = Way::Tls(world.proxy_tls_port(0));
        handshakes_are_as_if_direct(&world, way, 500).await;
    });
}

/// Opens a connection that rests.
async fn resting(session: &Session) -> Result<TcpStream, String> {
    let host = session.authority();
    let mut stream = connect(&proxy_of(session)).await?;
    let ask =
        format!("GET /rest HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.map_err(|e| e.to_string())?;
    let (head, _) = read_head(&mut stream).await.map_err(|e| e.to_string())?;
    if head.starts_with("HTTP/1.1 101 ") { Ok(stream) } else { Err(head) }
}

/// Memory that is a process's own, in bytes.
fn memory_of(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn nine_thousand_five_hundred_rest_cheaply() {
    const TUNNELS: usize = 9_500;
    const FILES: u64 = 20_000;
    /// Of a build with everything that helps in finding faults. What a release takes, `make bench` measures.
    const BYTES_EACH: u64 = 8 * 1024;
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if files.maximum.is_some_and(|most| most < FILES) {
        let name = "nine_thousand_five_hundred_rest_cheaply";
        writeln!(std::io::stderr(), "skipped: {name}: {:?} open files at most", files.maximum).unwrap();
        return;
    }
    let raised = rustix::process::Rlimit { current: files.maximum.or(Some(FILES)), ..files };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    World::embedded().run(async |world| {
        let session = scripted(&world).await;
        drop(resting(&session).await.unwrap());
        let pid = world.dev().pid().unwrap();
        let before = memory_of(pid);
        let opening = futures::stream::iter(0..TUNNELS).map(|_| resting(&session)).buffer_unordered(64);
        let mut tunnels: Vec<TcpStream> = opening.map(|tunnel| tunnel.unwrap()).collect().await;
        eventually("all of them are counted", SOON, async || {
            let view = session.try_view().await?;
            let open = view["alive"]["proxies"][0]["open"].as_u64().unwrap_or(0);
            if open as usize == TUNNELS { Ok(()) } else { Err(open.to_string()) }
        })
        .await;
        let each = memory_of(pid).saturating_sub(before) / TUNNELS as u64;
        writeln!(std::io::stderr(), "{TUNNELS} tunnels at rest: {each} bytes each").unwrap();
        assert!(each <= BYTES_EACH, "{each} bytes each");
        let (first, last) = (0, TUNNELS - 1);
        for tunnel in [first, TUNNELS / 2, last] {
            let mut echo = [0; 7];
            tunnels[tunnel].write_all(b"\x81\x05hello").await.unwrap();
            tunnels[tunnel].read_exact(&mut echo).await.unwrap();
            assert_eq!(&echo, b"\x81\x05hello");
        }
        drop(tunnels);
        eventually("their memory is given back", SOON, async || {
            // An allocator tidies up when it is asked for something.
            let others = futures::future::join_all((0..64).map(|_| resting(&session))).await;
            drop(others);
            let left = memory_of(pid).saturating_sub(before) / TUNNELS as u64;
            if left <= each / 2 { Ok(()) } else { Err(format!("{left} of {each} bytes each are left")) }
        })
        .await;
    });
}

async fn half_a_close_each_way(world: World) {
    let session = scripted(&world).await;
    let mut stream = resting(&session).await.unwrap();
    stream.write_all(b"said before the end").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut echo = Vec::new();
    stream.read_to_end(&mut echo).await.unwrap();
    assert_eq!(echo, b"said before the end", "what comes back after the client has ended its half");

    // A seed whose backend ends first, and whose client goes on.
    let seed = (0..).find(|seed| Script::of(*seed).client.ends_last).unwrap();
    let seen = Way::Plain.handshake(&session, "", seed).await.unwrap();
    assert_eq!(seen.end, "clean");
    let witnesses = witnesses(&[(session, String::new())], 1).await;
    let script = Script::of(seed);
    let said: usize = script.client.pieces.iter().map(|(_, piece)| piece.len()).sum();
    let heard = &witnesses[&Way::Plain.run(seed)];
    assert_eq!((heard.bytes, heard.end.as_str()), (script.client.early.len() + said, "clean"));
}

async fn each_end_has_its_code(world: World) {
    let spawn = || world.spawn(WAKING).idle_timeout("10m");
    let closed = async |session: Session, end: &str| {
        let mut socket = session.websocket().await;
        socket.echoes("hello").await;
        match end {
            "requested" => drop(session.stop().await),
            "exit" => drop(session.request(Method::GET, "/exit?code=3").send().await),
            _ => {}
        }
        socket.closed().await
    };
    let told = |code: u16, reason: &str| (code, reason.to_owned());
    let requested = closed(spawn().await, "requested");
    let lifetime = closed(spawn().field("max_lifetime", "4s").await, "lifetime");
    let quiet = closed(spawn().quiet_timeout("1s").await, "quiet");
    let exited = closed(spawn().await, "exit");
    let (requested, lifetime, quiet, exited) = tokio::join!(requested, lifetime, quiet, exited);
    assert_eq!(requested, told(1001, "requested"));
    assert_eq!(lifetime, told(1001, "lifetime"));
    assert_eq!(quiet, told(1001, "quiet"));
    // The backend's connection breaks first: what it is called depends on whether the word of its exit comes in time.
    assert!([told(4410, "exited"), told(4502, "backend_failed")].contains(&exited), "{exited:?}");
}

#[test]
fn a_stopping_proxy_says_so() {
    World::cluster().proxy_flag("drain-timeout", "1s").run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("10m").await;
        let mut socket = session.websocket().await;
        let proxy: Arc<_> = world.proxy(0);
        let (status, closed) = tokio::join!(proxy.process.terminate(), socket.closed());
        assert!(status.success(), "{status}");
        assert_eq!(closed, (1001, "draining".to_owned()));
    });
}
