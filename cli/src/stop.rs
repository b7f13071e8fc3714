//! `bivouac stop`: strike a session now.

use bivouac_client::Stop;
use jiff::Timestamp;

use crate::{connect, output, session_name, status};

/// Stop a session now, whoever is using it
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bivouac stop doc-1               signal, grace period, kill
  bivouac stop doc-1 --force       kill at once")]
pub(crate) struct Args {
    #[command(flatten)]
    session: session_name::Args,
    /// Skip the backend's grace period
    #[arg(long, short)]
    force: bool,
    #[command(flatten)]
    connect: connect::Args,
}

/// Carries it out.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.connect.client()?;
    let id = args.session.find(&client).await?.value.id;
    let reply = client.stop(&id, if args.force { Stop::Force } else { Stop::Graceful }).await?;
    if args.connect.json {
        output::json(&reply.json)?
    } else {
        status::print(&reply.value, Timestamp::now())?
    }
    Ok(())
}
