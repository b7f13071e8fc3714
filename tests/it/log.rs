//! The access log: one line for each request and each tunnel, and nothing secret in any.

use std::path::PathBuf;
use std::time::Duration;

use bivouac_tests::world::{GUEST, Raw, Setup};
use bivouac_tests::{World, eventually};
use reqwest::Method;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

const SOON: Duration = Duration::from_secs(20);

/// In the proxy's own folder.
const FILE: &str = "access.log";

fn logging() -> Setup {
    World::cluster().proxy_flag("access-log", FILE)
}

fn file(world: &World) -> PathBuf {
    world.proxy(0).process.folder().join(FILE)
}

fn lines(world: &World) -> Vec<Value> {
    let text = std::fs::read_to_string(file(world)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// Waits until so many lines have this path; all of them.
async fn told(world: &World, path: &str, count: usize) -> Vec<Value> {
    eventually(format!("{count} lines of {path}"), SOON, async || {
        let all = lines(world);
        let found: Vec<Value> = all.iter().filter(|line| line["path"] == path).cloned().collect();
        if found.len() >= count { Ok(found) } else { Err(format!("{all:?}")) }
    })
    .await
}

#[test]
fn one_line_for_each_request_and_tunnel() {
    logging().run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("5m").await;
        session.ready().await;
        let request = session.request(Method::POST, "/posted").header("x-request-id", "r-1").body("12345");
        let answer = request.send().await.unwrap().text().await.unwrap();
        let line = told(&world, "/posted", 1).await.remove(0);
        let view = session.view().await;
        for (field, wanted) in [
            ("id", "r-1".into()),
            ("client", "127.0.0.1".into()),
            ("proto", "1.1".into()),
            ("tls", false.into()),
            ("method", "POST".into()),
            ("host", session.authority().into()),
            ("status", 200.into()),
            ("code", "ok".into()),
            ("session", session.id.clone().into()),
            ("generation", 1.into()),
            ("port", "http".into()),
            ("allocation", view["allocation"].clone()),
            ("in", 5.into()),
            ("out", answer.len().into()),
        ] {
            assert_eq!(line[field], wanted, "{field} of {line}");
        }
        assert!(line["ms"].as_f64() >= line["backend_ms"].as_f64(), "{line}");

        let mut socket = session.websocket().await;
        socket.echoes("there and back").await;
        assert!(lines(&world).iter().all(|line| line["path"] != "/ws"), "a tunnel that is open has no line");
        socket.close().await;
        let line = told(&world, "/ws", 1).await.remove(0);
        assert_eq!((&line["proto"], &line["status"]), (&"ws".into(), &101.into()), "{line}");
        // The client does not wait for the other close frame, and may be gone before it comes.
        assert!(line["code"] == "ok" || line["code"] == "client_gone", "{line}");
        assert!(line["in"].as_u64() > Some(14) && line["out"].as_u64() > Some(14), "{line}");

        let mut socket = session.websocket().await;
        socket.echoes("until it is stopped").await;
        session.stop().await;
        assert_eq!(socket.closed().await, (1001, "requested".to_owned()));
        let line = told(&world, "/ws", 2).await.remove(1);
        assert_eq!((&line["code"], &line["close"]), (&"cut:requested".into(), &1001.into()), "{line}");

        session.ended("requested").await;
        session.get("/gone").await.unwrap().is_problem(410, "session_ended");
        let line = told(&world, "/gone", 1).await.remove(0);
        assert_eq!((&line["status"], &line["code"]), (&410.into(), &"session_ended".into()), "{line}");
        let all = lines(&world);
        let of_ours = |path: &str| all.iter().filter(|line| line["path"] == path).count();
        assert_eq!(["/posted", "/ws", "/gone"].map(of_ours), [1, 2, 1], "{all:?}");
    });
}

#[test]
fn a_killed_client_has_a_line_too() {
    logging().run(async |world| {
        let session = world.spawn(GUEST).env("GUEST_START_MS", "4000").idle_timeout("5m").await;
        // It leaves while it waits for the session.
        let head = format!("GET /waiting HTTP/1.1\r\nHost: {}\r\n\r\n", session.authority());
        let mut client = tokio::net::TcpStream::connect(("127.0.0.1", world.proxy_port(0))).await.unwrap();
        client.write_all(head.as_bytes()).await.unwrap();
        eventually("it waits", SOON, async || {
            let admin = world.proxy(0).process.ready().admin.unwrap();
            let metrics =
                world.http().get(format!("{admin}/metrics")).send().await.unwrap().text().await.unwrap();
            if metrics.contains("bivouac_proxy_holds 1\n") { Ok(()) } else { Err("nobody waits".to_owned()) }
        })
        .await;
        drop(client);
        let line = told(&world, "/waiting", 1).await.remove(0);
        assert_eq!((&line["code"], &line["status"]), (&"client_gone".into(), &Value::Null), "{line}");

        // And in the middle of an answer.
        session.ready().await;
        let mut response = session.request(Method::GET, "/stream?seconds=60").send().await.unwrap();
        response.chunk().await.unwrap().unwrap();
        drop(response);
        let line = told(&world, "/stream", 1).await.remove(0);
        assert_eq!((&line["code"], &line["status"]), (&"client_gone".into(), &200.into()), "{line}");
        session.stop().await;
    });
}

#[test]
fn nothing_secret_is_written() {
    logging().run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("5m").await;
        session.ready().await;
        let request = session
            .request(Method::POST, "/secrets?bivouac_ticket=SECRET&other=SECRET")
            .header("authorization", "Bearer SECRET")
            .header("cookie", "bivouac=SECRET; other=SECRET")
            .header("referer", "http://elsewhere.example/?SECRET")
            .header("x-anything", "SECRET")
            .body("SECRET");
        request.send().await.unwrap();
        let host = session.authority();
        let port = world.proxy_port(0);
        // Refused before, and while, it was understood; and what would end the line, or speak to a terminal.
        Raw::send(port, format!("GET http://u:SECRET@{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        Raw::send(port, format!("GET /?SECRET HTTP/1.1\r\nHost: SECRET@{host}\r\nX: a\nb\r\n\r\n")).await;
        Raw::send(
            port,
            format!("GET /\"\\%0a\u{1b}[2J HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        )
        .await;
        told(&world, "/secrets", 1).await;
        eventually("all have their lines", SOON, async || {
            let all = lines(&world);
            if all.len() >= 4 { Ok(()) } else { Err(format!("{all:?}")) }
        })
        .await;
        let text = std::fs::read_to_string(file(&world)).unwrap();
        assert!(!text.contains("SECRET"), "{text}");
        assert!(text.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)), "{text:?}");
        session.stop().await;
    });
}

#[test]
fn a_rotated_file_is_followed() {
    logging().run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("5m").await;
        session.serves("/before").await;
        told(&world, "/before", 1).await;
        let moved = file(&world).with_extension("log.1");
        std::fs::rename(file(&world), &moved).unwrap();
        eventually("lines go to the new file", SOON, async || {
            session.serves("/after").await;
            if lines(&world).is_empty() { Err("it is not there".to_owned()) } else { Ok(()) }
        })
        .await;
        let earlier = std::fs::read_to_string(&moved).unwrap();
        assert!(earlier.contains("/before") && earlier.ends_with("}\n"), "{earlier}");
        let later = lines(&world);
        assert!(later.iter().all(|line| line["path"] == "/after"), "{later:?}");
        session.stop().await;
    });
}
