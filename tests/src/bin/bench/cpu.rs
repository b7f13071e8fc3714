//! Processor time per small request: the proxy and nginx in front of the same backend, the same requests, in turn.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::nginx::{self, Yardstick};
use crate::process::Process;
use crate::report::{Requests, Round};
use crate::rig::Rig;
use crate::{load, say};

/// How many connections ask at the same time.
const CONNECTIONS: usize = 64;
/// Load that does not count: connections to the backend are opened, routes are learned.
const WARM_UP: Duration = Duration::from_secs(1);

/// Measures everyone in every round, in an order that turns around.
pub(crate) async fn measure(rig: &mut Rig, nginx: &Path, rounds: u32, during: Duration) -> Result<Requests> {
    say(&format!("requests: {rounds} rounds of {during:?} each: the backend itself, nginx, the proxy"));
    let session = rig.spawn(nginx::TEMPLATE).await?;
    let session = rig.until_ready(&session.id).await?;
    let allocation = session.allocation.as_ref().context("a ready session without an allocation")?;
    let backend = rig.address(allocation).await?;
    let host = format!("{}.localhost", session.id);
    let port = rig.agents.reserve_port(0)?;
    let place = (&*rig.folder.join("nginx"), SocketAddr::from(([127, 0, 0, 1], port)));
    let yardstick = Yardstick::start(&rig.agents, nginx, place, (&host, backend)).await?;

    let mut requests =
        Requests { connections: CONNECTIONS, seconds: during.as_secs(), ..Requests::default() };
    for number in 0..rounds {
        let direct = round(backend, &host, None, during).await?;
        let nginx = async || round(yardstick.address, &host, Some(&yardstick.process), during).await;
        let proxy = async || round(rig.proxy_addr, &host, Some(rig.proxy()), during).await;
        let (nginx, proxy) = if number.is_multiple_of(2) {
            let nginx = nginx().await?;
            (nginx, proxy().await?)
        } else {
            let proxy = proxy().await?;
            (nginx().await?, proxy)
        };
        let (theirs, ours) = (nginx.micros(), proxy.micros());
        say(&format!("  round {} of {rounds}: {theirs:.1} µs nginx, {ours:.1} µs bivouac", number + 1));
        requests.direct.push(direct);
        requests.nginx.push(nginx);
        requests.bivouac.push(proxy);
    }
    drop(yardstick);
    rig.end(&session.id).await?;
    Ok(requests)
}

async fn round(
    address: SocketAddr,
    host: &str,
    process: Option<&Process>,
    during: Duration,
) -> Result<Round> {
    load::run(address, host, CONNECTIONS, WARM_UP).await?;
    let before = process.map(Process::cpu).transpose()?.unwrap_or_default();
    let done = load::run(address, host, CONNECTIONS, during).await?;
    let after = process.map(Process::cpu).transpose()?.unwrap_or_default();
    Ok(Round { requests: done.requests, seconds: done.seconds, cpu: after - before })
}
