//! `make cluster`: real agents on loopback, with the service and the proxy on them as the Nomad jobs that operators
//! deploy, until Ctrl-C or SIGTERM.

mod announcement;
mod deployment;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bivouac_tests::agents::{Agents, AgentsConfig, Ports};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use announcement::Announcement;
use deployment::Deployment;

/// A Nomad and Consul cluster on loopback, with Bivouac on it.
#[derive(Debug, Parser)]
struct Args {
    /// The bivouac binary to deploy
    #[arg(long, value_name = "FILE")]
    binary: PathBuf,
    /// The folder with the session templates
    #[arg(long, value_name = "DIR", default_value = "templates")]
    templates: PathBuf,
    /// The folder with the jobs of the service and the proxy
    #[arg(long, value_name = "DIR", default_value = "jobspecs")]
    jobspecs: PathBuf,
    /// Where to write, once all is up, what was started, as JSON
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Where all data and logs go, and stay; by default a temporary folder
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How many Nomad clients
    #[arg(long, value_name = "NUMBER", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    clients: u8,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    say(&format!("failed: {error:#}"));
    ExitCode::FAILURE
}

/// A line for whoever looks on.
#[expect(clippy::print_stdout, reason = "telling people what it does is this program's interface")]
fn say(line: &str) {
    println!("[cluster] {line}");
}

async fn run(args: Args) -> Result<()> {
    // Before anything is started, so that no signal finds it half-started.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let mut told_to_end = async || {
        tokio::select! {
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {}
        }
    };
    let (agents, deployment) = tokio::select! {
        up = start(&args) => up?,
        () = told_to_end() => {
            say("interrupted while starting: everything is taken down");
            return Ok(());
        }
    };
    let announced = Announcement::of(&agents, &deployment).publish(args.ready_file.as_deref())?;
    told_to_end().await;
    drop(announced);
    say("ending the sessions, the service and the proxy; a second signal does not wait for them");
    tokio::select! {
        ended = deployment.end() => {
            if let Err(error) = ended {
                say(&format!("not everything ended by itself: {error:#}"));
            }
        }
        () = told_to_end() => {}
    }
    drop(agents);
    say("everything is down");
    Ok(())
}

async fn start(args: &Args) -> Result<(Agents, Deployment)> {
    let binary =
        args.binary.canonicalize().with_context(|| format!("the binary {}", args.binary.display()))?;
    let templates = args
        .templates
        .canonicalize()
        .with_context(|| format!("the templates {}", args.templates.display()))?;
    let started = Instant::now();
    say(&format!("starting a Consul server, a Nomad server and {} clients", args.clients));
    let mut agents = Agents::start(AgentsConfig {
        nomad_clients: usize::from(args.clients),
        data_dir: args.data_dir.clone(),
        ports: Ports::Standard,
        // Where the jobs and the templates find `bivouac`.
        path: binary.parent().map(PathBuf::from).into_iter().collect(),
        ..AgentsConfig::default()
    })
    .await?;
    say(&format!("agents are up after {}; their files are in {}", seconds(started), agents.dir().display()));
    let deployment = Deployment::run(&mut agents, &args.jobspecs, &binary, &templates).await?;
    say(&format!("the service and the proxy are up after {}", seconds(started)));
    Ok((agents, deployment))
}

fn seconds(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().max(Duration::from_millis(1)).as_secs_f64())
}
