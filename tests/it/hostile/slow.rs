//! Clients that take their time: each is let go once its time is over, and holds nothing up.

use std::time::{Duration, Instant};

use bivouac_tests::World;
use bivouac_tests::world::Setup;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Witness;

/// Every limit of time in this world.
const LIMIT: &str = "1s";
/// Longest time until somebody is let go, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause between two bytes: each would begin a new deadline, if deadlines were for single reads.
const PAUSE: Duration = Duration::from_millis(150);

fn impatient() -> Setup {
    let setup = World::embedded();
    ["limit-head-time", "limit-body-time", "limit-keep-alive", "limit-write-stall"]
        .into_iter()
        .fold(setup, |setup, flag| setup.service_flag(flag, LIMIT))
}

/// Sends `at_once`, then `drip` byte by byte, over and over, until the other end closes; what it has said.
async fn drip(port: u16, at_once: String, drip: &'static [u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(at_once.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let dripping = async {
        let mut ticks = tokio::time::interval(PAUSE);
        for byte in drip.iter().cycle() {
            ticks.tick().await;
            if writing.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let listening = async { while let Ok(1..) = reading.read_buf(&mut answer).await {} };
    let done = async {
        tokio::select! {
            () = dripping => {}
            () = listening => {}
        }
    };
    tokio::time::timeout(PATIENCE, done).await.expect("a slow client is let go");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn slow_heads_and_bodies_are_let_go() {
    impatient().run(async |world| {
        let witness = Witness::call(&world).await;
        let (host, port) = (witness.session.authority(), world.proxy_port(0));
        let head = |fields: &str| format!("POST /slow HTTP/1.1\r\nHost: {host}\r\n{fields}");
        let handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nX: ";
        let started = Instant::now();
        let all = tokio::join!(
            drip(port, String::new(), b"G"),
            drip(port, head("X: "), b"x"),
            drip(port, head("X: y"), b"\r\nX: y"),
            drip(port, head(handshake), b"x"),
            drip(port, head("Content-Length: 100000\r\n\r\n"), b"x"),
            drip(port, head("Transfer-Encoding: chunked\r\n\r\n"), b"1\r\nx\r\n"),
        );
        for (name, answer, code) in [
            ("a first line", all.0, "head_timeout"),
            ("a field", all.1, "head_timeout"),
            ("many fields", all.2, "head_timeout"),
            ("a handshake", all.3, "head_timeout"),
            ("a body", all.4, "body_timeout"),
            ("a body in chunks", all.5, "body_timeout"),
        ] {
            assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains(code), "{name}: {answer:?}");
        }
        assert!(started.elapsed() >= Duration::from_secs(1), "nobody had the time that is everybody's");
        let whole: usize = witness.records().iter().map(|record| record.requests.len()).sum();
        assert_eq!(whole, 0, "half a request is none");
        witness.session.serves("/").await;
    });
}

#[test]
fn silent_connections_are_let_go() {
    impatient().run(async |world| {
        let witness = Witness::call(&world).await;
        let (host, port) = (witness.session.authority(), world.proxy_port(0));
        let silent = drip(port, String::new(), b"");
        let resting = drip(port, format!("GET /once HTTP/1.1\r\nHost: {host}\r\n\r\n"), b"");
        let (silent, resting) = tokio::join!(silent, resting);
        assert!(silent.is_empty(), "who has said nothing is told nothing: {silent:?}");
        assert_eq!(resting.matches("HTTP/1.1 ").count(), 1, "{resting:?}");
        assert!(resting.starts_with("HTTP/1.1 200 "), "{resting:?}");
    });
}
