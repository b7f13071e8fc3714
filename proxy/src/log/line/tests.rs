use std::net::IpAddr;
use std::sync::Arc;

use bivouac_protocol::{Endpoint, Generation, Protocol, RoutePhase};
use proptest::prelude::*;

use super::*;

const SESSION: &str = "abcdefghijklmnop2345";

fn visitor(client: &str) -> Visitor {
    let client: IpAddr = client.parse().unwrap();
    Visitor::new(client, true, &Arc::from([]))
}

fn head(method: &str, target: &[u8], fields: &[(&'static str, &str)]) -> RequestHeader {
    let mut head = RequestHeader::build(method, target, None).unwrap();
    for (name, value) in fields {
        head.append_header(*name, *value).unwrap();
    }
    head
}

fn asked(head: &RequestHeader) -> Asked {
    let at: Timestamp = "2026-11-21T17:50:01.1239Z".parse().unwrap();
    Asked::new(at, &visitor("::ffff:192.0.2.7"), head, &Trace::random())
}

fn place() -> Place {
    let endpoint = Endpoint {
        address: "127.0.0.1:25000".parse().unwrap(),
        protocol: Protocol::Http,
        phase: RoutePhase::Ready,
    };
    let route = Route::new(
        SESSION.parse().unwrap(),
        Generation(3),
        "0b7e2a9c-0000-0000-0000-000000000000".parse().unwrap(),
        "http".parse().unwrap(),
        endpoint,
    );
    Place { session: None, port: None, route: Some(Arc::new(route)), user: Some("ada".into()) }
}

fn written(asked: &Asked, place: &Place, answer: Answer) -> String {
    let millis = Duration::from_micros;
    let line = Line {
        asked,
        protocol: asked.protocol,
        answer,
        place,
        to_backend: 12,
        to_client: 3_400,
        times: Times { whole: millis(12_345), held: Some(millis(10)), backend: Some(millis(2_000)) },
        reused: Some(true),
    };
    let mut text = Vec::new();
    line.write(&mut text);
    String::from_utf8(text).unwrap()
}

fn fine() -> Answer {
    Answer { status: Some(StatusCode::OK), refused: None, outcome: Outcome::Complete, close: None }
}

#[test]
fn the_fields_of_a_line_have_their_order() {
    let head = head("GET", b"/a?secret=1", &[("Host", "h.example"), ("X-Request-Id", "r-1")]);
    let line = written(&asked(&head), &place(), fine());
    assert_eq!(
        line,
        concat!(
            r#"{"at":"2026-11-21T17:50:01.123Z","id":"r-1","client":"192.0.2.7","proto":"1.1","tls":true,"#,
            r#""method":"GET","host":"h.example","path":"/a","status":200,"code":"ok","#,
            r#""session":"abcdefghijklmnop2345","generation":3,"port":"http","#,
            r#""allocation":"0b7e2a9c-0000-0000-0000-000000000000","user":"ada","#,
            r#""in":12,"out":3400,"ms":12.345,"held_ms":0.010,"backend_ms":2.000,"reused":true}"#,
            "\n"
        )
    );
}

#[test]
fn what_is_not_known_is_not_there() {
    let nothing = Asked::nothing("2026-11-21T17:50:01Z".parse().unwrap(), &visitor("2001:db8::1"));
    let line = Line {
        asked: &nothing,
        protocol: "",
        answer: Answer {
            status: Some(StatusCode::REQUEST_TIMEOUT),
            refused: Some("head_timeout"),
            outcome: Outcome::Broken,
            close: None,
        },
        place: &Place::default(),
        to_backend: 0,
        to_client: 0,
        times: Times { whole: Duration::ZERO, held: None, backend: None },
        reused: None,
    };
    let mut text = Vec::new();
    line.write(&mut text);
    assert_eq!(
        String::from_utf8(text).unwrap(),
        concat!(
            r#"{"at":"2026-11-21T17:50:01.000Z","client":"2001:db8::1","tls":true,"status":408,"#,
            r#""code":"head_timeout","in":0,"out":0,"ms":0.000}"#,
            "\n"
        )
    );
}

#[test]
fn an_end_has_one_code() {
    let asked = asked(&head("GET", b"/", &[("Host", "h")]));
    let code = |refused, outcome| {
        let line = written(&asked, &place(), Answer { refused, outcome, close: Some(1001), ..fine() });
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["close"], 1001);
        line["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(code(None, Outcome::Cut("idle")), "cut:idle");
    assert_eq!(code(None, Outcome::ClientGone), "client_gone");
    assert_eq!(code(None, Outcome::Broken), "broken");
    assert_eq!(code(Some("draining"), Outcome::Broken), "draining");
}

#[test]
fn a_path_is_all_that_is_told_of_a_target() {
    let path_of = |target: &[u8]| {
        let line = written(&asked(&head("GET", target, &[("Host", "h")])), &place(), fine());
        assert!(!line.contains("secret"), "{line}");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        line["path"].as_str().unwrap().to_owned()
    };
    assert_eq!(path_of(b"/a/b?bivouac_ticket=secret"), "/a/b");
    assert_eq!(path_of(b"/a#secret"), "/a");
    assert_eq!(path_of(b"http://user:secret@h/x?y"), "/x");
    assert_eq!(path_of(b"http://h/x?secret"), "/x");
    assert_eq!(path_of(b"*"), "");
    assert_eq!(path_of(&[b"/".as_slice(), &[b'a'; 9_000]].concat()).len(), LONGEST_PATH);
}

proptest! {
    #[test]
    fn no_text_breaks_out_of_its_line(value in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut out = b"{\"a\":1".to_vec();
        text(&mut out, "text", &value);
        out.push(b'}');
        prop_assert!(out.iter().all(|byte| (b' '..=b'~').contains(byte)));
        let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
        prop_assert!(read["text"].is_string());
        prop_assert_eq!(read.as_object().unwrap().len(), 2);
    }
}
