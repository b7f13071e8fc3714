//! Random input to what reads strangers' words, for as long as `BIVOUAC_FUZZ_SECONDS` says: `make fuzz`. The tunnel's frame
//! reader has its own beside it.

use std::time::{Duration, Instant};

use bivouac_protocol::Generation;
use http::Method;
use pingora_http::RequestHeader;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::access::{Grant, Strip};
use crate::framing::Framing;
use crate::head::Plan;
use crate::headers::{RequestFields, Trace, write_request};
use crate::host;
use crate::visitor::Visitor;

const DOMAIN: &str = "sessions.example.com";
const ID: &str = "abcdefghijklmnop2345";

/// Checks random values until the time is over.
fn fuzz<S: Strategy>(strategy: &S, check: impl Fn(S::Value)) {
    let seconds = std::env::var("BIVOUAC_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(10));
    let mut runner = TestRunner::default();
    while Instant::now() < until {
        check(strategy.new_tree(&mut runner).unwrap().current());
    }
}

/// Names that are nearly, or very much, those of sessions.
fn hosts() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(ID.as_bytes().to_vec()),
        Just(ID.to_uppercase().into_bytes()),
        Just(DOMAIN.as_bytes().to_vec()),
        Just(b"--".to_vec()),
        Just(b".".to_vec()),
        Just(b":80".to_vec()),
        "[a-zA-Z0-9-]{1,30}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(part, 0..7).prop_map(|parts| parts.concat())
}

#[test]
#[ignore = "runs for as long as it is told to: make fuzz"]
fn fuzz_host() {
    fuzz(&hosts(), |host| {
        let Ok(target) = host::target(&host, DOMAIN) else { return };
        let label = target.port.as_ref().map_or_else(String::new, |port| format!("{}--", port.as_str()));
        let name = String::from_utf8(host).unwrap().to_ascii_lowercase();
        let name = name.split(':').next().unwrap().trim_end_matches('.');
        assert_eq!(name, format!("{label}{}.{DOMAIN}", target.session.as_str()));
    });
}

/// Fields that a client might send to be taken for us, or for somebody else.
fn fields() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let odd = |name: String| {
        proptest::collection::vec(0..3u8, name.len()).prop_map(move |changes| {
            let change = |(byte, change): (char, u8)| match change {
                1 => byte.to_ascii_uppercase(),
                2 if byte == '-' => '_',
                _ => byte,
            };
            name.chars().zip(changes).map(change).collect::<String>()
        })
    };
    let known = proptest::sample::select(vec![
        "x-bivouac-user",
        "x-bivouac-session",
        "x-bivouac-claims",
        "x-forwarded-for",
        "forwarded",
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "te",
        "trailer",
        "upgrade",
        "cookie",
        "authorization",
        "x-request-id",
        "traceparent",
    ]);
    let name = prop_oneof![known.prop_map(str::to_owned), "[a-z-]{1,12}"].prop_flat_map(odd);
    let value = prop_oneof![
        Just(b"bivouac=FORGED; a=b".to_vec()),
        Just(b"x-bivouac-user, host, te".to_vec()),
        Just(b"FORGED".to_vec()),
        proptest::collection::vec(prop_oneof![Just(b'\t'), 32..=126u8, 128..=255u8], 0..40),
    ];
    proptest::collection::vec((name, value), 0..12)
}

#[test]
#[ignore = "runs for as long as it is told to: make fuzz"]
fn fuzz_hygiene() {
    let client = "192.0.2.7".parse().unwrap();
    let visitor = Visitor::new(client, false, &std::sync::Arc::from([]));
    let (session, trace) = (ID.parse().unwrap(), Trace::random());
    let grant = Grant { strip: Strip { authorization: true, ..Strip::default() }, ..Grant::default() };
    fuzz(&fields(), |fields| {
        let mut request = RequestHeader::build(Method::POST, b"/", None).unwrap();
        for (name, value) in fields {
            // What no head can have does not come this far.
            let _ = request.append_header(name, value);
        }
        let plan = Plan { body: Framing::Length(3), upgrade: false, websocket: false, navigation: false };
        let told = RequestFields {
            host: b"h",
            target: b"/",
            plan,
            session: &session,
            generation: Generation(7),
            visitor: &visitor,
            trace: &trace,
            grant: &grant,
        };
        let mut wire = Vec::new();
        write_request(&mut wire, &request, &told);
        is_clean(&wire);
    });
}

/// A head of well-formed lines, with each field of ours once, and no other that reads like one.
fn is_clean(wire: &[u8]) {
    let mut storage = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut storage);
    assert!(parsed.parse(wire).unwrap().is_complete());
    let reads_as = |name: &str| name.to_ascii_lowercase().replace('_', "-");
    let values = |wanted: &str| -> Vec<&[u8]> {
        let all = parsed.headers.iter();
        all.filter(|field| reads_as(field.name) == wanted).map(|field| field.value).collect()
    };
    for (name, value) in [
        ("host", b"h".as_slice()),
        ("content-length", b"3"),
        ("x-bivouac-session", ID.as_bytes()),
        ("x-bivouac-generation", b"7"),
        ("x-forwarded-for", b"192.0.2.7"),
    ] {
        assert_eq!(values(name), [value], "{name}");
    }
    for name in
        ["transfer-encoding", "te", "trailer", "connection", "upgrade", "x-bivouac-user", "x-bivouac-claims"]
    {
        // A backend that reads `_` as `-` has no use for these, save the framing and ours.
        let told = parsed.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count();
        assert_eq!(told, 0, "{name}");
    }
    let ours = parsed.headers.iter().filter(|field| reads_as(field.name).starts_with("x-bivouac-"));
    assert_eq!(ours.count(), 2);
    for cookie in values("cookie") {
        assert!(!cookie.to_ascii_lowercase().starts_with(b"bivouac="), "{cookie:?}");
    }
}
