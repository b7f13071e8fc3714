//! What sessions print, as operators read it.

mod following;

use std::process::Stdio;
use std::time::Duration;

use bivouac_tests::world::{GUEST, Session};
use bivouac_tests::{World, eventually};
use following::Following;
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};

const SOON: Duration = Duration::from_secs(30);

everywhere!(
    a_follower_sees_lines_as_they_come,
    an_ended_session_still_tells_what_it_printed,
    whoever_did_not_start_tells_its_last_words,
    every_byte_arrives_as_it_was_printed,
    readers_are_counted_and_bounded,
    a_session_that_waits_to_start_can_be_followed,
    the_command_line_shows_and_follows,
);

/// Has the session's backend print something.
async fn print(session: &Session, text: impl Into<reqwest::Body>) {
    let answer = session.request(Method::POST, "/print").body(text).send().await.unwrap();
    assert_eq!(answer.status(), 204);
}

fn path(session: &Session, query: &str) -> String {
    format!("/v1/sessions/{}/logs?{query}", session.id)
}

/// What there is of the logs, once it is `expected`.
async fn reads(world: &World, session: &Session, query: &str, expected: &[u8]) {
    eventually(format!("the logs ({query}) are as expected"), SOON, async || {
        let answer =
            world.call(Method::GET, &path(session, query)).send().await.map_err(|e| e.to_string())?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(|e| e.to_string())?;
        if bytes == expected {
            Ok(())
        } else {
            Err(format!("{status}: {:?}", String::from_utf8_lossy(&bytes)))
        }
    })
    .await;
}

pub(crate) async fn a_follower_sees_lines_as_they_come(world: World) {
    let session = world.spawn(GUEST).idle_timeout("60s").await;
    session.ready().await;
    print(&session, "zero\none\ntwo\n").await;
    reads(&world, &session, "", b"zero\none\ntwo\n").await;
    let mut following = Following::of(&world, &session, "tail=2").await;
    following.shows("one\ntwo\n").await;
    // Whole lines: Docker hands on no others.
    for text in ["three\n", "four\n", "five\n"] {
        print(&session, text).await;
        following.shows(text).await;
    }
    let fresh = Following::of(&world, &session, "tail=0").await;
    print(&session, "last words\n").await;
    session.stop().await;
    session.ended("requested").await;
    assert_eq!(following.rest().await, "last words\n");
    assert_eq!(fresh.rest().await, "last words\n");
}

pub(crate) async fn an_ended_session_still_tells_what_it_printed(world: World) {
    let session = world.spawn(GUEST).idle_timeout("60s").await;
    session.ready().await;
    print(&session, "one\ntwo\n").await;
    let warned = session.request(Method::POST, "/print?stream=stderr").body("first\n\x1b[2Jfatal: no disk\n");
    assert_eq!(warned.send().await.unwrap().status(), 204);
    let _broken_off = session.get("/exit?code=7").await;
    let view = session.ended("exited").await;
    assert_eq!(view["reason"]["exit_code"], 7);
    let words: Vec<&str> =
        view["reason"]["log_tail"].as_array().unwrap().iter().filter_map(|line| line.as_str()).collect();
    assert_eq!(words, ["first", "\\u{1b}[2Jfatal: no disk"]);
    reads(&world, &session, "tail=1", b"two\n").await;
    reads(&world, &session, "stream=stderr", b"first\n\x1b[2Jfatal: no disk\n").await;
    // A follower of what is over just reads it.
    assert_eq!(Following::of(&world, &session, "").await.rest().await, "one\ntwo\n");
    // What a backend prints is not for its users.
    let told = session.get("/").await.unwrap();
    assert!(!told.body.contains("no disk"), "{}", told.body);
    told.is_problem(410, "session_ended");
}

async fn whoever_did_not_start_tells_its_last_words(world: World) {
    let spawn = world.spawn(GUEST).key("dead").env("GUEST_MODE", "dead");
    let answer = spawn.env("GUEST_SAYS", "cannot open the database").wait_ready().send().await.unwrap();
    let problem = answer.json();
    assert_eq!(problem["reason"]["log_tail"][0], "cannot open the database", "{problem}");
    answer.is_problem(502, "start_failed");
    let mute = world.spawn(GUEST).env("GUEST_MODE", "mute").env("GUEST_SAYS", "waiting for Godot");
    let view = mute.startup_timeout("3s").await.ended("startup_timeout").await;
    assert_eq!(view["reason"]["log_tail"][0], "waiting for Godot", "{view}");
}

async fn every_byte_arrives_as_it_was_printed(world: World) {
    let session = world.spawn(GUEST).idle_timeout("60s").await;
    session.ready().await;
    let all: Vec<u8> = (0..=255).collect();
    print(&session, all.clone()).await;
    reads(&world, &session, "tail=10000", &all).await;
    let shown = world.bivouac(&["logs", &session.id]).await;
    assert!(shown.status.success(), "{shown:?}");
    assert_eq!(shown.stdout, all, "a pipe gets every byte");
    // Long lines, and far more than is looked at first.
    let long = [vec![b'x'; 300_000], vec![b'\n'], vec![b'y'; 100_000], vec![b'\n']].concat();
    print(&session, long.clone()).await;
    reads(&world, &session, "tail=2", &[&all[11..], &long[..]].concat()).await;
    let query =
        [("tail=10001", 422), ("tail=x", 422), ("stream=both", 422), ("follow=1", 422), ("since=1h", 422)];
    for (query, status) in query {
        let answer = world.get(&path(&session, query)).await.unwrap();
        assert_eq!(answer.status, status, "{query}: {}", answer.body);
    }
}

async fn readers_are_counted_and_bounded(world: World) {
    let session = world.spawn(GUEST).idle_timeout("60s").await;
    session.ready().await;
    print(&session, "hello\n").await;
    reads(&world, &session, "", b"hello\n").await;
    let followers = async || {
        let metrics = world.get("/metrics").await?.body;
        let line = metrics.lines().find_map(|line| line.strip_prefix("bivouac_log_followers "));
        line.map(str::to_owned).ok_or_else(|| "no such metric".to_owned())
    };
    let mut following = Vec::new();
    for _ in 0..8 {
        let mut follower = Following::of(&world, &session, "").await;
        follower.shows("hello\n").await;
        following.push(follower);
    }
    assert_eq!(followers().await.unwrap(), "8");
    let refused = world.call(Method::GET, &path(&session, "")).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"5".parse().unwrap()));
    world.get(&path(&session, "follow=true")).await.unwrap().is_problem(429, "too_many_followers");
    // Whoever leaves is noticed, although nothing is printed.
    following.truncate(2);
    eventually("six of them have left", SOON, async || match followers().await?.as_str() {
        "2" => Ok(()),
        other => Err(format!("{other} are there")),
    })
    .await;
    assert_eq!(world.get(&path(&session, "")).await.unwrap().status, 200);
}

async fn a_session_that_waits_to_start_can_be_followed(world: World) {
    let session = world.spawn(GUEST).env("GUEST_SAYS", "good morning").idle_timeout("60s").await;
    let mut following = Following::of(&world, &session, "stream=stderr").await;
    following.shows("good morning\n").await;
    session.ready().await;
    session.stop().await;
    assert_eq!(following.rest().await, "");
    let unknown = "/v1/sessions/aaaaaaaaaaaaaaaaaaaa/logs";
    world.get(unknown).await.unwrap().is_problem(404, "session_unknown");
}

async fn the_command_line_shows_and_follows(world: World) {
    let session = world.spawn(GUEST).key("doc-1").idle_timeout("60s").await;
    session.ready().await;
    print(&session, "one\ntwo\n").await;
    reads(&world, &session, "", b"one\ntwo\n").await;
    let shown = world.bivouac(&["logs", "doc-1", "--tail", "1"]).await;
    assert_eq!((shown.status.code(), shown.stdout), (Some(0), b"two\n".to_vec()));
    let (followed, ()) = tokio::join!(world.bivouac(&["logs", "doc-1", "--follow"]), async {
        let followed = async || {
            let metrics = world.get("/metrics").await?.body;
            if metrics.contains("bivouac_log_followers 1\n") {
                Ok(())
            } else {
                Err("nobody follows".to_owned())
            }
        };
        eventually("the command follows", SOON, followed).await;
        print(&session, "three\n").await;
        session.stop().await;
    });
    assert_eq!((followed.status.code(), followed.stdout), (Some(0), b"one\ntwo\nthree\n".to_vec()));
    let unknown = world.bivouac(&["logs", "doc-2"]).await;
    assert_eq!(unknown.status.code(), Some(3));
}

#[test]
fn an_interrupted_follower_ends_well() {
    World::embedded().run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("60s").await;
        session.ready().await;
        print(&session, "one\n").await;
        let mut command = world.command(&["logs", &session.id, "--follow"]);
        let mut following = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("one"));
        let pid = Pid::from_raw(following.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        let ended = tokio::time::timeout(SOON, following.wait()).await.expect("it ends");
        assert_eq!(ended.unwrap().code(), Some(0));
    });
}

#[test]
fn a_follower_outlives_a_restart_of_nomads_server() {
    World::own_cluster().run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("120s").await;
        session.ready().await;
        print(&session, "before\n").await;
        let mut following = Following::of(&world, &session, "").await;
        following.shows("before\n").await;
        let agents = world.site().agents();
        agents.nomad().kill9().unwrap();
        print(&session, "meanwhile\n").await;
        agents.nomad().start().unwrap();
        following.shows("meanwhile\n").await;
        print(&session, "after\n").await;
        following.shows("after\n").await;
        session.stop().await;
        assert_eq!(following.rest().await, "");
    });
}

#[test]
fn a_cut_answer_does_not_look_complete() {
    World::cluster().replicas(2).run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("60s").await;
        session.ready().await;
        print(&session, "one\n").await;
        reads(&world, &session, "", b"one\n").await;
        let mut following = Following::of(&world, &session, "").await;
        following.shows("one\n").await;
        assert!(world.service(0).process.terminate().await.success());
        following.breaks_off().await;
        // The other replica reads the same.
        let mut again = Following::of(&world.asking(1), &session, "").await;
        again.shows("one\n").await;
    });
}

#[test]
fn logs_that_nomad_has_removed_are_gone() {
    World::own_cluster().run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("60s").await;
        session.ready().await;
        print(&session, "one\n").await;
        let _broken_off = session.get("/exit?code=1").await;
        session.ended("exited").await;
        reads(&world, &session, "", b"one\n").await;
        let job = format!("/v1/job/session-{}-1?purge=true", session.id);
        world.site().nomad(Method::DELETE, &job).await.unwrap().expect_status(200).unwrap();
        let answer = eventually("they are gone", SOON, async || {
            world.site().nomad(Method::PUT, "/v1/system/gc").await?.expect_status(200)?;
            let answer = world.get(&path(&session, "")).await?;
            if answer.status == 200 { Err(answer.body) } else { Ok(answer) }
        })
        .await;
        answer.is_problem(410, "logs_gone");
        assert_eq!(session.view().await["reason"]["exit_code"], 1);
    });
}
