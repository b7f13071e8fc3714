//! `bivouac logs`: what a session prints.

mod plain;

use std::io::IsTerminal;
use std::pin::pin;

use bivouac_client::{LogQuery, Output};
use futures::StreamExt;
use tokio::io::AsyncWriteExt;

use crate::{connect, session_name};
use plain::Plain;

/// Show what a session prints, or printed
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bivouac logs doc-1                    the last 200 lines of its standard output
  bivouac logs doc-1 --stderr --tail 20
  bivouac logs doc-1 --follow           and what comes, until it ends or Ctrl-C
  bivouac logs doc-1 --tail 10000 > doc-1.log

On a terminal, control characters are written out (\\u{1b}), so that a session cannot
take the terminal over; --raw passes them through. Into a pipe or a file goes every
byte as it was printed.")]
pub(crate) struct Args {
    #[command(flatten)]
    session: session_name::Args,
    /// Go on with what comes, until the session ends
    #[arg(long, short)]
    follow: bool,
    /// Standard error instead of standard output
    #[arg(long)]
    stderr: bool,
    /// Lines from the end, up to 10000
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    tail: u32,
    /// Pass control characters to the terminal
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    connect: connect::Args,
}

/// Carries it out.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    anyhow::ensure!(!args.connect.json, "a log is plain text: there is no JSON of it");
    let show = show(&args);
    if !args.follow {
        return show.await;
    }
    // Whoever follows has no other way to say that it is enough.
    tokio::select! {
        shown = show => shown,
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}

async fn show(args: &Args) -> anyhow::Result<()> {
    let client = args.connect.client()?;
    let id = args.session.find(&client).await?.value.id;
    let output = if args.stderr { Output::Stderr } else { Output::Stdout };
    let query = LogQuery { output, tail: Some(args.tail), follow: args.follow };
    let mut log = pin!(client.logs(&id, &query).await?);
    let mut plain = (std::io::stdout().is_terminal() && !args.raw).then(Plain::default);
    // Not the blocking one: a reader that has stopped reading must not keep Ctrl-C from being heard.
    let mut out = tokio::io::stdout();
    while let Some(bytes) = log.next().await {
        let bytes = bytes?;
        match &mut plain {
            Some(plain) => out.write_all(plain.push(&bytes).as_bytes()).await?,
            None => out.write_all(&bytes).await?,
        }
        out.flush().await?;
    }
    if let Some(plain) = plain {
        out.write_all(plain.rest().as_bytes()).await?;
    }
    out.flush().await?;
    Ok(())
}
