//! Start times: a spawn's first byte against what the same cluster needs to open the port of a bare job, alternately, so
//! that whatever else the machine is doing falls on both.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bivouac_nomad::{EventStream, Payload, Registration, Stop, Topic};
use bivouac_protocol::Timeline;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::report::Starts;
use crate::rig::{NOMAD_NAMESPACE, PATIENCE, Rig, WHITEBOARD, address};
use crate::say;

/// How often a port is tried. It bounds how much too slow the bare job appears.
const TRY_EVERY: Duration = Duration::from_millis(1);
/// Starts of each kind that do not count: connections are opened, files are read for the first time.
const WARM_UP: u32 = 2;
/// How often people hear how far it is.
const TELL_EVERY: u32 = 10;

/// Starts `count` of each.
pub(crate) async fn measure(rig: &Rig, count: u32) -> Result<Starts> {
    say(&format!("start times: {count} bare jobs and {count} sessions, one after the other"));
    let mut bare = Bare::prepare(rig).await?;
    let mut starts = Starts::default();
    for number in 0..WARM_UP + count {
        // Whoever goes second may find things in caches.
        let (port_open, (first_byte, timeline)) = if number.is_multiple_of(2) {
            let port_open = bare.start(number).await?;
            (port_open, session(rig).await?)
        } else {
            let session = session(rig).await?;
            (bare.start(number).await?, session)
        };
        if number < WARM_UP {
            continue;
        }
        starts.bare.add(port_open);
        starts.session.add(first_byte);
        starts.add_stages(&timeline);
        let done = number - WARM_UP + 1;
        if done.is_multiple_of(TELL_EVERY) || done == count {
            let (bare, session) = (starts.bare.percentile(50), starts.session.percentile(50));
            say(&format!("  {done} of {count}: p50 {bare:.0} ms bare, {session:.0} ms session"));
        }
    }
    Ok(starts)
}

/// Spawn to first byte; the request is sent as soon as the URL is known, so the proxy holds it.
async fn session(rig: &Rig) -> Result<(Duration, Timeline)> {
    let started = Instant::now();
    let session = rig.spawn(WHITEBOARD).await?;
    let answer = rig.http.get(&session.url).send().await.context("the first request was lost")?;
    let elapsed = started.elapsed();
    ensure!(
        answer.status().is_success(),
        "the first request got {}: {}",
        answer.status(),
        answer.text().await?
    );
    Ok((elapsed, rig.end(&session.id).await?.timeline))
}

/// Jobs that are registered directly.
struct Bare<'a> {
    rig: &'a Rig,
    job: Value,
    events: EventStream,
}

impl<'a> Bare<'a> {
    async fn prepare(rig: &'a Rig) -> Result<Self> {
        let (events, _) = rig.nomad.events(NOMAD_NAMESPACE, &[Topic::Allocation], None).await?;
        Ok(Self { rig, job: rig.bare_job().await?, events })
    }

    /// Registration to open port.
    async fn start(&mut self, number: u32) -> Result<Duration> {
        let id = format!("bare-{number}");
        self.job["ID"] = id.as_str().into();
        self.job["Name"] = id.as_str().into();
        let started = Instant::now();
        match self.rig.nomad.register_new(&self.job, NOMAD_NAMESPACE).await? {
            Registration::Registered { .. } => {}
            Registration::Exists => bail!("there is a job {id} already"),
        }
        let opening = async {
            let (allocation, address) = self.placed(&id).await?;
            opened(address).await;
            anyhow::Ok(allocation)
        };
        let allocation =
            timeout(PATIENCE, opening).await.with_context(|| format!("{id} does not open its port"))??;
        let elapsed = started.elapsed();
        let stop = Stop { purge: true, ..Stop::default() };
        self.rig.nomad.stop(&id, NOMAD_NAMESPACE, stop).await?;
        self.rig.allocation_ended(&allocation).await?;
        Ok(elapsed)
    }

    /// The job's allocation and its address, once the cluster has decided.
    async fn placed(&mut self, job: &str) -> Result<(String, SocketAddr)> {
        loop {
            let Payload::Allocation(allocation) = self.events.next().await?.payload else { continue };
            if allocation.job_id == job
                && let Some(address) = address(&allocation)
            {
                return Ok((allocation.id, address));
            }
        }
    }
}

/// Waits until somebody accepts connections there.
async fn opened(address: SocketAddr) {
    let mut ticks = tokio::time::interval(TRY_EVERY);
    while TcpStream::connect(address).await.is_err() {
        ticks.tick().await;
    }
}
