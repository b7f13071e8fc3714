//! A session whose open connections say nothing ends by its `quiet_timeout`, and no byte is lost to such a stop.

use std::time::{Duration, Instant};

use bivouac_tests::world::{GUEST, GUEST_JOB, Setup, Socket};
use bivouac_tests::{World, always, elapse, eventually};
use futures::StreamExt;
use futures::future::join_all;
use reqwest::Method;

everywhere!(with ignoring;
    pings_alone_do_not_keep_a_session_alive,
    one_byte_does,
    a_byte_at_the_fence_saves_it_or_learns_why,
    an_ignored_path_is_no_noise,
    a_stream_that_says_nothing_is_quiet,
    a_lease_keeps_a_silent_session_and_its_end_is_noticed,
);

/// Template of sessions that end when they are quiet, and whose health may be looked at meanwhile.
const QUIET: &str = "quiet";
const SOON: Duration = Duration::from_secs(20);

fn ignoring(world: Setup) -> Setup {
    let toml = r#"access = "public"
idle_timeout = "10m"
quiet_timeout = { default = "1s", min = "200ms", max = "10m" }
ignore_paths = ["/healthz", "/probe/*"]
[ports.http]
[params.text]
default = ""
"#;
    world.template(QUIET, toml, GUEST_JOB)
}

async fn pings_alone_do_not_keep_a_session_alive(world: World) {
    let session = world.spawn(GUEST).idle_timeout("10m").quiet_timeout("2s").await;
    let mut socket = session.websocket().await;
    socket.echoes("the last that is said").await;
    let silent = Instant::now();
    let told = async {
        eventually("the status says that it is quiet, and when it ends", SOON, async || {
            let alive = session.try_view().await?["alive"].clone();
            let told = alive["quiet_since"].is_string() && alive["ends_at"].is_string();
            if told { Ok(()) } else { Err(alive.to_string()) }
        })
        .await;
    };
    let ((), (answered, why)) = tokio::join!(told, socket.pings_until_closed(Duration::from_millis(50)));
    assert_eq!(why, (1001, "quiet".to_owned()));
    assert!(answered > 5, "{answered} pings were answered");
    assert!(silent.elapsed() >= Duration::from_millis(1_900), "ended after {:?}", silent.elapsed());
    session.ended("quiet").await;
}

async fn one_byte_does(world: World) {
    let session = world.spawn(GUEST).idle_timeout("10m").quiet_timeout("1s").await;
    let (mut talking, mut silent) = (session.websocket().await, session.websocket().await);
    let talk = async {
        for n in 0..12 {
            talking.echoes(&n.to_string()).await;
            elapse(Duration::from_millis(400)).await;
        }
    };
    let watch = always("the session is ready", Duration::from_secs(4), async || {
        // An attempt that comes to nothing is over in a moment.
        match session.state().await.as_str() {
            "ready" | "fencing" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    tokio::join!(talk, watch);
    assert_eq!(talking.closed().await, (1001, "quiet".to_owned()));
    assert_eq!(silent.closed().await, (1001, "quiet".to_owned()));
    session.ended("quiet").await;
    assert_eq!(session.view().await["generation"], 1);
}

async fn a_byte_at_the_fence_saves_it_or_learns_why(world: World) {
    let stopped = join_all((0..3).map(|n| {
        let world = world.clone();
        async move {
            let mut stopped = 0;
            for shot in 0..12 {
                let session = world.spawn(QUIET).quiet_timeout("500ms").await;
                let mut socket = session.websocket().await;
                socket.echoes("hello").await;
                // Before, at and after the moment of the stop.
                elapse(Duration::from_millis(440 + 20 * shot + 7 * n)).await;
                if let Err(why) = socket.echoes_or_learns_why("still there?").await {
                    assert_eq!(why, (1001, "quiet".to_owned()));
                    session.ended("quiet").await;
                    stopped += 1;
                }
                session.never_doubled();
            }
            stopped
        }
    }))
    .await;
    let stopped: u32 = stopped.iter().sum();
    assert!((1..36).contains(&stopped), "the shots hit the edge: {stopped} of 36 came too late");
}

async fn an_ignored_path_is_no_noise(world: World) {
    let session = world.spawn(QUIET).await;
    session.ready().await;
    let mut socket = session.websocket().await;
    let asking = async {
        while session.get("/healthz").await.is_ok_and(|answer| answer.status == 200) {
            session.get("/probe/deep").await.ok();
            elapse(Duration::from_millis(100)).await;
        }
    };
    let ((), (_, why)) = tokio::join!(asking, socket.pings_until_closed(Duration::from_millis(100)));
    assert_eq!(why, (1001, "quiet".to_owned()));
    session.ended("quiet").await;

    let session = world.spawn(QUIET).await;
    session.ready().await;
    let mut socket = session.websocket().await;
    session.used_for(Duration::from_secs(3), Duration::from_millis(100)).await;
    socket.echoes("any other path is one").await;
    session.ended("quiet").await;
}

async fn a_stream_that_says_nothing_is_quiet(world: World) {
    let session = world.spawn(QUIET).await;
    session.ready().await;
    let talking = session.serves("/stream?seconds=3").await;
    assert_eq!(talking.body.lines().count(), 30);

    let session = world.spawn(QUIET).await;
    session.ready().await;
    let answer = session.request(Method::GET, "/silence").send().await.unwrap();
    let begun = Instant::now();
    let mut body = answer.bytes_stream();
    assert_eq!(body.next().await.unwrap().unwrap(), "begun\n");
    let end = tokio::time::timeout(SOON, body.next()).await.expect("the stop ends it");
    assert!(end.is_some_and(|end| end.is_err()), "half an answer must not pass for a whole one");
    assert!(begun.elapsed() >= Duration::from_millis(900), "ended after {:?}", begun.elapsed());
    session.ended("quiet").await;
}

async fn a_lease_keeps_a_silent_session_and_its_end_is_noticed(world: World) {
    let session = world.spawn(QUIET).await;
    session.ready().await;
    let mut socket = session.websocket().await;
    let leased = Instant::now();
    session.lease("export", "3s").await;
    assert_eq!(socket.closed().await, (1001, "quiet".to_owned()));
    assert!(leased.elapsed() >= Duration::from_millis(3_900), "closed after {:?}", leased.elapsed());
    session.ended("quiet").await;
}

#[test]
fn every_proxy_has_to_say_that_it_is_quiet() {
    World::cluster().proxies(2).run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("10m").quiet_timeout("1s").await;
        let mut silent = session.websocket().await;
        let mut talking = Socket::open(&session.via(1).authority(), "/ws").await.unwrap();
        for n in 0..8 {
            elapse(Duration::from_millis(400)).await;
            talking.echoes(&n.to_string()).await;
        }
        let (silent, talking) = tokio::join!(silent.closed(), talking.closed());
        assert_eq!((silent.1.as_str(), talking.1.as_str()), ("quiet", "quiet"));
        session.ended("quiet").await;
    });
}
