//! `bivouac stop`: strike a session now.

use bivouac_client::Stop;
use jiff::Timestamp;

use crate::{connect, output, session_name, status};

/// Stop a session now, whoever is using it
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bivouac stop doc-1               signal, grace period, kill
  bivouac stop doc-1 --force       kill at once
  bivouac stop doc-1 --abandon     its node is unreachable: give it up, so that doc-1 can be spawned again")]
pub(crate) struct Args {
    #[command(flatten)]
    session: session_name::Args,
    /// Skip the backend's grace period
    #[arg(long, short)]
    force: bool,
    /// Give up a session whose node is unreachable. Its process may run on there until the node is back: two may run for
    /// a while, of which only the new one is reached
    #[arg(long, conflicts_with = "force")]
    abandon: bool,
    #[command(flatten)]
    connect: connect::Args,
}

/// Carries it out.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.connect.client()?;
    let id = args.session.find(&client).await?.value.id;
    let how = match (args.force, args.abandon) {
        (_, true) => Stop::Abandon,
        (true, false) => Stop::Force,
        (false, false) => Stop::Graceful,
    };
    let reply = client.stop(&id, how).await?;
    if args.connect.json {
        output::json(&reply.json)?
    } else {
        status::print(&reply.value, Timestamp::now())?
    }
    Ok(())
}
