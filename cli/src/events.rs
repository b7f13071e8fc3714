//! `bivouac events`: what happens, as it happens.

use std::pin::pin;

use bivouac_client::{Event, Session};
use futures::StreamExt;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use owo_colors::OwoColorize;

use crate::{connect, output, session_name, status};

/// Follow one session, or all of them
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bivouac events                 all sessions: what there is, then every change
  bivouac events doc-1           one session
  bivouac events --json          one JSON document per line: {\"event\": …, \"data\": …}

Ends when the service goes away (exit code 4), or at Ctrl-C.")]
pub(crate) struct Args {
    /// The session: its id, or its key [default: all of them]
    #[arg(value_name = "ID|KEY")]
    session: Option<String>,
    /// Namespace of the key
    #[arg(long, short, env = "BIVOUAC_NAMESPACE", default_value = "default")]
    namespace: bivouac_protocol::Namespace,
    #[command(flatten)]
    connect: connect::Args,
}

/// Carries it out.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.connect.client()?;
    let id = match args.session {
        Some(name) => Some(session_name::Args::new(name, args.namespace).find(&client).await?.value.id),
        None => None,
    };
    let mut events = pin!(client.events(id.as_ref()).await?);
    while let Some(event) = events.next().await {
        let event = event?;
        if args.connect.json { print_json(&event)? } else { print(&event.value)? }
    }
    Err(anyhow::Error::new(bivouac_client::Error::Ended))
}

fn print_json(event: &bivouac_client::Reply<Event>) -> anyhow::Result<()> {
    let name = match &event.value {
        Event::Reset => "reset",
        Event::Snapshot(_) => "snapshot",
        Event::Session(_) => "session",
        Event::Other(name) => name,
    };
    let data = if event.json.trim().is_empty() { "null" } else { &event.json };
    output::line(format_args!("{{\"event\":{},\"data\":{data}}}", serde_json::to_string(name)?))?;
    Ok(())
}

fn print(event: &Event) -> anyhow::Result<()> {
    match event {
        Event::Snapshot(sessions) => sessions.iter().try_for_each(print_session),
        Event::Session(session) => print_session(session),
        Event::Reset | Event::Other(_) => Ok(()),
    }
}

fn print_session(session: &Session) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let time = now.to_zoned(TimeZone::system()).strftime("%H:%M:%S%.3f").to_string();
    let name = session.key.as_ref().map_or(session.id.as_str(), |key| key.as_str());
    let state = format!("{:<8}", session.state);
    output::line(format_args!(
        "{}  {}  {name}  {}",
        time.dimmed(),
        state.style(output::state(session.state)),
        status::why(session, now).dimmed(),
    ))?;
    Ok(())
}
