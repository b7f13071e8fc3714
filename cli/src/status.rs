//! `bivouac status`: one session, why it is alive, or why it ended.

use bivouac_client::{Alive, Session, Verdict};
use bivouac_protocol::text::printable;
use bivouac_protocol::{Reason, ReasonCode};
use jiff::Timestamp;
use owo_colors::OwoColorize;

use crate::{connect, output, session_name, timeline};

/// Show one session: its state, why it is alive or why it ended, its timeline
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bivouac status doc-1                       by key
  bivouac status doc-1 --namespace acme      by key in a namespace
  bivouac status k3vq7ch2m6xwz4tbn5ad        by id
  bivouac status doc-1 --json | jq .alive")]
pub(crate) struct Args {
    #[command(flatten)]
    session: session_name::Args,
    #[command(flatten)]
    connect: connect::Args,
}

/// Carries it out.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.connect.client()?;
    let reply = args.session.find(&client).await?;
    if args.connect.json {
        output::json(&reply.json)?
    } else {
        print(&reply.value, Timestamp::now())?
    }
    Ok(())
}

/// Prints a session for people.
pub(crate) fn print(session: &Session, now: Timestamp) -> anyhow::Result<()> {
    let name = session.key.as_ref().map_or(session.id.as_str(), |key| key.as_str());
    let state = session.state.style(output::state(session.state));
    output::line(format_args!("{}  {}", name.bold(), state.bold()))?;
    output::fields(&facts(session, now))?;
    let steps = timeline::steps(&session.timeline);
    if !steps.is_empty() {
        output::line("")?;
        let steps: Vec<_> = steps.into_iter().map(|(name, after)| (name, timeline::offset(after))).collect();
        output::fields(&steps)?;
    }
    if let Some(reason) = session.reason.as_ref().filter(|reason| !reason.log_tail.is_empty()) {
        output::line(format_args!("\n  {}", "what it printed last".dimmed()))?;
        reason.log_tail.iter().try_for_each(|line| output::line(format_args!("  {}", printable(line))))?;
    }
    Ok(())
}

fn facts(session: &Session, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut facts = vec![("url", session.url.clone())];
    let label = if session.alive.is_some() { "alive" } else { "why" };
    facts.push((label, why(session, now)));
    if let Some(alive) = &session.alive {
        facts.extend(evidence(alive, now).into_iter().map(|text| ("", text)));
    }
    facts.push(("session", format!("{} · run {}", session.id, session.generation)));
    facts.push(("template", format!("{} · namespace {}", session.template, session.namespace)));
    if let Some(allocation) = &session.allocation {
        let node = session.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
        facts.push(("allocation", format!("{allocation}{node}")));
    }
    if let Some(away) = &session.unreachable {
        let since = output::roughly(output::between(away.since, now));
        let then = match away.given_up_at {
            Some(at) => format!("given up in {}", output::roughly(output::between(now, at))),
            None => "waited for; bivouac stop --abandon gives it up".to_owned(),
        };
        facts.push(("node", format!("unreachable for {since}: {then}")));
    }
    facts.push(("policy", policy(session)));
    if let Some(user) = &session.user {
        facts.push(("user", user.clone()));
    }
    if !session.labels.is_empty() {
        let labels: Vec<_> = session.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        facts.push(("labels", labels.join(" ")));
    }
    facts
}

fn policy(session: &Session) -> String {
    let policy = &session.policy;
    let mut text = format!(
        "idle {} · startup {} · grace {}",
        policy.idle_timeout, policy.startup_timeout, policy.stop_grace
    );
    if let Some(quiet) = policy.quiet_timeout {
        text.push_str(&format!(" · quiet {quiet}"));
    }
    if let Some(lifetime) = policy.max_lifetime {
        text.push_str(&format!(" · lifetime {lifetime}"));
    }
    if policy.wake {
        text.push_str(" · wakes on request");
    }
    if let Some(after) = policy.overlap_after {
        text.push_str(&format!(" · given up when unreachable for {after}"));
    }
    text
}

/// In a few words: why it is alive, what it waits for, or why it ended.
pub(crate) fn why(session: &Session, now: Timestamp) -> String {
    if let Some(reason) = &session.reason {
        return because(reason);
    }
    if let Some(waiting) = &session.waiting_for {
        return format!("waits for room: {}", printable(waiting));
    }
    let Some(alive) = &session.alive else { return "-".to_owned() };
    let open: u64 = alive.proxies.iter().map(|proxy| u64::from(proxy.open)).sum();
    let ends = alive
        .ends_at
        .map(|at| format!(", ends in {}", output::roughly(output::between(now, at))))
        .unwrap_or_default();
    match alive.verdict {
        Verdict::Busy if open > 0 => {
            let quiet = alive.quiet_since.map(|at| output::roughly(output::between(at, now)));
            let quiet = quiet.map(|span| format!(", quiet for {span}{ends}")).unwrap_or_default();
            format!("in use, {open} open{quiet}")
        }
        _ if !alive.leases.is_empty() => {
            format!("kept alive by {}{ends}", count(alive.leases.len() as u64, "lease"))
        }
        Verdict::Busy => "in use".to_owned(),
        Verdict::Unknown => {
            format!("unknown: {} silent, nothing is stopped", count(alive.silent.len() as u64, "proxy"))
        }
        Verdict::Idle => format!("unused{ends}"),
    }
}

fn because(reason: &Reason) -> String {
    let words = match reason.code {
        ReasonCode::Idle => "nobody used it",
        ReasonCode::Quiet => "its connections were quiet",
        ReasonCode::Lifetime => "it reached its lifetime",
        ReasonCode::Requested => "somebody asked for it",
        ReasonCode::Exited => "the backend ended by itself",
        ReasonCode::StartFailed => "it could not be started",
        ReasonCode::StartupTimeout => "it was not ready in time",
        ReasonCode::NoCapacity => "there was no room for it",
        ReasonCode::Drained => "its node was drained",
        ReasonCode::Preempted => "something more important took its place",
        ReasonCode::Operator => "its job was stopped by hand",
        ReasonCode::Abandoned => "it was given up",
        ReasonCode::Lost => "its allocation was lost",
    };
    let detail = reason.detail.as_deref().unwrap_or(words);
    // A backend that was asked to leave, and left well, has nothing to tell.
    let telling =
        |code: &i32| *code != 0 || matches!(reason.code, ReasonCode::Exited | ReasonCode::StartFailed);
    let exit =
        reason.exit_code.filter(telling).map(|code| format!(" (exit code {code})")).unwrap_or_default();
    format!("{}: {}{exit}", reason.code.as_str(), printable(detail))
}

/// Every proxy's word, and every promise.
fn evidence(alive: &Alive, now: Timestamp) -> Vec<String> {
    let ago = |at: Timestamp| format!("{} ago", output::roughly(output::between(at, now)));
    let proxies = alive.proxies.iter().map(|proxy| {
        let last = proxy
            .last_use
            .map_or_else(|| "never used there".to_owned(), |at| format!("last use {}", ago(at)));
        format!("proxy {}: {} open, {last}", proxy.boot, proxy.open)
    });
    let silent = alive.silent.iter().map(|boot| format!("proxy {boot}: silent"));
    let leases = alive.leases.iter().map(|(name, until)| format!("lease {name}: until {until}"));
    proxies.chain(silent).chain(leases).collect()
}

fn count(n: u64, thing: &str) -> String {
    match (n, thing) {
        (1, _) => format!("1 {thing}"),
        (_, "proxy") => format!("{n} proxies"),
        _ => format!("{n} {thing}s"),
    }
}
