use super::*;
use proptest::prelude::*;

/// Parses a head as Pingora does, without its own refusals.
fn parse(raw: &str) -> RequestHeader {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    assert!(request.parse(raw.as_bytes()).unwrap().is_complete());
    let mut head =
        RequestHeader::build(request.method.unwrap(), request.path.unwrap().as_bytes(), None).unwrap();
    head.set_version(if request.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 });
    for field in request.headers {
        head.append_header(field.name.to_owned(), field.value).unwrap();
    }
    head
}

fn judge(raw: &str) -> Result<Plan, Refusal> {
    check(&parse(raw), raw.as_bytes())
}

fn refused(raw: &str) -> &'static str {
    match judge(raw) {
        Err(Refusal::BadRequest(why)) => why,
        other => panic!("{raw:?} gave {other:?}"),
    }
}

#[test]
fn plain_requests_pass() {
    let plan = judge("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(plan, Plan { body: Framing::Empty, upgrade: false, websocket: false, navigation: false });
    let plan = judge("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n").unwrap();
    assert_eq!(plan.body, Framing::Length(12));
    let plan = judge("POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: Chunked\r\n\r\n").unwrap();
    assert_eq!(plan.body, Framing::Chunked);
}

#[test]
fn ambiguous_framing_is_refused() {
    let both = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(refused(both).contains("both"));
    for coding in ["gzip, chunked", "chunked, chunked", "identity", "xchunked", "chunked;q=1", ""] {
        let raw = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n");
        assert!(refused(&raw).contains("only be chunked"), "{coding}");
    }
    for length in ["5, 5", "+5", "-5", "0x5", "5 5", "", "99999999999999999999", "five"] {
        let raw = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        assert!(refused(&raw).contains("decimal"), "{length}");
    }
    let twice = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n";
    assert!(refused(twice).contains("more than one"));
    assert!(refused("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").contains("1.0"));
}

#[test]
fn a_length_that_the_parser_removed_is_still_seen() {
    let raw = "POST / HTTP/1.1\r\nHost: a\r\ncontent-length : 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    let without = raw.replace("content-length : 5\r\n", "");
    assert!(matches!(check(&parse(&without), raw.as_bytes()), Err(Refusal::BadRequest(_))));
}

#[test]
fn a_bare_lf_is_refused() {
    for raw in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
    ] {
        assert!(refused(raw).contains("CR LF"), "{raw:?}");
    }
}

#[test]
fn connect_and_trace_are_refused() {
    for method in ["CONNECT", "TRACE"] {
        let mut head = parse("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        head.set_method(method.parse().unwrap());
        assert_eq!(check(&head, b""), Err(Refusal::MethodNotAllowed));
    }
}

#[test]
fn there_is_exactly_one_host() {
    assert_eq!(host(&parse("GET / HTTP/1.1\r\nHost: a:80\r\n\r\n").headers), Ok(b"a:80".as_slice()));
    assert!(host(&parse("GET / HTTP/1.1\r\n\r\n").headers).is_err());
    assert!(host(&parse("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n").headers).is_err());
}

#[test]
fn targets_become_paths() {
    let target = |line: &str| origin_form(&parse(&format!("{line} HTTP/1.1\r\n\r\n"))).map(<[u8]>::to_vec);
    assert_eq!(target("GET /a?b=c"), Ok(b"/a?b=c".to_vec()));
    assert_eq!(target("GET //a/b"), Ok(b"//a/b".to_vec()));
    assert_eq!(target("GET http://host:80/a?b"), Ok(b"/a?b".to_vec()));
    assert_eq!(target("GET http://host"), Ok(b"/".to_vec()));
    assert_eq!(target("OPTIONS *"), Ok(b"*".to_vec()));
    for line in ["GET *", "GET ftp://host/a", "GET http://host?a", "GET a/b", "GET host:80"] {
        assert!(target(line).is_err(), "{line}");
    }
}

#[test]
fn an_upgrade_needs_both_fields_and_no_body() {
    let upgrade = |fields: &str| judge(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).unwrap();
    assert!(upgrade("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n").websocket);
    assert!(upgrade("Connection: upgrade\r\nUpgrade: echo\r\n").upgrade);
    assert!(!upgrade("Connection: upgrade\r\nUpgrade: echo\r\n").websocket);
    for fields in [
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Connection: upgrade\r\nUpgrade: h2c\r\n",
        "Connection: upgrade\r\nUpgrade: websocket, H2C\r\n",
        "Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n",
    ] {
        assert!(!upgrade(fields).upgrade, "{fields:?}");
    }
}

#[test]
fn a_navigation_is_told_from_a_call() {
    let navigation =
        |fields: &str| judge(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).unwrap().navigation;
    assert!(navigation("Accept: text/html,application/xhtml+xml;q=0.9\r\nSec-Fetch-Mode: navigate\r\n"));
    assert!(navigation("Accept: */*;q=0.1, TEXT/HTML;q=0.9\r\n"));
    assert!(!navigation("Accept: text/html\r\nSec-Fetch-Mode: cors\r\n"));
    assert!(!navigation("Accept: */*\r\n"));
    assert!(!navigation(""));
}

#[test]
fn too_many_nominations_are_refused() {
    let raw = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {}\r\n\r\n", ["x"; 17].join(","));
    assert!(refused(&raw).contains("too many"));
}

proptest! {
    #[test]
    fn a_judgement_never_panics(fields in proptest::collection::vec(("[a-zA-Z-]{1,20}", "[ -~]{0,30}"), 0..12)) {
        let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let raw = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        let _ = judge(&raw);
    }

    #[test]
    fn what_passes_has_at_most_one_way_to_end(length in proptest::option::of("[0-9, ]{0,4}"), coding in proptest::option::of("(chunked|gzip|, ){0,3}")) {
        let mut raw = "POST / HTTP/1.1\r\nHost: a\r\n".to_owned();
        if let Some(length) = &length {
            raw += &format!("Content-Length: {length}\r\n");
        }
        if let Some(coding) = &coding {
            raw += &format!("Transfer-Encoding: {coding}\r\n");
        }
        raw += "\r\n";
        if judge(&raw).is_ok() {
            prop_assert!(length.is_none() || coding.is_none());
        }
    }
}
