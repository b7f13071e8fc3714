//! The backend that the scenarios run as a session: it tells what it was asked, and fails as it is told to.
//!
//! How it behaves is set by environment variables: `GUEST_MODE` is `serve` (default), `mute` (never listens), `dead`
//! (exits at once with code 3), `dying` (serves for `GUEST_MS`, then exits with code 4), `raw` (see [`raw`]),
//! `record` (see [`record`]) or `grpc` (see `grpc`); `GUEST_START_MS` delays the moment when it listens, and
//! `GUEST_BACKLOG` bounds how many connections wait for it to accept them. `GUEST_SAYS` is printed to standard error
//! first. Its further ports: see `further`. With `GUEST_DIARY` it leaves a line per start in that folder, so that a
//! scenario can tell how often a session really ran. With `GUEST_OWNER` it ends once that process is gone: a test run
//! that was killed leaves nothing behind.

mod diary;
mod further;
mod grpc;
pub mod raw;
pub mod record;
mod routes;

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

pub use diary::{Start, starts};

/// Exit code of a guest that was told to exit at once.
pub const DEAD: u8 = 3;
/// Exit code of a guest that was told to die later.
pub const DYING: u8 = 4;

/// What the guest reads from its environment.
struct Settings {
    mode: String,
    later: Duration,
    start_delay: Duration,
    backlog: u32,
    address: SocketAddr,
}

impl Settings {
    fn from_env() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        Self {
            mode: std::env::var("GUEST_MODE").unwrap_or_else(|_| "serve".to_owned()),
            later: Duration::from_millis(number("GUEST_MS").unwrap_or(1000)),
            start_delay: Duration::from_millis(number("GUEST_START_MS").unwrap_or(0)),
            backlog: number("GUEST_BACKLOG").and_then(|backlog| u32::try_from(backlog).ok()).unwrap_or(1024),
            address: SocketAddr::new(
                // Nomad may give one host port of a machine to two allocations, on an address each.
                std::env::var("NOMAD_IP_http")
                    .ok()
                    .and_then(|ip| ip.parse().ok())
                    .unwrap_or(Ipv4Addr::LOCALHOST.into()),
                number("PORT").and_then(|port| u16::try_from(port).ok()).unwrap_or(0),
            ),
        }
    }
}

/// Runs the guest until it is told to exit, or killed.
///
/// # Panics
/// When its port is taken: then something is wrong with the test.
pub async fn run() -> ExitCode {
    diary::write();
    std::thread::spawn(end_with_the_owner);
    if let Ok(words) = std::env::var("GUEST_SAYS") {
        eprintln!("{words}");
    }
    let settings = Settings::from_env();
    match settings.mode.as_str() {
        "dead" => return ExitCode::from(DEAD),
        "mute" => std::future::pending().await,
        _ => {}
    }
    further::serve(settings.address, settings.backlog);
    crate::elapse(settings.start_delay).await;
    let listener = listen(settings.address, settings.backlog).expect("the port that PORT names");
    let serving: Pin<Box<dyn Future<Output = ()>>> = match settings.mode.as_str() {
        "raw" => Box::pin(raw::serve(listener)),
        "record" => Box::pin(record::serve(listener)),
        "grpc" => Box::pin(grpc::serve(listener)),
        _ => Box::pin(async { drop(axum::serve(listener, routes::router()).await) }),
    };
    if settings.mode == "dying" {
        let _ = tokio::time::timeout(settings.later, serving).await;
        return ExitCode::from(DYING);
    }
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .expect("a handler for the signal");
    tokio::select! {
        () = serving => ExitCode::FAILURE,
        _ = terminate.recv() => ExitCode::SUCCESS,
    }
}

fn listen(address: SocketAddr, backlog: u32) -> std::io::Result<tokio::net::TcpListener> {
    let socket =
        if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

fn end_with_the_owner() {
    let owner = std::env::var("GUEST_OWNER").ok().and_then(|text| text.parse::<i32>().ok());
    let Some(owner) = owner.and_then(rustix::process::Pid::from_raw) else { return };
    while rustix::process::test_kill_process(owner).is_ok() {
        std::thread::park_timeout(Duration::from_secs(1));
    }
    std::process::exit(0);
}
