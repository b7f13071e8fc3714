//! Whether a backend answers: asked directly, from the moment of placement. Nomad reports `running` a second late and
//! Consul's check later still.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Longest wait for one connection or answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// When the port opened and when the backend was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) port_open: Timestamp,
    pub(crate) ready: Timestamp,
}

/// Probes until it gets through: a TCP connection, then, where the template has one, a 2xx from its `ready_path`.
/// Never returns otherwise; the caller drops it.
pub(crate) async fn until_ready(http: &reqwest::Client, address: SocketAddr, path: Option<&str>) -> Answered {
    let begun = Instant::now();
    while !matches!(timeout(PATIENCE, TcpStream::connect(address)).await, Ok(Ok(_))) {
        sleep(interval(begun.elapsed())).await;
    }
    let port_open = Timestamp::now();
    if let Some(path) = path {
        let url = format!("http://{address}{path}");
        while !answers(http, &url).await {
            sleep(interval(begun.elapsed())).await;
        }
    }
    Answered { port_open, ready: Timestamp::now() }
}

async fn answers(http: &reqwest::Client, url: &str) -> bool {
    matches!(http.get(url).timeout(PATIENCE).send().await, Ok(response) if response.status().is_success())
}

/// Often while a start is likely, seldom once it is late: ten thousand late starts must not cost a core.
fn interval(elapsed: Duration) -> Duration {
    match elapsed.as_secs() {
        0..=1 => Duration::from_millis(10),
        2..=9 => Duration::from_millis(25),
        _ => Duration::from_millis(250),
    }
}
