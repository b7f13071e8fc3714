//! `bivouac members`: the proxies whose evidence a stop waits for.

use bivouac_protocol::BootId;
use jiff::Timestamp;

use crate::exit::NotFound;
use crate::{connect, output};

/// The proxies whose evidence is needed before a session is stopped for idleness
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bivouac members ls
  bivouac members drain 7xk2m5qd3vbn       it takes no new connections, cuts none, and leaves
  bivouac members drain --node web-1       every proxy of that host
  bivouac members forget 7xk2m5qd3vbn      its process is dead, and nothing else can tell

A drained proxy stays so until it is started again; one that is draining is listed until
nothing is open there. Only forget a proxy whose process is dead: what it knows of open connections is lost.")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// List them
    Ls {
        #[command(flatten)]
        connect: connect::Args,
    },
    /// Have one accept nothing more, let what is open end by itself, and leave
    #[command(group(clap::ArgGroup::new("whom").required(true).args(["boot", "node"])))]
    Drain {
        /// Its boot id
        boot: Option<BootId>,
        /// Every proxy of this host
        #[arg(long, value_name = "HOST")]
        node: Option<String>,
        #[command(flatten)]
        connect: connect::Args,
    },
    /// Remove one whose process is dead
    Forget {
        /// Its boot id
        boot: BootId,
        #[command(flatten)]
        connect: connect::Args,
    },
}

/// Carries it out.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Ls { connect } => ls(&connect).await,
        Action::Drain { boot, node, connect } => drain(boot, node.as_deref(), &connect).await,
        Action::Forget { boot, connect } => forget(&boot, &connect).await,
    }
}

async fn ls(connect: &connect::Args) -> anyhow::Result<()> {
    let reply = connect.client()?.members().await?;
    if connect.json {
        return Ok(output::json(&reply.json)?);
    }
    if reply.value.members.is_empty() {
        output::error("no proxies: nothing is stopped for idleness, and nothing is served");
        return Ok(());
    }
    let now = Timestamp::now();
    let rows: Vec<_> = reply
        .value
        .members
        .iter()
        .map(|listed| {
            let member = &listed.member;
            let linked = match listed.linked {
                Some(true) => "yes",
                Some(false) => "SILENT",
                None => "?",
            };
            vec![
                output::plain(&member.boot),
                output::plain(&member.host),
                output::plain(&member.listen),
                output::plain(member.pid),
                output::plain(linked),
                output::plain(if member.draining_since.is_some() { "draining" } else { "serving" }),
                output::plain(output::roughly(output::between(member.joined_at, now))),
                output::plain(&member.version),
            ]
        })
        .collect();
    Ok(output::table(&["BOOT", "HOST", "LISTENS", "PID", "LINKED", "STATE", "AGE", "VERSION"], &rows)?)
}

async fn drain(boot: Option<BootId>, node: Option<&str>, connect: &connect::Args) -> anyhow::Result<()> {
    let client = connect.client()?;
    let boots: Vec<BootId> = match (boot, node) {
        (Some(boot), _) => vec![boot],
        (None, node) => {
            let members = client.members().await?.value.members.into_iter().map(|listed| listed.member);
            members.filter(|member| Some(member.host.as_str()) == node).map(|member| member.boot).collect()
        }
    };
    if boots.is_empty() {
        return Err(NotFound(format!("no proxy of {} is a member", node.unwrap_or_default())).into());
    }
    for boot in boots {
        let reply = client.drain_member(&boot).await?;
        if connect.json {
            output::json(&reply.json)?;
        } else {
            output::line(format_args!("{boot} drains"))?;
        }
    }
    Ok(())
}

async fn forget(boot: &BootId, connect: &connect::Args) -> anyhow::Result<()> {
    connect.client()?.forget_member(boot).await?;
    // The API answers without a body.
    if !connect.json {
        output::line(format_args!("forgot {boot}"))?;
    }
    Ok(())
}
