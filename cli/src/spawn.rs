//! `bivouac spawn`: a new session, or the live one of a key.

use bivouac_client::{SpawnRequest, Spawned, Wait};
use bivouac_protocol::{Access, IdempotencyKey, Span};
use owo_colors::OwoColorize;

use crate::pairs::{self, Pair};
use crate::{connect, output, timeline};

/// Spawn a session; with a key, get or create the key's one
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bivouac spawn whiteboard                         a session with a random id
  bivouac spawn whiteboard --key doc-1 --wait      the session of doc-1, once it is ready
  bivouac spawn editor --param doc=notes --user ann --label plan=free
  bivouac spawn editor --idempotency-key order-7   once, however often this is repeated
  curl \"$(bivouac spawn whiteboard --key doc-1 | head -1)\"

The first line of the output is the session's URL.")]
pub(crate) struct Args {
    /// The template to spawn from
    template: String,
    /// The application's name for the session: the same key always leads to the same URL
    #[arg(long, short)]
    key: Option<String>,
    /// Namespace of the key
    #[arg(long, short, env = "BIVOUAC_NAMESPACE")]
    namespace: Option<String>,
    /// A parameter of the template
    #[arg(long, value_name = "NAME=VALUE", value_parser = pairs::parse)]
    param: Vec<Pair>,
    /// An environment variable, where the template allows it
    #[arg(long, value_name = "NAME=VALUE", value_parser = pairs::parse)]
    env: Vec<Pair>,
    /// A mark of your own
    #[arg(long, value_name = "NAME=VALUE", value_parser = pairs::parse)]
    label: Vec<Pair>,
    /// For whom
    #[arg(long)]
    user: Option<String>,
    /// End it this long after its last use, within the template's bounds
    #[arg(long, value_name = "DURATION")]
    idle_timeout: Option<Span>,
    /// End it once its open connections have carried nothing but pings for so long
    #[arg(long, value_name = "DURATION")]
    quiet_timeout: Option<Span>,
    /// End it this long after its start
    #[arg(long, value_name = "DURATION")]
    max_lifetime: Option<Span>,
    /// Give it up if it is not ready by then
    #[arg(long, value_name = "DURATION")]
    startup_timeout: Option<Span>,
    /// Makes a spawn without a key safe to repeat: the same text and the same request lead to the same session
    #[arg(long, value_name = "TEXT", conflicts_with = "key")]
    idempotency_key: Option<IdempotencyKey>,
    /// Answer when the session is ready, or has failed to become so
    #[arg(long, short)]
    wait: bool,
    #[command(flatten)]
    connect: connect::Args,
}

/// Carries it out.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.connect.client()?;
    let wait = if args.wait { Wait::Ready } else { Wait::Claimed };
    let json = args.connect.json;
    let once = args.idempotency_key.clone();
    let request = args.request();
    let reply = match once {
        Some(key) => client.spawn_once(&request, &key, wait).await?,
        None => client.spawn(&request, wait).await?,
    };
    if json {
        output::json(&reply.json)?
    } else {
        print(&reply.value)?
    }
    Ok(())
}

impl Args {
    fn request(self) -> SpawnRequest {
        SpawnRequest {
            template: self.template,
            key: self.key,
            namespace: self.namespace,
            params: self.param.into_iter().collect(),
            env: self.env.into_iter().collect(),
            labels: self.label.into_iter().collect(),
            user: self.user,
            idle_timeout: self.idle_timeout,
            quiet_timeout: self.quiet_timeout,
            max_lifetime: self.max_lifetime,
            startup_timeout: self.startup_timeout,
            ..SpawnRequest::default()
        }
    }
}

fn print(Spawned { spawned, session }: &Spawned) -> anyhow::Result<()> {
    output::line(session.url.bold())?;
    let what = if *spawned { "spawned" } else { "already there" };
    let took = timeline::start_took(&session.timeline)
        .filter(|_| *spawned)
        .map(|took| format!(" in {} ms", took.as_millis()))
        .unwrap_or_default();
    let state = session.state.style(output::state(session.state));
    output::line(format_args!("{what}, {state}{took} · {}", session.id.dimmed()))?;
    if session.policy.rules.access == Access::Ticket {
        output::error(format_args!("who enters needs a ticket: bivouac ticket {} --url", session.id));
    }
    Ok(())
}
