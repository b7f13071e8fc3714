//! The commands, as clap sees them, and which file carries each out.

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::{
    dev, doctor, events, exec_guard, lease, logs, ls, members, proxy, service, signals, spawn, status, stop,
    telemetry, ticket, token, whiteboard,
};

/// A short-lived server process for every user, document or room: pitched in moments, reached at its own hostname,
/// struck when nobody is using it.
#[derive(Parser, Debug)]
#[command(
    name = "bivouac",
    version,
    max_term_width = 110,
    after_help = "\
Begin here:
  bivouac dev                              service, proxy and a whiteboard on this machine
  bivouac spawn whiteboard --key doc-1     a session for a document, and its URL
  bivouac status doc-1                     why it is alive, or why it ended

Exit codes: 0 ok · 1 failed · 2 wrong usage · 3 not found · 4 unavailable or out of time"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) log: telemetry::Args,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Dev(dev::Args),
    Service(service::Args),
    Proxy(proxy::Args),
    Spawn(spawn::Args),
    Ls(ls::Args),
    Status(status::Args),
    Events(events::Args),
    Logs(logs::Args),
    Stop(stop::Args),
    Lease(lease::Args),
    Ticket(ticket::Args),
    Members(members::Args),
    Token(token::Args),
    Doctor(doctor::Args),
    #[command(hide = true)]
    Whiteboard(whiteboard::Args),
    #[command(hide = true)]
    ExecGuard(exec_guard::Args),
}

impl Command {
    /// Carries it out.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        // It becomes another program: no threads, no handlers.
        if let Self::ExecGuard(args) = self {
            return exec_guard::run(args);
        }
        drop(rustls::crypto::ring::default_provider().install_default());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let done = runtime.block_on(self.run_async());
        // A blocking read of standard input or a name look-up must not keep a finished command alive.
        runtime.shutdown_background();
        done
    }

    async fn run_async(self) -> anyhow::Result<()> {
        match self {
            Self::Dev(args) => dev::run(args, stopping()?).await,
            Self::Service(args) => service::run(args, stopping()?).await,
            Self::Proxy(args) => proxy::run(args, stopping()?).await,
            Self::Spawn(args) => spawn::run(args).await,
            Self::Ls(args) => ls::run(args).await,
            Self::Status(args) => status::run(args).await,
            Self::Events(args) => events::run(args).await,
            Self::Logs(args) => logs::run(args).await,
            Self::Stop(args) => stop::run(args).await,
            Self::Lease(args) => lease::run(args).await,
            Self::Ticket(args) => ticket::run(args).await,
            Self::Members(args) => members::run(args).await,
            Self::Token(args) => token::run(args).await,
            Self::Doctor(args) => doctor::run(args).await,
            Self::Whiteboard(args) => whiteboard::run(args, stopping()?).await,
            Self::ExecGuard(args) => exec_guard::run(args),
        }
    }
}

/// The shutdown of a long-running command.
fn stopping() -> anyhow::Result<CancellationToken> {
    signals::shutdown_on_signal()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_that_is_shown_has_examples() {
        let cli = Cli::command();
        let shown = || cli.get_subcommands().filter(|command| !command.is_hide_set());
        assert_eq!(shown().count(), 14);
        for command in shown() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:\n  bivouac "), "{} has none", command.get_name());
        }
    }
}
