//! SIGTERM and SIGINT: the first asks for an orderly end, the second ends the process at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a shell reports for a process that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// A token that the first signal cancels. Call it before anything is acquired that has to be given back.
pub(crate) fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
    let mut stop = watch()?;
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        let name = stop.recv().await;
        tracing::info!(signal = name, "Shutting down; a second signal ends the process at once.");
        token.cancel();
        stop.recv().await;
        std::process::exit(INTERRUPTED);
    });
    Ok(shutdown)
}

struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

fn watch() -> io::Result<Stop> {
    Ok(Stop { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
}

impl Stop {
    async fn recv(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
