//! `make bench`: how long a session takes to start, against a bare Nomad job on the same agents, and what a small request
//! costs the proxy, against nginx in front of the same backend. Everything is compared within one run, because absolute
//! figures say more about a machine than about a program.

mod cpu;
mod load;
mod nginx;
mod process;
mod report;
mod rig;
mod starts;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use report::Report;
use rig::Rig;

/// Measures Bivouac against what it is built on, on real agents on loopback.
#[derive(Debug, Parser)]
struct Args {
    /// The bivouac binary to measure [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// One part instead of both
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
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
    /// The proxy's processor time per request
    Cpu,
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
    let binary = match &args.binary {
        Some(named) => named.clone(),
        None => std::env::current_exe()?.with_file_name("bivouac"),
    };
    let binary = binary.canonicalize().with_context(|| format!("the binary {}", binary.display()))?;
    let nginx = if args.only == Some(Part::Starts) { None } else { Some(nginx::find()?) };
    if cfg!(debug_assertions) {
        say("this is a debug build: only `make bench` gives figures that mean something");
    }
    let mut rig = Rig::start(&binary, nginx.as_deref(), args.data_dir.clone()).await?;
    let measured = async {
        let mut report = Report::default();
        if args.only != Some(Part::Cpu) {
            report.starts = Some(starts::measure(&rig, args.count).await?);
        }
        if let Some(nginx) = &nginx {
            let seconds = Duration::from_secs(args.seconds);
            report.cpu = Some(cpu::measure(&mut rig, nginx, args.rounds, seconds).await?);
        }
        anyhow::Ok(report)
    };
    measured.await.map_err(|error| anyhow!("{error:#}\n{}", rig.logs()))
}
