use http::Request;
use proptest::prelude::*;

use super::*;

const URI: &str = "http://abcdefghijklmnop2345.localhost:7080/a?b=c";

fn parts(method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri).version(http::Version::HTTP_2);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn read(method: &str, uri: &str, fields: &[(&str, &str)], ended: bool) -> Head {
    Head::read(parts(method, uri, fields), ended)
}

fn is_refused(head: &Head) -> bool {
    matches!(head.plan, Err(Refusal::BadRequest(_)))
}

fn websocket(fields: &[(&str, &str)], ended: bool) -> Head {
    let mut parts = parts("CONNECT", URI, fields);
    parts.extensions.insert(Protocol::from_static("websocket"));
    Head::read(parts, ended)
}

#[test]
fn the_authority_becomes_the_host() {
    let head = read("GET", URI, &[("accept", "*/*")], true);
    assert_eq!(head.fields.headers[header::HOST], "abcdefghijklmnop2345.localhost:7080");
    assert_eq!(head.fields.raw_path(), b"/a?b=c");
    assert_eq!(head.plan.unwrap().body, Framing::Empty);
}

#[test]
fn a_host_alone_will_do() {
    let head = read("GET", "/a", &[("host", "a.localhost")], true);
    assert!(head.plan.is_ok());
    assert_eq!(head.fields.headers[header::HOST], "a.localhost");
}

#[test]
fn whoever_has_two_hosts_or_none_is_refused() {
    assert!(is_refused(&read("GET", "/a", &[], true)));
    assert!(is_refused(&read("GET", "/a", &[("host", "a"), ("host", "a")], true)));
    assert!(is_refused(&read("GET", "http://a/", &[("host", "b")], true)));
    assert!(is_refused(&read("GET", "http://a/", &[("host", "a"), ("host", "a")], true)));
    assert!(read("GET", "http://a.B/", &[("host", "A.b")], true).plan.is_ok());
}

#[test]
fn a_body_ends_as_it_says() {
    let plan = |method: &str, fields: &[(&str, &str)], ended| {
        read(method, URI, fields, ended).plan.map(|plan| plan.body)
    };
    assert_eq!(plan("GET", &[], true), Ok(Framing::Empty));
    assert_eq!(plan("POST", &[], true), Ok(Framing::Empty));
    assert_eq!(plan("POST", &[], false), Ok(Framing::Chunked));
    assert_eq!(plan("POST", &[("content-length", "7")], false), Ok(Framing::Length(7)));
    assert_eq!(plan("POST", &[("content-length", "0")], true), Ok(Framing::Length(0)));
    for (fields, ended) in [
        (&[("content-length", "7")][..], true),
        (&[("content-length", "+7")], false),
        (&[("content-length", "7, 7")], false),
        (&[("content-length", "7"), ("content-length", "7")], false),
    ] {
        assert!(matches!(plan("POST", fields, ended), Err(Refusal::BadRequest(_))), "{fields:?}");
    }
}

#[test]
fn neither_connect_nor_trace_is_served() {
    assert_eq!(read("TRACE", URI, &[], true).plan, Err(Refusal::MethodNotAllowed));
    assert_eq!(read("CONNECT", URI, &[], false).plan, Err(Refusal::MethodNotAllowed));
    let mut other = parts("CONNECT", URI, &[]);
    other.extensions.insert(Protocol::from_static("connect-udp"));
    assert_eq!(Head::read(other, false).plan, Err(Refusal::MethodNotAllowed));
}

#[test]
fn a_websockets_stream_is_a_handshake() {
    let head = websocket(&[("origin", "http://a"), ("sec-websocket-protocol", "x")], false);
    let plan = head.plan.unwrap();
    assert!(plan.upgrade && plan.websocket && !plan.navigation);
    assert_eq!(plan.body, Framing::Empty);
    assert_eq!(head.fields.method, Method::GET);
    assert_eq!(head.fields.headers[header::UPGRADE], "websocket");
    assert_eq!(head.fields.headers[header::SEC_WEBSOCKET_KEY], head.key.unwrap());
}

#[test]
fn a_key_of_the_clients_is_replaced() {
    let head = websocket(&[("sec-websocket-key", "mine"), ("sec-websocket-key", "mine too")], false);
    let keys: Vec<_> = head.fields.headers.get_all(header::SEC_WEBSOCKET_KEY).iter().collect();
    assert_eq!(keys, [&head.key.unwrap()]);
}

#[test]
fn a_websocket_that_has_ended_or_has_a_length_is_none() {
    assert!(is_refused(&websocket(&[], true)));
    assert!(is_refused(&websocket(&[("content-length", "5")], false)));
}

#[test]
fn crumbs_become_one_cookie() {
    let head = read("GET", URI, &[("cookie", "a=1"), ("cookie", "b=2; c=3"), ("cookie", "d=4")], true);
    let cookies: Vec<_> = head.fields.headers.get_all(header::COOKIE).iter().collect();
    assert_eq!(cookies, ["a=1; b=2; c=3; d=4"]);
}

#[test]
fn there_is_an_end_to_fields() {
    let many: Vec<_> = (0..300).map(|_| ("x", "y")).collect();
    assert_eq!(read("GET", URI, &many, true).plan, Err(Refusal::HeadTooLarge));
}

proptest! {
    #[test]
    fn only_paths_and_the_star_of_options_pass(path in "[ -~]{1,12}", options: bool) {
        let method = if options { "OPTIONS" } else { "GET" };
        let mut given = parts(method, URI, &[]);
        if let Ok(parsed) = http::uri::PathAndQuery::try_from(path.as_str()) {
            let mut uri = http::uri::Parts::default();
            uri.path_and_query = Some(parsed);
            if let Ok(uri) = http::Uri::from_parts(uri) {
                given.uri = uri;
                given.headers.insert(header::HOST, HeaderValue::from_static("a"));
                let head = Head::read(given, true);
                if head.plan.is_ok() {
                    let target = head.fields.raw_path();
                    prop_assert!(target.starts_with(b"/") || options && target == b"*");
                    prop_assert!(!target.contains(&b' '));
                }
            }
        }
    }
}
