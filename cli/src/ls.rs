//! `bivouac ls`: the sessions.

use bivouac_client::{Client, Filter, Session, State};
use bivouac_protocol::Namespace;
use jiff::Timestamp;
use owo_colors::Style;

use crate::pairs::{self, Pair};
use crate::{connect, output, status};

/// List the sessions, newest first
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bivouac ls                        sessions that live
  bivouac ls --all                  ended ones too, with the reason
  bivouac ls --state ready --label plan=free
  bivouac ls --json | jq -r '.sessions[].url'")]
pub(crate) struct Args {
    /// Show ended sessions too
    #[arg(long, short)]
    all: bool,
    /// Only those in this state
    #[arg(long)]
    state: Option<String>,
    /// Only those of this template
    #[arg(long)]
    template: Option<String>,
    /// Only those of this namespace
    #[arg(long, short)]
    namespace: Option<String>,
    /// Only those with this label
    #[arg(long, value_name = "NAME=VALUE", value_parser = pairs::parse)]
    label: Vec<Pair>,
    /// At most so many; with --json: on a page
    #[arg(long, short, value_name = "N")]
    limit: Option<u32>,
    #[command(flatten)]
    connect: connect::Args,
}

/// Carries it out.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.connect.client()?;
    let filter = Filter {
        state: args.state.clone(),
        template: args.template,
        namespace: args.namespace,
        labels: args.label.into_iter().collect(),
        limit: args.limit,
        ..Filter::default()
    };
    if args.connect.json {
        return Ok(output::json(&client.sessions(&filter).await?.json)?);
    }
    let show_ended = args.all || args.state.is_some();
    let limit = args.limit.map_or(usize::MAX, |limit| limit as usize);
    let (sessions, ended) = collect(&client, filter, show_ended, limit).await?;
    if !sessions.is_empty() {
        let now = Timestamp::now();
        let rows: Vec<_> = sessions.iter().map(|session| row(session, now)).collect();
        output::table(&["SESSION", "KEY", "TEMPLATE", "STATE", "AGE", "WHY", "URL"], &rows)?;
    } else if ended == 0 {
        output::error("no sessions");
    }
    if ended > 0 {
        output::error(format_args!("{ended} ended (bivouac ls --all shows them)"));
    }
    Ok(())
}

/// All pages, up to the limit; the second number counts what was left out because it has ended.
async fn collect(
    client: &Client,
    mut filter: Filter,
    show_ended: bool,
    limit: usize,
) -> anyhow::Result<(Vec<Session>, usize)> {
    let (mut shown, mut ended) = (Vec::new(), 0);
    loop {
        let page = client.sessions(&filter).await?.value;
        for session in page.sessions {
            match session.state {
                State::Ended if !show_ended => ended += 1,
                _ => shown.push(session),
            }
        }
        filter.after = page.next;
        if filter.after.is_none() || shown.len() >= limit {
            shown.truncate(limit);
            return Ok((shown, ended));
        }
    }
}

fn row(session: &Session, now: Timestamp) -> Vec<output::Cell> {
    let key = match &session.key {
        Some(key) if session.namespace == Namespace::default() => key.to_string(),
        Some(key) => format!("{}/{key}", session.namespace),
        None => "-".to_owned(),
    };
    let age = session
        .timeline
        .claimed
        .map_or_else(|| "-".to_owned(), |claimed| output::roughly(output::between(claimed, now)));
    vec![
        output::painted(&session.id, Style::new().dimmed()),
        output::plain(key),
        output::plain(&session.template),
        output::painted(session.state, output::state(session.state)),
        output::plain(age),
        output::plain(status::why(session, now)),
        output::plain(&session.url),
    ]
}
