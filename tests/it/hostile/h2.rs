//! HTTP/2 as nobody who means well speaks it. What belongs to one stream ends that stream, what belongs to the connection
//! ends the connection, and whoever else there is never notices.

mod abuse;

use bivouac_tests::World;
use bivouac_tests::guest::record::needle_free;
use bivouac_tests::h2raw::{End, H2, block, flag, frame, kind, reason, request};
use bivouac_tests::world::GUEST;

/// Names and values.
type Fields<'a> = [(&'a str, &'a str)];

/// One stream's worth of trouble, and what comes of it.
struct Case {
    name: &'static str,
    /// Fields beside method, scheme, authority and path.
    fields: &'static [(&'static str, &'static str)],
    expect: &'static [End],
}

const MALFORMED: &[End] = &[End::Reset(reason::PROTOCOL_ERROR)];
const REFUSED: &[End] = &[End::Status(400)];
/// What the library takes for a fault of the connection: it may be one in the compression.
const ENDED: &[End] = &[End::GoAway(reason::PROTOCOL_ERROR), End::Reset(reason::PROTOCOL_ERROR)];

/// Heads that are complete but for what is wrong with them.
const CASES: &[Case] = &[
    Case { name: "a field of the connection", fields: &[("connection", "close")], expect: MALFORMED },
    Case { name: "another one", fields: &[("keep-alive", "1")], expect: MALFORMED },
    Case { name: "a coding", fields: &[("transfer-encoding", "chunked")], expect: MALFORMED },
    Case { name: "an upgrade", fields: &[("upgrade", "websocket")], expect: MALFORMED },
    Case { name: "a te", fields: &[("te", "gzip")], expect: MALFORMED },
    Case { name: "upper case", fields: &[("X-Upper", "1")], expect: ENDED },
    Case { name: "a second path", fields: &[(":path", "/other")], expect: MALFORMED },
    Case { name: "a second authority", fields: &[(":authority", "other")], expect: MALFORMED },
    Case {
        name: "a pseudo field behind others",
        fields: &[("x", "1"), (":method", "PUT")],
        expect: MALFORMED,
    },
    Case { name: "a pseudo field that there is not", fields: &[(":other", "1")], expect: ENDED },
    Case { name: "a status", fields: &[(":status", "200")], expect: MALFORMED },
    Case { name: "a line's end in a value", fields: &[("x", "1\r\nHost: other")], expect: ENDED },
    Case { name: "a line's end in a name", fields: &[("x: 1\r\nhost", "other")], expect: ENDED },
    Case { name: "a zero in a value", fields: &[("x", "1\0")], expect: ENDED },
    Case { name: "another Host", fields: &[("host", "abcdefghijklmnop2345.localhost")], expect: REFUSED },
    Case {
        name: "a length without a body",
        fields: &[("content-length", "5")],
        expect: &[End::Reset(reason::PROTOCOL_ERROR), End::Status(400)],
    },
];

#[test]
fn a_malformed_head_ends_its_stream_alone() {
    World::embedded().run(async |world| {
        let session = world.spawn(GUEST).await;
        session.ready().await;
        let authority = session.authority();
        for case in CASES {
            let mut h2 = H2::open(world.proxy_port(0)).await;
            let fields = [&request("GET", &authority, "/")[..], case.fields].concat();
            h2.headers(1, true, &fields).await;
            let end = h2.outcome(1).await;
            assert!(case.expect.contains(&end), "{}: {end:?}", case.name);
            if matches!(end, End::GoAway(_)) {
                continue;
            }
            h2.get(3, &authority, "/").await;
            assert_eq!(h2.outcome(3).await, End::Status(200), "behind {}", case.name);
        }
    });
}

#[test]
fn a_fault_behind_a_head_ends_its_stream_alone() {
    World::embedded().run(async |world| {
        let session = world.spawn(GUEST).await;
        session.ready().await;
        let authority = session.authority();
        let trailers = block(&[("x", "y")]);
        let cases: &[(&str, Vec<u8>, u32)] = &[
            (
                "less than was announced",
                frame(kind::DATA, flag::END_STREAM, 1, b"abc"),
                reason::PROTOCOL_ERROR,
            ),
            ("more than was announced", frame(kind::DATA, flag::NONE, 1, b"abcdef"), reason::PROTOCOL_ERROR),
            (
                "trailers that are not the end",
                frame(kind::HEADERS, flag::END_HEADERS, 1, &trailers),
                reason::PROTOCOL_ERROR,
            ),
            (
                "a window beyond its bound",
                frame(kind::WINDOW_UPDATE, flag::NONE, 1, &0x7fff_ffff_u32.to_be_bytes()),
                reason::FLOW_CONTROL_ERROR,
            ),
        ];
        for (name, bytes, why) in cases {
            let mut h2 = H2::open(world.proxy_port(0)).await;
            let head = [&request("POST", &authority, "/")[..], &[("content-length", "5")]].concat();
            h2.headers(1, false, &head).await;
            h2.raw(bytes).await;
            assert_eq!(h2.outcome(1).await, End::Reset(*why), "{name}");
            h2.get(3, &authority, "/").await;
            assert_eq!(h2.outcome(3).await, End::Status(200), "behind {name}");
        }
    });
}

#[test]
fn odd_requests_are_refused_and_the_connection_goes_on() {
    World::embedded().run(async |world| {
        let session = world.spawn(GUEST).await;
        session.ready().await;
        let authority = session.authority();
        let own = authority.as_str();
        let with_user = format!("user@{own}");
        let cases: &[(&str, &Fields<'_>, &[u16])] = &[
            ("a path without a slash", &request("GET", own, "other"), &[400]),
            ("a whole URL for a path", &request("GET", own, "http://other/"), &[400]),
            ("a path with a space", &request("GET", own, "/a b"), &[400]),
            ("the star of another method", &request("GET", own, "*"), &[400]),
            ("the star", &request("OPTIONS", own, "*"), &[200]),
            ("CONNECT", &[(":method", "CONNECT"), (":authority", own)], &[405]),
            ("TRACE", &request("TRACE", own, "/"), &[405]),
            ("no authority", &[(":method", "GET"), (":scheme", "http"), (":path", "/")], &[400]),
            ("a user in front", &request("GET", &with_user, "/"), &[400]),
            ("a foreign host", &request("GET", "example.com", "/"), &[404]),
            (
                "another scheme",
                &[(":method", "GET"), (":scheme", "ftp"), (":authority", own), (":path", "/")],
                &[400],
            ),
        ];
        let mut h2 = H2::open(world.proxy_port(0)).await;
        for (number, (name, fields, expected)) in (0..).zip(cases) {
            let stream = 2 * number + 1;
            h2.headers(stream, true, fields).await;
            match h2.outcome(stream).await {
                End::Status(status) => assert!(expected.contains(&status), "{name}: {status}"),
                // What the library itself cannot read.
                End::Reset(why) => {
                    assert!(expected == &[400] && why == reason::PROTOCOL_ERROR, "{name}: {why}")
                }
                end => panic!("{name}: {end:?}"),
            }
        }
    });
}

/// What HTTP/2 says in frames of its own has to be said in HTTP/1.1 so that it is the very same request.
#[test]
fn whatever_is_accepted_is_one_request_for_the_backend() {
    World::embedded().run(async |world| {
        let witness = super::Witness::call(&world).await;
        let own = witness.session.authority();
        let mut h2 = H2::open(world.proxy_port(0)).await;
        let many: Vec<(String, String)> = (0..200).map(|n| (format!("x-{n}"), "y".repeat(40))).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (&**name, &**value)).collect();
        let crumbs = [("cookie", "a=1"), ("cookie", "b=\"2\""), ("cookie", "__Host-bivouac=ours")];
        let odd = [("x", ""), ("!#$%&'*+-.^_`|~", "a\tb"), ("x", "GET /smuggled HTTP/1.1")];
        let heads: &[(&str, &str, &Fields<'_>)] = &[
            ("GET", "/a?b=c&d", &[]),
            ("HEAD", "/", &[]),
            ("OPTIONS", "*", &[]),
            ("DELETE", "/x%20y//../z;a=b", &[("te", "trailers"), ("expect", "100-continue")]),
            ("POST", "/", &[]),
            ("POST", "/", &[("content-length", "0")]),
            ("PURGE", "/", &many),
            ("GET", "/", &crumbs),
            ("GET", "/", &odd),
            ("GET", "/#/smuggled", &[]),
        ];
        let (mut stream, mut served) = (1, 0);
        for (method, path, fields) in heads {
            let fields = [&request(method, &own, path)[..], fields].concat();
            h2.headers(stream, true, &fields).await;
            assert_eq!(h2.outcome(stream).await, End::Status(200), "{method} {path}");
            (stream, served) = (stream + 2, served + 1);
        }
        let smuggled = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let length = smuggled.len().to_string();
        let trailers = block(&[("x", "y"), ("content-length", "1"), ("host", "b")]);
        for fields in [&[][..], &[("content-length", &*length)], &[("trailer", "x")]] {
            let fields = [&request("PUT", &own, "/body")[..], fields].concat();
            h2.headers(stream, false, &fields).await;
            h2.frame(kind::DATA, flag::NONE, stream, smuggled).await;
            h2.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &trailers).await;
            assert_eq!(h2.outcome(stream).await, End::Status(200), "{fields:?}");
            (stream, served) = (stream + 2, served + 1);
        }
        // Behind a WebSocket's handshake, before the backend has agreed to speak WebSocket: it does not here.
        let connect = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":authority", &own),
            (":path", "/no-websocket"),
            ("sec-websocket-version", "13"),
        ];
        let early = b"GET /smuggled HTTP/1.1\r\nHost: a\r\nX-Bivouac-User: root\r\n\r\n";
        for last in [flag::NONE, flag::END_STREAM] {
            let head = frame(kind::HEADERS, flag::END_HEADERS, stream, &block(&connect));
            h2.raw(&[head, frame(kind::DATA, last, stream, early)].concat()).await;
            assert_eq!(h2.outcome(stream).await, End::Status(200));
            (stream, served) = (stream + 2, served + 1);
        }
        let records = witness.records();
        needle_free(
            &records,
            &["__Host-bivouac", "cookie: a=1\r\ncookie", "smuggled HTTP/1.1\r\nHost: a\r\nX-Biv"],
        );
        for record in &records {
            assert_eq!((&record.misread, record.rest.len()), (&None, 0), "{record:?}");
            assert!(record.requests.iter().all(|asked| !asked.target.contains("smuggled")), "{record:?}");
        }
        let bodies =
            records.iter().flat_map(|record| &record.requests).filter(|asked| asked.body == smuggled);
        assert_eq!(bodies.count(), 3);
        assert_eq!(records.iter().map(|record| record.requests.len()).sum::<usize>(), served);
    });
}
