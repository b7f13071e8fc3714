//! `bivouac`: the one binary. Telemetry, arguments, a command, an exit code.

mod bundled;
mod command;
mod connect;
mod dev;
mod discovery;
mod doctor;
mod environment;
mod events;
mod exec_guard;
mod exit;
mod lease;
mod logs;
mod ls;
mod members;
mod nomad_env;
mod output;
mod pairs;
mod private_file;
mod proxy;
mod ready_file;
mod registration;
mod service;
mod session_name;
mod signals;
mod spawn;
mod status;
mod stop;
mod telemetry;
mod ticket;
mod timeline;
mod token;
mod whiteboard;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = command::Cli::parse();
    telemetry::install(&cli.log);
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
