//! More of everything than anybody needs: resets, frames, heads, streams, and windows that stay shut.

use std::time::Duration;

use bivouac_tests::World;
use bivouac_tests::h2raw::{End, H2, block, flag, frame, kind, reason, request};
use bivouac_tests::world::{GUEST, Session, Setup};

/// Runs abuse against a world with one session; afterwards everybody else is served as before.
fn survives(abuse: impl AsyncFnOnce(&World, &Session)) {
    survives_in(World::embedded(), abuse);
}

fn survives_in(setup: Setup, abuse: impl AsyncFnOnce(&World, &Session)) {
    setup.run(async |world| {
        let session = world.spawn(GUEST).await;
        session.ready().await;
        let mut neighbour = H2::open(world.proxy_port(0)).await;
        abuse(&world, &session).await;
        neighbour.get(1, &session.authority(), "/").await;
        assert_eq!(neighbour.outcome(1).await, End::Status(200));
        session.serves("/").await;
    });
}

#[test]
fn a_thousand_resets_at_once_end_the_connection() {
    survives(async |world, session| {
        let mut h2 = H2::open(world.proxy_port(0)).await;
        for stream in (1..2_001).step_by(2) {
            h2.get(stream, &session.authority(), "/slow?ms=60000").await;
            h2.reset(stream, reason::CANCEL).await;
        }
        assert_eq!(h2.ends().await, End::GoAway(reason::ENHANCE_YOUR_CALM));
    });
}

#[test]
fn resets_one_after_the_other_end_it_as_well() {
    survives(async |world, session| {
        let mut h2 = H2::open(world.proxy_port(0)).await;
        let mut wasted = 0;
        for stream in (1..1_001).step_by(2) {
            h2.get(stream, &session.authority(), "/slow?ms=60000").await;
            // Once this is answered the request was seen.
            h2.frame(kind::PING, flag::NONE, 0, &[7; 8]).await;
            let calm = loop {
                match h2.next().await {
                    Some(frame) if frame.kind == kind::PING => break true,
                    Some(frame) if frame.kind == kind::GOAWAY => {
                        assert_eq!(frame.reason(), reason::ENHANCE_YOUR_CALM);
                        break false;
                    }
                    Some(_) => {}
                    None => panic!("closed without a word"),
                }
            };
            if !calm {
                break;
            }
            wasted += 1;
            h2.reset(stream, reason::CANCEL).await;
        }
        assert!((100..150).contains(&wasted), "{wasted} streams could be wasted");
    });
}

#[test]
fn a_head_without_end_ends_the_connection() {
    survives(async |world, session| {
        let mut h2 = H2::open(world.proxy_port(0)).await;
        let head = block(&request("GET", &session.authority(), "/"));
        h2.frame(kind::HEADERS, flag::END_STREAM, 1, &head).await;
        let piece = block(&[("x", &"y".repeat(1_000))]);
        for _ in 0..2_000 {
            h2.frame(kind::CONTINUATION, flag::NONE, 1, &piece).await;
        }
        let end = h2.ends().await;
        assert!(matches!(end, End::GoAway(why) if why != reason::NO_ERROR), "{end:?}");
    });
}

#[test]
fn a_head_of_nothing_without_end_ends_the_connection() {
    survives(async |world, session| {
        let mut h2 = H2::open(world.proxy_port(0)).await;
        let head = block(&request("GET", &session.authority(), "/"));
        h2.frame(kind::HEADERS, flag::END_STREAM, 1, &head).await;
        for _ in 0..10_000 {
            h2.frame(kind::CONTINUATION, flag::NONE, 1, &[]).await;
        }
        let end = h2.ends().await;
        assert!(matches!(end, End::GoAway(why) if why != reason::NO_ERROR), "{end:?}");
    });
}

#[test]
fn a_small_head_that_grows_beyond_all_bounds_is_not_kept() {
    survives(async |world, session| {
        let mut h2 = H2::open(world.proxy_port(0)).await;
        let mut head = block(&request("GET", &session.authority(), "/"));
        // A field of 4 KB goes into the table, and is then named 12,000 times by a byte each.
        head.extend_from_slice(b"\x40\x01x\x7f\xa1\x1e");
        head.extend_from_slice(&[b'y'; 127 + 0x21 + (0x1e << 7)]);
        head.extend_from_slice(&[0xbe; 12_000]);
        assert!(head.len() <= 16_384, "it fits one frame");
        h2.frame(kind::HEADERS, flag::END_STREAM | flag::END_HEADERS, 1, &head).await;
        let end = h2.outcome(1).await;
        assert!(!matches!(end, End::Status(200)), "{end:?}");
    });
}

#[test]
fn a_head_beyond_the_limit_is_answered_431() {
    survives(async |world, session| {
        let mut h2 = H2::open(world.proxy_port(0)).await;
        let head = block(&request("GET", &session.authority(), "/"));
        h2.frame(kind::HEADERS, flag::END_STREAM, 1, &head).await;
        let piece = block(&[("x", &"y".repeat(16_000))]);
        for n in 0..5 {
            h2.frame(kind::CONTINUATION, if n == 4 { flag::END_HEADERS } else { flag::NONE }, 1, &piece)
                .await;
        }
        assert_eq!(h2.outcome(1).await, End::Status(431));
        h2.get(3, &session.authority(), "/").await;
        assert_eq!(h2.outcome(3).await, End::Status(200), "the connection goes on");
    });
}

#[test]
fn more_than_the_window_ends_the_stream_or_the_connection() {
    survives(async |world, session| {
        let mut h2 = H2::open(world.proxy_port(0)).await;
        h2.headers(1, false, &request("POST", &session.authority(), "/slow?ms=60000")).await;
        for _ in 0..200 {
            h2.frame(kind::DATA, flag::NONE, 1, &[0; 16_384]).await;
        }
        let end = h2.outcome(1).await;
        let expected = [End::Reset(reason::FLOW_CONTROL_ERROR), End::GoAway(reason::FLOW_CONTROL_ERROR)];
        assert!(expected.contains(&end), "{end:?}");
    });
}

#[test]
fn streams_beyond_the_limit_are_refused_and_the_others_go_on() {
    survives(async |world, session| {
        let mut h2 = H2::open(world.proxy_port(0)).await;
        for n in 0..101 {
            h2.headers(2 * n + 1, false, &request("POST", &session.authority(), "/")).await;
        }
        assert_eq!(h2.outcome(201).await, End::Reset(reason::REFUSED_STREAM));
        h2.frame(kind::DATA, flag::END_STREAM, 1, b"x").await;
        assert_eq!(h2.outcome(1).await, End::Status(200));
    });
}

#[test]
fn whoever_opens_no_window_keeps_nobody_from_theirs() {
    survives(async |world, session| {
        let mut closed = H2::over_with(connect(world).await, &[(1, 0), (4, 0)]).await;
        for n in 0..50 {
            closed.get(2 * n + 1, &session.authority(), "/").await;
        }
        let mut heads = 0;
        while heads < 50 {
            let frame = closed.expect().await;
            assert_ne!(frame.kind, kind::DATA, "there is no window for it");
            heads += u32::from(frame.kind == kind::HEADERS);
        }
        session.serves("/").await;
        // With room the rest comes, of one stream after the other.
        closed.window(1, 1 << 16).await;
        while let Some(frame) = closed.next().await {
            if frame.stream == 1 && frame.is_last() {
                return;
            }
        }
        panic!("the body never came");
    });
}

#[test]
fn whoever_takes_nothing_at_all_is_let_go() {
    survives_in(World::embedded().proxy_flag("limit-write-stall", "1s"), async |world, session| {
        let mut closed = H2::over_with(connect(world).await, &[(1, 0), (4, 0)]).await;
        closed.get(1, &session.authority(), "/").await;
        assert_eq!(closed.outcome(1).await, End::Status(200));
        assert_eq!(closed.outcome(1).await, End::Reset(reason::INTERNAL_ERROR));
        // Others on the same connection have not given up.
        closed.window(0, 1 << 20).await;
        closed.settings(&[(4, 1 << 16)]).await;
        closed.get(3, &session.authority(), "/").await;
        assert_eq!(closed.outcome(3).await, End::Status(200));
    });
}

#[test]
fn connections_that_come_to_nothing_are_ended() {
    World::embedded().proxy_flag("limit-keep-alive", "1s").run(async |world| {
        let mut idle = H2::open(world.proxy_port(0)).await;
        let mut half = H2::open(world.proxy_port(0)).await;
        let head = block(&request("GET", "example.com", "/"));
        half.frame(kind::HEADERS, flag::END_STREAM, 1, &head).await;
        for (what, h2) in [("nothing", &mut idle), ("half a head", &mut half)] {
            assert_eq!(h2.ends().await, End::GoAway(reason::NO_ERROR), "{what}");
        }
    });
}

#[test]
fn floods_of_small_frames_are_nobody_elses_business() {
    survives(async |world, session| {
        for (kind, payload) in [(kind::SETTINGS, &[][..]), (kind::PING, &[0; 8])] {
            let mut h2 = H2::open(world.proxy_port(0)).await;
            let flood = frame(kind, flag::NONE, 0, payload).repeat(20_000);
            let flooding = async {
                h2.raw(&flood).await;
                h2
            };
            // Nothing of the answers is read: at some point the other end takes no more, or it ends the connection.
            let _ = tokio::time::timeout(Duration::from_secs(2), flooding).await;
            session.serves("/").await;
        }
    });
}

#[test]
fn frames_against_the_protocol_end_the_connection() {
    survives(async |world, session| {
        let own = session.authority();
        let cases: &[(&str, Vec<u8>)] = &[
            ("a frame that is too long", frame(kind::DATA, flag::NONE, 1, &[0; 20_000])),
            ("DATA for the connection", frame(kind::DATA, flag::NONE, 0, b"x")),
            ("HEADERS for the connection", frame(kind::HEADERS, flag::END_HEADERS, 0, &[])),
            ("an even stream", {
                let head = block(&request("GET", &own, "/"));
                frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 2, &head)
            }),
            ("CONTINUATION of nothing", frame(kind::CONTINUATION, flag::END_HEADERS, 1, &[])),
            ("a promise", frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[0, 0, 0, 2])),
            ("settings of an odd length", frame(kind::SETTINGS, flag::NONE, 0, &[0; 5])),
            (
                "a table that cannot be",
                frame(kind::HEADERS, flag::END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0xff]),
            ),
            ("a reset of what never was", frame(kind::RST_STREAM, flag::NONE, 99, &[0, 0, 0, 8])),
            ("a window beyond its bound", [0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff].repeat(2)),
        ];
        for (name, bytes) in cases {
            let mut h2 = H2::open(world.proxy_port(0)).await;
            h2.raw(bytes).await;
            let end = h2.ends().await;
            assert!(matches!(end, End::GoAway(why) if why != reason::NO_ERROR), "{name}: {end:?}");
        }
    });
}

async fn connect(world: &World) -> tokio::net::TcpStream {
    tokio::net::TcpStream::connect(("127.0.0.1", world.proxy_port(0))).await.expect("a connection")
}
