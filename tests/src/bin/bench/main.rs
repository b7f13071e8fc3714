//! `make bench`: how long a session takes to start, against a bare Nomad job on the same agents, and what the proxy costs
//! and adds, against nginx and haproxy in front of the same backends. Everything is compared within one run, because
//! absolute figures say more about a machine than about a program.

mod backend;
mod bed;
mod hold;
mod latency;
mod load;
mod peers;
mod process;
mod report;
mod rig;
mod rounds;
mod sockets;
mod starts;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use bed::Bed;
use report::Report;
use rig::{Binaries, Rig};
use rounds::Effort;

/// Measures Bivouac against what it is built on, on real agents on loopback.
#[derive(Debug, Parser)]
struct Args {
    /// The bivouac binary to measure [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Some parts instead of all
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
    /// How many starts of each kind
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// How many rounds of requests
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long each target is measured in each round
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    /// Where all data and logs go, and stay; by default a temporary folder
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The time from a spawn to the first byte
    Starts,
    /// Small requests over kept connections
    Cpu,
    /// A connection for each request
    Connect,
    /// Small requests with TLS
    Tls,
    /// Small requests over HTTP/2
    H2,
    /// What is added to a request's time at half load
    Latency,
    /// Bodies of 1 MiB
    Bulk,
    /// Messages over WebSockets
    Ws,
    /// Memory of WebSockets at rest
    Idle,
    /// A thousand requests that wait for one session
    Hold,
    /// What the access log costs
    Log,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // One thread for the load: the other cores belong to what is measured.
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(run(&args)) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    say(&format!("failed: {error:#}"));
    ExitCode::FAILURE
}

/// A line for whoever looks on; the figures alone go to standard output.
#[expect(clippy::print_stderr, reason = "telling people what it does is this program's interface")]
fn say(line: &str) {
    eprintln!("[bench] {line}");
}

async fn run(args: &Args) -> Result<ExitCode> {
    // Before anything is started, so that no signal finds it half-started.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    tokio::select! {
        report = measure(args) => {
            report?.print(args.json)?;
            Ok(ExitCode::SUCCESS)
        }
        _ = interrupts.recv() => Ok(interrupted()),
        _ = terminations.recv() => Ok(interrupted()),
    }
}

fn interrupted() -> ExitCode {
    say("interrupted: everything was taken down");
    ExitCode::FAILURE
}

async fn measure(args: &Args) -> Result<Report> {
    let beside = |name: &str| anyhow::Ok(std::env::current_exe()?.with_file_name(name));
    let found = |path: PathBuf| path.canonicalize().with_context(|| format!("the binary {}", path.display()));
    let bivouac = found(args.binary.clone().map_or_else(|| beside("bivouac"), Ok)?)?;
    let guest = found(beside("bivouac-guest")?)?;
    let peers = peers::Binaries::find()?;
    if cfg!(debug_assertions) {
        say("this is a debug build: only `make bench` gives figures that mean something");
    }
    let binaries = Binaries { bivouac: &bivouac, guest: &guest, nginx: &peers.nginx };
    let mut rig = Rig::start(&binaries, args.data_dir.clone()).await?;
    let measured = async {
        let mut report = Report::default();
        let wanted = |part| args.only.is_empty() || args.only.contains(&part);
        if wanted(Part::Starts) {
            report.add("starts", starts::measure(&rig, args.count).await?);
        }
        if args.only.iter().any(|part| *part != Part::Starts) || args.only.is_empty() {
            let bed = Bed::make(&mut rig, &peers).await?;
            requests(args, &rig, &bed, wanted, &mut report).await?;
            bed.clear(&rig).await?;
        }
        anyhow::Ok(report)
    };
    measured.await.map_err(|error| anyhow!("{error:#}\n{}", rig.logs()))
}

/// Everything that is measured on sessions that run.
async fn requests(
    args: &Args,
    rig: &Rig,
    bed: &Bed,
    wanted: impl Fn(Part) -> bool,
    report: &mut Report,
) -> Result<()> {
    let effort = Effort { rounds: args.rounds, during: Duration::from_secs(args.seconds) };
    if wanted(Part::Cpu) {
        report.add("cpu", rounds::kept(rig, bed, effort).await?);
    }
    if wanted(Part::Connect) {
        report.add("connect", rounds::connect(rig, bed, effort).await?);
    }
    if wanted(Part::Tls) {
        report.add("tls", rounds::tls(rig, bed, effort).await?);
    }
    if wanted(Part::H2) {
        report.add("h2", rounds::h2(rig, bed, effort).await?);
    }
    if wanted(Part::Latency) {
        report.add("latency", latency::measure(rig, bed, effort).await?);
    }
    if wanted(Part::Bulk) {
        report.add("bulk", rounds::bulk(rig, bed, effort).await?);
    }
    if wanted(Part::Ws) {
        report.add("ws", sockets::echo(rig, bed, effort).await?);
    }
    if wanted(Part::Idle) {
        report.add("idle", sockets::idle(rig, bed).await?);
    }
    if wanted(Part::Hold) {
        report.add("hold", hold::measure(rig, args.rounds).await?);
    }
    if wanted(Part::Log) {
        report.add("log", rounds::log(rig, bed, effort).await?);
    }
    Ok(())
}
