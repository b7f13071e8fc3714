//! What one client may take, whom the proxy believes, and that nothing is left of those who went.

use std::net::SocketAddr;
use std::time::Duration;

use bivouac_tests::world::{GUEST, Session};
use bivouac_tests::{World, eventually};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::upgrade::{WithTls, certificate};

const SOON: Duration = Duration::from_secs(20);
/// Longer than the bounds of these scenarios, and shorter than the usual ones.
const BOUNDED: Duration = Duration::from_secs(8);

/// A client with an address of its own on this machine: `127.0.0.<number>`.
async fn client(number: u8, port: u16) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, number], 0))).unwrap();
    socket.connect(([127, 0, 0, 1], port).into()).await.unwrap()
}

/// Asks on a connection that is open, and reads what comes until the other end closes it. Empty: it was closed at once.
async fn asks(mut stream: TcpStream, first: &[u8], session: &Session, fields: &str) -> String {
    let request =
        format!("GET /who HTTP/1.1\r\nHost: {}\r\n{fields}Connection: close\r\n\r\n", session.authority());
    // Whoever is turned away may learn of it while sending.
    let _ = stream.write_all(&[first, request.as_bytes()].concat()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("an answer, or the end");
    String::from_utf8(answer).unwrap()
}

/// What the backend was told, by a field of its head.
fn told(answer: &str, field: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    let json = body.find('{').and_then(|begin| body.get(begin..=body.rfind('}')?)).expect("the guest's JSON");
    let echo: Value = serde_json::from_str(json).unwrap();
    let lines = echo["headers"][field].as_array().unwrap_or_else(|| panic!("no {field}: {echo}"));
    assert_eq!(lines.len(), 1, "{echo}");
    lines[0].as_str().unwrap().to_owned()
}

/// A PROXY header of version 2 for this client.
fn introduced(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(client);
    header.extend([192, 0, 2, 1, 0x12, 0x34, 0, 80]);
    header
}

#[test]
fn one_client_cannot_take_all_connections() {
    let bounded = World::embedded()
        .proxy_flag("limit-connections-per-client", "5")
        .proxy_flag("limit-connections", "12");
    bounded.run(async |world| {
        let session = world.spawn(GUEST).await;
        let port = world.proxy_port(0);
        session.ready().await;
        let mut greedy = Vec::new();
        for _ in 0..5 {
            let mut stream = client(2, port).await;
            stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            greedy.push(stream);
        }
        eventually("a sixth of them is turned away", SOON, async || {
            match asks(client(2, port).await, b"", &session, "").await.as_str() {
                "" => Ok(()),
                answer => Err(answer.to_owned()),
            }
        })
        .await;
        assert_eq!(
            told(&asks(client(3, port).await, b"", &session, "").await, "x-forwarded-for"),
            "127.0.0.3"
        );
        greedy.pop();
        eventually("a place is free again", SOON, async || {
            let answer = asks(client(2, port).await, b"", &session, "").await;
            if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
        })
        .await;

        let mut crowd = Vec::new();
        for number in 10..30 {
            crowd.push(client(number, port).await);
        }
        eventually("there are as many as there may be", SOON, async || {
            match asks(client(40, port).await, b"", &session, "").await.as_str() {
                "" => Ok(()),
                answer => Err(answer.to_owned()),
            }
        })
        .await;
        drop((crowd, greedy));
        eventually("and there is room again", SOON, async || {
            let answer = asks(client(41, port).await, b"", &session, "").await;
            if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
        })
        .await;
    });
}

#[test]
fn the_proxy_protocol_is_believed_from_its_networks_only() {
    World::embedded().proxy_flag("proxy-protocol-from", "127.0.0.2/32").run(async |world| {
        let session = world.spawn(GUEST).await;
        session.ready().await;
        let port = world.proxy_port(0);
        let header = introduced([198, 51, 100, 9]);
        let answer = asks(client(2, port).await, &header, &session, "").await;
        assert_eq!(told(&answer, "x-forwarded-for"), "198.51.100.9");
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0";
        let answer = asks(client(2, port).await, local, &session, "").await;
        assert_eq!(told(&answer, "x-forwarded-for"), "127.0.0.2");
        assert_eq!(asks(client(2, port).await, b"", &session, "").await, "", "there has to be one");
        let old = b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n";
        assert_eq!(asks(client(2, port).await, old, &session, "").await, "", "of version 2");
        let answer = asks(client(3, port).await, &header, &session, "").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "from elsewhere it is a bad request: {answer}");
        let answer = asks(client(3, port).await, b"", &session, "X-Forwarded-For: 1.2.3.4\r\n").await;
        assert_eq!(told(&answer, "x-forwarded-for"), "127.0.0.3");
    });
}

#[test]
fn forwarded_fields_of_a_trusted_hop_are_continued() {
    World::embedded().proxy_flag("trusted-hop", "127.0.0.2/32,10.0.0.0/8").run(async |world| {
        let session = world.spawn(GUEST).await;
        session.ready().await;
        let port = world.proxy_port(0);
        let said = "X-Forwarded-For: 6.6.6.6, 198.51.100.9, 10.0.0.1\r\nX-Forwarded-Proto: https\r\n";
        let answer = asks(client(2, port).await, b"", &session, said).await;
        assert_eq!(told(&answer, "x-forwarded-for"), "6.6.6.6, 198.51.100.9, 10.0.0.1, 127.0.0.2");
        assert_eq!(told(&answer, "x-forwarded-proto"), "https");
        assert!(told(&answer, "forwarded").contains("for=10.0.0.1, for=127.0.0.2;"), "{answer}");
        let answer = asks(client(3, port).await, b"", &session, said).await;
        assert_eq!(told(&answer, "x-forwarded-for"), "127.0.0.3");
        assert_eq!(told(&answer, "x-forwarded-proto"), "http");
    });
}

/// Sends these bytes and then nothing: how it ends, which has to be soon.
async fn stalls(mut stream: TcpStream, bytes: &[u8]) -> String {
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(BOUNDED, stream.read_to_end(&mut answer)).await;
    let _ = ended.unwrap_or_else(|_| panic!("{bytes:?} is waited for"));
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn slow_hands_are_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let slow = World::embedded()
        .with_tls(&certificate(folder.path(), "slow"))
        .proxy_flag("limit-head-time", "1s")
        .proxy_flag("proxy-protocol-from", "127.0.0.2/32");
    slow.run(async |world| {
        let (plain, tls) = (world.proxy_port(0), world.proxy_tls_port(0));
        let answers = tokio::join!(
            async { stalls(client(1, plain).await, b"GET / HTTP/1.1\r\nHost: ").await },
            async { stalls(client(1, plain).await, b"PRI * HTTP/2").await },
            async { stalls(client(1, tls).await, b"\x16\x03\x01\x02").await },
            async { stalls(client(1, tls).await, b"").await },
            async { stalls(client(2, plain).await, b"\r\n\r\n\0\r\nQUI").await },
            async { stalls(client(2, tls).await, &introduced([1, 2, 3, 4])).await },
            async {
                stalls(client(2, plain).await, &[&introduced([1, 2, 3, 4]), b"GET ".as_slice()].concat())
                    .await
            },
        );
        assert!(answers.0.contains("head_timeout") && answers.6.contains("head_timeout"), "{answers:?}");
        for silent in [&answers.1, &answers.2, &answers.3, &answers.4, &answers.5] {
            assert!(!silent.contains("HTTP/1.1"), "{answers:?}");
        }
    });
}

#[test]
fn no_descriptor_is_left() {
    World::cluster().run(async |world| {
        let session = world.spawn(GUEST).await;
        session.serves("/").await;
        session.websocket().await.close().await;
        let proxy = world.proxy(0);
        let before = proxy.process.descriptors();
        let port = world.proxy_port(0);
        for round in 0..5 {
            let mut sockets = Vec::new();
            for _ in 0..20 {
                sockets.push(session.websocket().await);
            }
            let half = sockets.split_off(10);
            drop(half);
            for socket in sockets {
                socket.close().await;
            }
            for number in 0..40u8 {
                let mut stream = client(1 + number, port).await;
                let begun: &[u8] = if number % 2 == 0 { b"GET / HT" } else { b"" };
                stream.write_all(begun).await.unwrap();
            }
            session.serves("/").await;
            assert!(session.get(&format!("/exit-not-{round}")).await.is_ok());
        }
        // Kept connections to the backend and to Consul come and go.
        eventually("what was open is closed", Duration::from_secs(60), async || {
            match proxy.process.descriptors() {
                now if now <= before + 5 => Ok(()),
                now => Err(format!("{now} descriptors, and {before} before")),
            }
        })
        .await;
    });
}
