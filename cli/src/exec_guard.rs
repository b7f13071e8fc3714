//! `bivouac exec-guard -- CMD…`: the command, dying with whoever started it.
//!
//! The embedded mode's sessions are child processes; one that outlives a killed `bivouac dev` would keep its port and
//! nobody would ever stop it. `unsafe` is not needed for that as long as it is done here, after the fork, in a program
//! of our own that then becomes the command.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use anyhow::Context;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// The programs that are inside this binary.
const BUNDLED: [&str; 1] = ["whiteboard"];

/// What to become.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The process that started us: if it is gone already, so are we
    #[arg(long)]
    parent: Option<i32>,
    /// The command and its arguments; `whiteboard` is this binary's own
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Becomes the command; returns only if that fails.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot ask to die with the parent")?;
    // The parent may have died before the request: no signal comes then, and whoever inherits us is not it.
    let expected = args.parent.map_or(parent, Pid::from_raw);
    anyhow::ensure!(getppid() == expected, "the process that started this one is gone");
    let (program, rest) = args.command.split_first().context("no command")?;
    let mut command = if BUNDLED.iter().any(|name| program == *name) {
        let mut own = std::process::Command::new(std::env::current_exe().context("cannot find this binary")?);
        own.arg(program);
        own
    } else {
        std::process::Command::new(program)
    };
    let error = command.args(rest).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}
