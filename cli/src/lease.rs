//! `bivouac lease`: keep a session alive until a time, or no longer.

use bivouac_client::LeaseLength;
use bivouac_protocol::{LeaseName, Span};
use jiff::Timestamp;

use crate::{connect, output, session_name, status};

/// Keep a session alive until a time, though nobody uses it
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bivouac lease doc-1 export --for 10m                       from now on; again to renew it
  bivouac lease doc-1 demo --until 2030-01-31T18:00:00Z
  bivouac lease doc-1 export --release                       its idle time begins
  bivouac lease doc-1 export --for 10m --json | jq .alive.leases

A lease ends at the session's lifetime at the latest, and by the wall clock.")]
pub(crate) struct Args {
    #[command(flatten)]
    session: session_name::Args,
    /// The lease's name: who needs the session, or what for
    #[arg(value_name = "NAME")]
    lease: LeaseName,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    connect: connect::Args,
}

/// Exactly one of these.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct What {
    /// Keep it alive this long from now on
    #[arg(long = "for", value_name = "DURATION")]
    span: Option<Span>,
    /// Keep it alive until this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Take the lease back
    #[arg(long)]
    release: bool,
}

impl What {
    /// `None`: release it.
    fn length(&self) -> Option<LeaseLength> {
        self.span.map(LeaseLength::For).or(self.until.map(LeaseLength::Until))
    }
}

/// Carries it out.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.connect.client()?;
    let id = args.session.find(&client).await?.value.id;
    let reply = match args.what.length() {
        Some(length) => client.lease(&id, &args.lease, &length).await?,
        None => client.release(&id, &args.lease).await?,
    };
    if args.connect.json {
        output::json(&reply.json)?
    } else {
        status::print(&reply.value, Timestamp::now())?
    }
    Ok(())
}
