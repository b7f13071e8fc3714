use bivouac_protocol::{Endpoint, Generation, Protocol, Route, RoutePhase};
use http::{Method, Version};
use pingora_http::{RequestHeader, ResponseHeader};
use proptest::prelude::*;

use super::*;
use crate::framing::Framing;
use crate::head::Plan;

const PLAIN: Plan = Plan { body: Framing::Empty, upgrade: false, websocket: false, navigation: false };

fn route() -> Route {
    Route::new(
        "abcdefghijklmnop2345".parse().unwrap(),
        Generation(7),
        "a1".parse().unwrap(),
        "http".parse().unwrap(),
        Endpoint {
            address: "127.0.0.1:20000".parse().unwrap(),
            protocol: Protocol::Http,
            phase: RoutePhase::Ready,
        },
    )
}

fn sent(fields: &[(&str, &str)], plan: Plan) -> String {
    let mut request = RequestHeader::build("GET", b"/a?b", None).unwrap();
    for (name, value) in fields {
        request.append_header((*name).to_owned(), *value).unwrap();
    }
    let mut wire = Vec::new();
    let forwarded = Forwarded::new("2001:db8::1".parse().unwrap());
    let whereto = (b"/a?b".as_slice(), b"x.localhost:80".as_slice());
    write_request(&mut wire, &request, whereto, plan, &route(), (&forwarded, &Trace::random()));
    String::from_utf8(wire).unwrap()
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
    write_switch(&mut wire, &response, "localhost");
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
