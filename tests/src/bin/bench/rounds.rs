//! Loads in rounds: everybody gets the same, in an order that turns, and their processor time is looked at meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use crate::bed::{Bed, Subject};
use crate::load::{self, Done};
use crate::process::{Cpu, Process};
use crate::report::{Measured, Round, Rounds, Targets};
use crate::rig::Rig;
use crate::say;

/// How many connections ask at the same time.
const CONNECTIONS: usize = 64;
/// HTTP/2 connections, and requests at once on each.
const STREAMS: (usize, usize) = (4, 16);
/// How many large bodies are on their way at the same time.
const BODIES: usize = 16;
/// Load that does not count: connections to the backend are opened, routes are learned.
const WARM_UP: Duration = Duration::from_secs(1);

/// How long, and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: u32,
    pub(crate) during: Duration,
}

/// Small requests over kept connections.
pub(crate) async fn kept(rig: &Rig, bed: &Bed, effort: Effort) -> Result<Rounds> {
    let seat = &bed.small;
    let [nginx, haproxy, ours] = bed.proxies(rig);
    let subjects = [seat.directly(), nginx, haproxy, ours];
    let load = async |subject: Subject<'_>, during| {
        load::kept::run(seat.at(subject.plain), CONNECTIONS, during).await
    };
    let title = format!("Small requests over {CONNECTIONS} kept connections");
    let targets = Targets { cpu: Some(1.25), rate: Some(0.9) };
    measure((title, "request", targets), &subjects, effort, load).await
}

/// A connection for each small request.
pub(crate) async fn connect(rig: &Rig, bed: &Bed, effort: Effort) -> Result<Rounds> {
    let load = async |subject: Subject<'_>, during| {
        load::connect::run(bed.small.at(subject.plain), CONNECTIONS, during).await
    };
    let title = format!("A connection for each small request, {CONNECTIONS} at once");
    let targets = Targets { cpu: None, rate: Some(0.8) };
    measure((title, "request", targets), &bed.proxies(rig), effort, load).await
}

/// Small requests over kept connections with TLS.
pub(crate) async fn tls(rig: &Rig, bed: &Bed, effort: Effort) -> Result<Rounds> {
    let load = async |subject: Subject<'_>, during| {
        load::tls::run(&rig.trust, bed.small.at(subject.tls), CONNECTIONS, during).await
    };
    let title = format!("Small requests over {CONNECTIONS} kept connections with TLS");
    measure((title, "request", Targets::default()), &bed.proxies(rig), effort, load).await
}

/// Small requests over HTTP/2.
pub(crate) async fn h2(rig: &Rig, bed: &Bed, effort: Effort) -> Result<Rounds> {
    let load = async |subject: Subject<'_>, during| {
        load::h2::run(&rig.trust, bed.small.at(subject.tls), STREAMS, during).await
    };
    let (connections, streams) = STREAMS;
    let title =
        format!("Small requests over {connections} HTTP/2 connections with TLS, {streams} at once on each");
    measure((title, "request", Targets::default()), &bed.proxies(rig), effort, load).await
}

/// Large bodies.
pub(crate) async fn bulk(rig: &Rig, bed: &Bed, effort: Effort) -> Result<Rounds> {
    let load = async |subject: Subject<'_>, during| {
        load::bulk::run(bed.small.at(subject.plain), BODIES, during).await
    };
    let title = format!("Bodies of 1 MiB over {BODIES} kept connections");
    measure((title, "MiB", Targets::default()), &bed.proxies(rig), effort, load).await
}

/// What the access log costs: the first of two proxies has none.
pub(crate) async fn log(rig: &Rig, bed: &Bed, effort: Effort) -> Result<Rounds> {
    let logging = rig.further_proxy("logging", &["--access-log", "/dev/null"]).await?;
    let with = Subject {
        name: "with an access log",
        process: Some(&logging.process),
        plain: logging.plain,
        tls: logging.plain,
    };
    let without = Subject { name: "without a log", ..rig.subject() };
    let load = async |subject: Subject<'_>, during| {
        load::kept::run(bed.small.at(subject.plain), CONNECTIONS, during).await
    };
    let title = format!("Small requests over {CONNECTIONS} kept connections");
    measure((title, "request", Targets::default()), &[without, with], effort, load).await
}

/// Requests a second that an address answers.
pub(crate) async fn rate_of(bed: &Bed, address: SocketAddr) -> Result<f64> {
    let done = load::kept::run(bed.small.at(address), CONNECTIONS, 2 * WARM_UP).await?;
    Ok(done.count as f64 / done.seconds)
}

async fn measure(
    (title, unit, targets): (String, &'static str, Targets),
    subjects: &[Subject<'_>],
    Effort { rounds, during }: Effort,
    load: impl AsyncFn(Subject<'_>, Duration) -> Result<Done>,
) -> Result<Rounds> {
    say(&format!("{title}: {rounds} rounds of {during:?} for each"));
    let mut measured: Vec<Measured> =
        subjects.iter().map(|subject| Measured { name: subject.name, rounds: Vec::new() }).collect();
    for number in 0..rounds as usize {
        let mut told = Vec::new();
        for turn in 0..subjects.len() {
            // Whoever comes first finds a rested machine.
            let place = (turn + number) % subjects.len();
            let subject = subjects[place];
            load(subject, WARM_UP).await?;
            let before = cpu(subject.process)?;
            let Done { count, seconds } = load(subject, during).await?;
            let cpu = cpu(subject.process)?.zip(before).map(|(after, before)| after - before);
            let round = Round { count, seconds, cpu };
            told.push(format!("{} {}", round.told(), subject.name));
            measured[place].rounds.push(round);
        }
        say(&format!("  round {} of {rounds}: {}", number + 1, told.join(", ")));
    }
    Ok(Rounds { title, unit, seconds: during.as_secs(), subjects: measured, targets })
}

fn cpu(process: Option<&Process>) -> Result<Option<Cpu>> {
    process.map(Process::cpu).transpose()
}
