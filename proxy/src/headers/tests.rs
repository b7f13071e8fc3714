use bivouac_protocol::Generation;
use http::{Method, Version};
use pingora_http::{RequestHeader, ResponseHeader};
use proptest::prelude::*;

use super::*;
use crate::access::{Grant, Strip};
use crate::framing::Framing;
use crate::head::Plan;
use crate::visitor::Visitor;

const PLAIN: Plan = Plan { body: Framing::Empty, upgrade: false, websocket: false, navigation: false };

fn asked(fields: &[(&str, &str)]) -> RequestHeader {
    let mut request = RequestHeader::build("GET", b"/a?b", None).unwrap();
    for (name, value) in fields {
        request.append_header((*name).to_owned(), *value).unwrap();
    }
    request
}

/// What a backend gets of a request, in the form that `write` gives it.
fn told<T>(
    request: &RequestHeader,
    plan: Plan,
    grant: &Grant,
    write: impl Fn(&RequestHeader, &RequestFields<'_>) -> T,
) -> T {
    let client = "2001:db8::1".parse().unwrap();
    let visitor = Visitor::new(client, false, &std::sync::Arc::from([]));
    let fields = RequestFields {
        host: b"x.localhost:80",
        target: b"/a?b",
        plan,
        session: &"abcdefghijklmnop2345".parse().unwrap(),
        generation: Generation(7),
        visitor: &visitor,
        trace: &Trace::random(),
        grant,
    };
    write(request, &fields)
}

fn written(request: &RequestHeader, fields: &RequestFields<'_>) -> String {
    let mut wire = Vec::new();
    write_request(&mut wire, request, fields);
    String::from_utf8(wire).unwrap()
}

fn sent(fields: &[(&str, &str)], plan: Plan) -> String {
    told(&asked(fields), plan, &Grant::default(), written)
}

/// All values of a field, by its exact name in any case.
fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
    fields.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

#[test]
fn a_backend_is_told_who_asked_and_for_what() {
    let head = sent(&[("Host", "evil"), ("aCCept", "*/*"), ("X-Thing", "1"), ("X-Thing", "2")], PLAIN);
    assert!(head.starts_with("GET /a?b HTTP/1.1\r\nHost: x.localhost:80\r\n") && head.ends_with("\r\n\r\n"));
    assert_eq!(values(&head, "host"), ["x.localhost:80"]);
    assert!(head.contains("\r\naCCept: */*\r\n"), "the case of names is kept: {head}");
    assert_eq!(values(&head, "x-thing"), ["1", "2"]);
    assert_eq!(values(&head, "x-forwarded-for"), ["2001:db8::1"]);
    assert_eq!(values(&head, "x-forwarded-proto"), ["http"]);
    assert_eq!(values(&head, "x-forwarded-host"), ["x.localhost:80"]);
    assert_eq!(values(&head, "forwarded"), ["for=\"[2001:db8::1]\";host=\"x.localhost:80\";proto=http"]);
    assert_eq!(values(&head, "x-bivouac-session"), ["abcdefghijklmnop2345"]);
    assert_eq!(values(&head, "x-bivouac-generation"), ["7"]);
    assert_eq!(values(&head, "x-request-id")[0].len(), 32);
    assert_eq!(values(&head, "traceparent")[0].len(), 55);
}

#[test]
fn what_we_say_cannot_be_forged_in_any_spelling() {
    let forged = [
        "X-Bivouac-Session",
        "x_bivouac_user",
        "X-Bivouac_Claims",
        "x-bivouac-",
        "X-BIVOUAC-FUTURE",
        "X-Forwarded-For",
        "X_Forwarded_For",
        "x-forwarded-port",
        "Forwarded",
        "X-Real-IP",
        "X_Real_Ip",
        "X_Request_Id",
        "Content_Length",
        "transfer_encoding",
    ];
    for name in forged {
        let head = sent(&[(name, "forged")], PLAIN);
        assert!(!head.contains("forged"), "{name}: {head}");
    }
    assert!(sent(&[("X-Bivouacs", "kept")], PLAIN).contains("kept"));
}

#[test]
fn what_belongs_to_the_connection_stays_there() {
    let head = sent(
        &[
            ("Connection", "close, X-Hop,  host, x-bivouac-session"),
            ("X-Hop", "gone"),
            ("Keep-Alive", "gone"),
            ("Proxy-Authorization", "gone"),
            ("Proxy-Connection", "gone"),
            ("TE", "gone"),
            ("Trailer", "gone"),
            ("Upgrade", "gone"),
            ("HTTP2-Settings", "gone"),
            ("X-Stays", "1"),
        ],
        PLAIN,
    );
    assert!(!head.contains("gone") && values(&head, "connection").is_empty(), "{head}");
    assert_eq!(values(&head, "x-stays"), ["1"]);
    assert_eq!(
        values(&head, "host").len() + values(&head, "x-bivouac-session").len(),
        2,
        "ours are not nominated away"
    );
}

#[test]
fn a_body_is_announced_once_and_an_upgrade_asked_for() {
    let head = sent(&[("Content-Length", "5")], Plan { body: Framing::Length(5), ..PLAIN });
    assert_eq!(values(&head, "content-length"), ["5"]);
    let head = sent(&[("Transfer-Encoding", "chunked")], Plan { body: Framing::Chunked, ..PLAIN });
    assert_eq!(values(&head, "transfer-encoding"), ["chunked"]);
    let fields =
        [("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "k")];
    let head = sent(&fields, Plan { upgrade: true, websocket: true, ..PLAIN });
    assert_eq!(values(&head, "connection"), ["Upgrade"]);
    assert_eq!(values(&head, "upgrade"), ["websocket"]);
    assert_eq!(values(&head, "sec-websocket-key"), ["k"]);
}

#[test]
fn usable_names_of_the_request_are_kept_and_others_made() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let head = sent(&[("traceparent", parent), ("tracestate", "a=1"), ("X-Request-ID", "abc-1")], PLAIN);
    assert_eq!(values(&head, "traceparent"), [parent]);
    assert_eq!(values(&head, "tracestate"), ["a=1"]);
    assert_eq!(values(&head, "x-request-id"), ["abc-1"]);
    for bad in
        ["", "00-0-0-00", &parent.to_uppercase(), &parent.replace("00-0a", "ff-0a"), &format!("{parent}-x")]
    {
        let head = sent(&[("traceparent", bad), ("tracestate", "gone"), ("X-Request-ID", "a b")], PLAIN);
        assert_ne!(values(&head, "traceparent"), [bad]);
        assert!(values(&head, "tracestate").is_empty());
        assert_ne!(values(&head, "x-request-id"), ["a b"]);
    }
    assert_eq!(
        values(&sent(&[("X-Request-ID", "a"), ("X-Request-ID", "b")], PLAIN), "x-request-id").len(),
        1
    );
}

#[test]
fn our_cookie_never_reaches_a_backend() {
    let head = sent(&[("Cookie", "a=1; bivouac=secret"), ("Cookie", "__Host-bivouac=secret")], PLAIN);
    assert_eq!(values(&head, "cookie"), ["a=1"]);
}

#[test]
fn a_ticket_never_reaches_a_backend_but_its_user_does() {
    let fields = [
        ("Authorization", "Bearer secret"),
        ("Sec-WebSocket-Protocol", "bivouac.v1, bivouac.ticket.secret"),
        ("Sec-WebSocket-Protocol", "chat"),
        ("Referer", "https://x.localhost/a?bivouac_ticket=secret"),
        ("X-Bivouac-User", "secret"),
        ("Cookie", "bivouac=secret"),
    ];
    let grant = Grant {
        user: Some("ada".into()),
        claims: Some("{\"role\":\"owner\"}".into()),
        strip: Strip {
            authorization: true,
            protocols: Some(b"chat".to_vec()),
            target: Some(b"/a?c".to_vec()),
            offered_ours: true,
        },
        ..Grant::default()
    };
    let head = told(&asked(&fields), PLAIN, &grant, written);
    assert!(!head.contains("secret") && head.starts_with("GET /a?c HTTP/1.1\r\n"), "{head}");
    assert_eq!(values(&head, "sec-websocket-protocol"), ["chat"]);
    assert_eq!(values(&head, "x-bivouac-user"), ["ada"]);
    assert_eq!(values(&head, "x-bivouac-claims"), ["{\"role\":\"owner\"}"]);
    let none = Strip { protocols: Some(Vec::new()), ..Strip::default() };
    let head = told(&asked(&fields[1..3]), PLAIN, &Grant { strip: none, ..Grant::default() }, written);
    assert!(!head.contains("Sec-WebSocket-Protocol"), "{head}");
    let theirs = [("Authorization", "Basic x"), ("Referer", "https://elsewhere/")];
    let head = sent(&theirs, PLAIN);
    assert_eq!(
        (values(&head, "authorization"), values(&head, "referer")),
        (vec!["Basic x"], vec!["https://elsewhere/"])
    );
}

#[test]
fn fields_survive_without_a_case_map() {
    let mut parts = http::Request::builder().method("POST").uri("/a?b").version(Version::HTTP_2);
    for number in 0..20 {
        parts = parts.header(format!("x-field-{number}"), "v");
    }
    let request = RequestHeader::from(parts.body(()).unwrap().into_parts().0);
    let head = told(&request, PLAIN, &Grant::default(), written);
    assert_eq!(head.matches("\r\nx-field-").count(), 20, "{head}");
    assert_eq!(values(&head, "content-length"), ["0"], "an HTTP/1 server wants to know");
    let response =
        ResponseHeader::from(http::Response::builder().header("x-a", "1").body(()).unwrap().into_parts().0);
    let mut wire = Vec::new();
    write_response(&mut wire, &response, Framing::Chunked, Persistence::Implied, "s.example.com");
    assert_eq!(values(&String::from_utf8(wire).unwrap(), "x-a"), ["1"]);
}

#[test]
fn http2_carries_the_same_fields() {
    let fields = [
        ("Connection", "TE, X-Hop"),
        ("TE", "gzip, trailers"),
        ("X-Hop", "gone"),
        ("Cookie", "a=1; bivouac=gone"),
        ("X-Thing", "1"),
        ("X-Thing", "2"),
    ];
    let plan = Plan { body: Framing::Length(3), ..PLAIN };
    let map = told(&asked(&fields), plan, &Grant::default(), request_map);
    assert!(map.values().all(|value| value != "gone"), "{map:?}");
    assert_eq!(
        (&map["te"], &map["cookie"], &map["content-length"]),
        (&"trailers".parse().unwrap(), &"a=1".parse().unwrap(), &"3".parse().unwrap())
    );
    assert_eq!(map.get_all("x-thing").iter().count(), 2);
    assert_eq!(map["x-bivouac-generation"], "7");
    assert!(!map.contains_key("connection") && !map.contains_key("host"));
    let map = told(&asked(&[("TE", "gzip")]), PLAIN, &Grant::default(), request_map);
    assert!(!map.contains_key("te"), "{map:?}");
}

#[test]
fn our_subprotocol_is_chosen_where_the_backend_chooses_none() {
    let switch = |fields: &[(&'static str, &'static str)], offered| {
        let mut response = ResponseHeader::build(101, None).unwrap();
        for (name, value) in fields {
            response.append_header(*name, *value).unwrap();
        }
        let mut wire = Vec::new();
        write_switch(&mut wire, &response, offered, "localhost");
        let head = String::from_utf8(wire).unwrap();
        values(&head, "sec-websocket-protocol").join("|")
    };
    assert_eq!(switch(&[], true), "bivouac.v1");
    assert_eq!(switch(&[], false), "");
    assert_eq!(switch(&[("Sec-WebSocket-Protocol", "chat")], true), "chat");
}

#[test]
fn numbers_are_decimal() {
    for number in [0, 7, 10, 1234, u64::MAX] {
        assert_eq!(super::number(number, &mut [0; 20]), number.to_string().as_bytes());
    }
}

fn answered(status: u16, fields: &[(&str, &str)], method: &Method, version: Version) -> (String, Framing) {
    let mut response = ResponseHeader::build(status, None).unwrap();
    for (name, value) in fields {
        response.append_header((*name).to_owned(), *value).unwrap();
    }
    let body = framing(&response, method, version);
    let mut wire = Vec::new();
    write_response(&mut wire, &response, body, Persistence::Implied, "s.example.com");
    (String::from_utf8(wire).unwrap(), body)
}

#[test]
fn a_response_reaches_the_client_as_it_was() {
    let fields =
        [("Content-Length", "2"), ("eTag", "x"), ("Date", "D"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")];
    let (head, body) = answered(200, &fields, &Method::GET, Version::HTTP_11);
    assert_eq!(body, Framing::Length(2));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(head.contains("\r\neTag: x\r\n"));
    assert_eq!(values(&head, "set-cookie"), ["a=1", "b=2"]);
    assert_eq!(values(&head, "date"), ["D"]);
    assert!(values(&head, "connection").is_empty());
}

#[test]
fn a_responses_connection_is_not_the_clients() {
    let fields =
        [("Connection", "close, X-Hop"), ("X-Hop", "gone"), ("Keep-Alive", "gone"), ("Upgrade", "gone")];
    let (head, _) = answered(200, &fields, &Method::GET, Version::HTTP_11);
    assert!(!head.contains("gone") && !head.contains("close"), "{head}");
    assert_eq!(values(&head, "date").len(), 1, "a date is added where none is: {head}");
    let (head, _) =
        answered(426, &[("Upgrade", "websocket"), ("Connection", "Upgrade")], &Method::GET, Version::HTTP_11);
    assert_eq!((values(&head, "upgrade"), values(&head, "connection")), (vec!["websocket"], vec!["Upgrade"]));
}

#[test]
fn the_bodys_end_is_told_in_the_clients_way() {
    type Fields = &'static [(&'static str, &'static str)];
    const CHUNKED: Fields = &[("Transfer-Encoding", "chunked")];
    let cases: [(u16, Fields, Method, Version, Framing); 8] = [
        (200, CHUNKED, Method::GET, Version::HTTP_11, Framing::Chunked),
        (200, CHUNKED, Method::GET, Version::HTTP_10, Framing::UntilClose),
        (200, &[], Method::GET, Version::HTTP_11, Framing::Chunked),
        (200, &[], Method::GET, Version::HTTP_10, Framing::UntilClose),
        (200, &[("Content-Length", "9")], Method::HEAD, Version::HTTP_11, Framing::Empty),
        (304, &[("Content-Length", "9")], Method::GET, Version::HTTP_11, Framing::Empty),
        (204, &[("Content-Length", "9")], Method::GET, Version::HTTP_11, Framing::Empty),
        (200, &[("Content-Length", "0")], Method::GET, Version::HTTP_10, Framing::Length(0)),
    ];
    for (status, fields, method, version, expected) in cases {
        let (head, body) = answered(status, fields, &method, version);
        assert_eq!(body, expected, "{status} {method} {version:?}");
        assert_eq!(values(&head, "transfer-encoding").len(), usize::from(expected == Framing::Chunked));
        let keeps_length =
            matches!(expected, Framing::Length(_)) || (expected == Framing::Empty && status != 204);
        assert_eq!(values(&head, "content-length").len(), usize::from(keeps_length), "{head}");
    }
}

#[test]
fn no_cookie_is_set_for_the_neighbours() {
    let cookies =
        [("Set-Cookie", "bivouac=x"), ("Set-Cookie", "a=1; Domain=.example.com"), ("Set-Cookie", "b=1")];
    let (head, _) = answered(200, &cookies, &Method::GET, Version::HTTP_11);
    assert_eq!(values(&head, "set-cookie"), ["b=1"]);
}

#[test]
fn a_switch_names_its_protocol() {
    let mut response = ResponseHeader::build(101, None).unwrap();
    for (name, value) in [("Upgrade", "websocket"), ("Connection", "upgrade"), ("Sec-WebSocket-Accept", "s")]
    {
        response.append_header(name, value).unwrap();
    }
    let mut wire = Vec::new();
    write_switch(&mut wire, &response, false, "localhost");
    let head = String::from_utf8(wire).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
    assert_eq!((values(&head, "upgrade"), values(&head, "connection")), (vec!["websocket"], vec!["Upgrade"]));
    assert_eq!(values(&head, "sec-websocket-accept"), ["s"]);
}

proptest! {
    #[test]
    fn no_header_of_a_client_begins_like_ours(name in "[xX][-_][bB][iI][vV][oO][uU][aA][cC][-_][a-zA-Z_-]{0,12}") {
        let head = sent(&[(&name, "forged")], PLAIN);
        prop_assert!(!head.contains("forged"));
    }

    #[test]
    fn every_line_is_one_field(fields in proptest::collection::vec(("[a-zA-Z][a-zA-Z0-9_-]{0,15}", "[ -~]{0,20}"), 0..10)) {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let head = sent(&fields, PLAIN);
        let mut parsed = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut parsed);
        prop_assert!(request.parse(head.as_bytes()).unwrap().is_complete());
        prop_assert_eq!(request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("host")).count(), 1);
    }
}
