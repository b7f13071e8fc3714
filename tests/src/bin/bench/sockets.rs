//! WebSockets: how long a message takes there and back, and what one costs that rests.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bed::{Bed, Subject};
use crate::load::ws;
use crate::process::Process;
use crate::report::{Idle, Spread, Stages};
use crate::rig::Rig;
use crate::rounds::Effort;
use crate::say;

/// How many send messages at the same time.
const TALKING: usize = 64;
/// How many rest.
const RESTING: [usize; 2] = [1_000, 9_500];
/// Opened and closed before anything counts: what a process keeps for the first ones is no one's.
const FIRST: usize = 256;
/// Bytes of a long message.
const LONG: usize = 60_000;
/// How long memory is given to come to rest: allocators give it back after a while.
const SETTLE: Duration = Duration::from_secs(2);
/// Files that this process has open besides sockets, generously.
const OTHER_FILES: u64 = 500;

/// Messages there and back.
pub(crate) async fn echo(rig: &Rig, bed: &Bed, effort: Effort) -> Result<Spread> {
    let during = effort.during * effort.rounds;
    say(&format!("messages over {TALKING} WebSockets, for {during:?} each"));
    let mut subjects = Vec::new();
    for subject in [bed.guest.directly()].into_iter().chain(bed.proxies(rig)) {
        let times = ws::echoes(bed.guest.at(subject.plain), TALKING, during).await?;
        say(&format!(
            "  p50 {:.3} ms, p99 {:.3} ms {}",
            times.percentile(50),
            times.percentile(99),
            subject.name
        ));
        subjects.push((subject.name, times));
    }
    let title = format!("Messages of {} bytes over {TALKING} WebSockets, there and back", ws::SMALL);
    Ok(Spread { title, subjects, targets: Vec::new() })
}

/// Memory at rest.
pub(crate) async fn idle(rig: &Rig, bed: &Bed) -> Result<Idle> {
    let most = raise_open_files()?.saturating_sub(OTHER_FILES);
    let mut idle = Idle::default();
    for wanted in RESTING {
        let sockets = wanted.min(usize::try_from(most).unwrap_or(usize::MAX));
        if sockets < wanted {
            say(&format!("  {sockets} WebSockets instead of {wanted}: this process may not open more files"));
        }
        for subject in bed.proxies(rig) {
            say(&format!("{sockets} WebSockets at rest: {}", subject.name));
            match rest(bed, subject, sockets).await {
                Ok(stages) => idle.runs.push(stages),
                Err(error) if subject.name == Rig::NAME => return Err(error),
                Err(error) => say(&format!("  {} does not bear them: {error:#}", subject.name)),
            }
        }
    }
    Ok(idle)
}

async fn rest(bed: &Bed, subject: Subject<'_>, count: usize) -> Result<Stages> {
    let process = subject.process.context("a proxy is a process")?;
    let aim = bed.guest.at(subject.plain);
    drop(ws::open(aim, FIRST).await?);
    let before = settled(process).await?;
    let mut sockets = ws::open(aim, count).await?;
    let open = settled(process).await?;
    ws::touch(&mut sockets, LONG).await?;
    let used = settled(process).await?;
    drop(sockets);
    let closed = settled(process).await?;
    Ok(Stages {
        name: subject.name,
        judged: subject.name == Rig::NAME,
        sockets: count,
        before,
        open,
        used,
        closed,
    })
}

async fn settled(process: &Process) -> Result<u64> {
    tokio::time::sleep(SETTLE).await;
    process.memory()
}

/// As many files as this process may have; how many that is.
fn raise_open_files() -> Result<u64> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.unwrap_or(u64::MAX))
}
