//! `bivouac token`: who may do what. A token is never printed, only the file that it was written to.

use std::path::{Path, PathBuf};

use anyhow::Context;
use bivouac_client::{Client, GivenToken, NewToken, Rotation, TokenInfo};
use bivouac_protocol::TokenName;
use bivouac_protocol::token::{Glob, Scope, Verb};
use jiff::Timestamp;
use owo_colors::Style;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::{connect, output, private_file};

/// API tokens: who may do what, where
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bivouac token create ci --namespace 'team-*' --verb spawn --verb read --expires-in 90d
  bivouac token create web --template whiteboard --out /etc/app/bivouac.token
  bivouac token ls
  bivouac token rotate ci --overlap 1h     both secrets open the API for an hour
  bivouac token revoke ci

A token is written to a file that only you can read, NAME.token unless --out names another,
and is never printed. Verbs: spawn, read, stop, lease, logs, ticket, members, tokens. Members
and tokens are of the whole installation: no namespace bounds them. Nobody makes a token that
permits more than the one they use, or that outlives it.")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Make one, and write it to a file
    Create(Create),
    /// List those that permit no more than yours
    Ls {
        #[command(flatten)]
        connect: connect::Args,
    },
    /// Give one another secret, and write it to a file
    Rotate(Rotate),
    /// Have one refused from now on
    Revoke {
        /// Its name
        name: TokenName,
        #[command(flatten)]
        connect: connect::Args,
    },
}

#[derive(clap::Args, Debug)]
struct Create {
    /// Its name: in what it has spawned it is told by that
    name: TokenName,
    /// Namespace that it may act in, * for any part of it; may be repeated [default: all]
    #[arg(long, short, value_name = "PATTERN")]
    namespace: Vec<Glob>,
    /// Template whose sessions it may act on, * for any part of it; may be repeated [default: all]
    #[arg(long, short, value_name = "PATTERN")]
    template: Vec<Glob>,
    /// What it may do; may be repeated [default: all but members and tokens]
    #[arg(long)]
    verb: Vec<Verb>,
    /// How long it lasts [default: until it is revoked]
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<String>,
    /// Where to write it [default: NAME.token]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    connect: connect::Args,
}

#[derive(clap::Args, Debug)]
struct Rotate {
    /// Its name
    name: TokenName,
    /// How long the old secret opens the API, too [default: 10m]
    #[arg(long, value_name = "DURATION")]
    overlap: Option<String>,
    /// How long the token lasts from now on [default: as long as before]
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<String>,
    /// Where to write the new one; a file that is there is replaced [default: NAME.token]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    connect: connect::Args,
}

/// Carries it out.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Create(create) => create.run().await,
        Action::Ls { connect } => ls(&connect).await,
        Action::Rotate(rotate) => rotate.run().await,
        Action::Revoke { name, connect } => {
            connect.client()?.revoke_token(&name).await?;
            // The API answers without a body.
            if !connect.json {
                output::line(format_args!("revoked {name}"))?;
            }
            Ok(())
        }
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.connect.client()?;
        let file = file(self.out, &self.name)?;
        // Nobody could use another one's token, and somebody's would be gone.
        anyhow::ensure!(!file.exists(), "{} is there already: name another file with --out", file.display());
        writable(&file)?;
        let some = |texts: Vec<String>| (!texts.is_empty()).then_some(texts);
        let token = NewToken {
            name: self.name.to_string(),
            namespaces: some(self.namespace.iter().map(ToString::to_string).collect()),
            templates: some(self.template.iter().map(ToString::to_string).collect()),
            verbs: some(self.verb.iter().map(ToString::to_string).collect()),
            expires_in: self.expires_in,
        };
        let given = client.create_token(&token).await?;
        keep(&client, &given, &file).await?;
        tell(&given.info, &file, self.connect.json)
    }
}

impl Rotate {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.connect.client()?;
        let file = file(self.out, &self.name)?;
        writable(&file)?;
        let rotation = Rotation { overlap: self.overlap, expires_in: self.expires_in };
        let given = client.rotate_token(&self.name, &rotation).await?;
        write(&given, &file).context("the token has another secret now, which is lost: rotate it again")?;
        tell(&given.info, &file, self.connect.json)
    }
}

fn file(out: Option<PathBuf>, name: &TokenName) -> anyhow::Result<PathBuf> {
    let file = out.unwrap_or_else(|| PathBuf::from(format!("{name}.token")));
    std::path::absolute(&file).with_context(|| format!("{} is not a path", file.display()))
}

/// Whether the file can be written, found out before there is a secret to be lost.
fn writable(file: &Path) -> anyhow::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    anyhow::ensure!(!file.is_dir(), "{} is a folder", file.display());
    std::fs::create_dir_all(dir)
        .and_then(|()| tempfile::tempfile_in(dir).map(drop))
        .with_context(|| format!("cannot write to {}", dir.display()))
}

fn write(given: &GivenToken, file: &Path) -> anyhow::Result<()> {
    private_file::write(file, format!("{}\n", given.token.expose_secret()).as_bytes())
}

/// Writes a new token. One that nobody has is taken back.
async fn keep(client: &Client, given: &GivenToken, file: &Path) -> anyhow::Result<()> {
    let Err(error) = write(given, file) else { return Ok(()) };
    let revoked = client.revoke_token(&given.info.name).await;
    Err(error.context(match revoked {
        Ok(()) => "the token could not be kept, and is revoked again".to_owned(),
        Err(_) => format!("the token could not be kept: revoke {}", given.info.name),
    }))
}

fn tell(info: &TokenInfo, file: &Path, json: bool) -> anyhow::Result<()> {
    if json {
        let mut shown = serde_json::to_value(info)?;
        shown["file"] = json!(file);
        return Ok(output::json(&shown.to_string())?);
    }
    output::line(format_args!("{}", file.display()))?;
    output::error(format_args!("token {}: {}", info.name, permits(&info.scope)));
    Ok(())
}

async fn ls(connect: &connect::Args) -> anyhow::Result<()> {
    let reply = connect.client()?.tokens().await?;
    if connect.json {
        return Ok(output::json(&reply.json)?);
    }
    if reply.value.tokens.is_empty() {
        output::error("no tokens but those of the service's own file (bivouac token create makes one)");
        return Ok(());
    }
    let now = Timestamp::now();
    let rows: Vec<_> = reply.value.tokens.iter().map(|token| row(token, now)).collect();
    Ok(output::table(&["TOKEN", "VERBS", "NAMESPACES", "TEMPLATES", "AGE", "LAST USE", "ENDS"], &rows)?)
}

fn row(token: &TokenInfo, now: Timestamp) -> Vec<output::Cell> {
    let ago = |at: Timestamp| output::roughly(output::between(at, now));
    let last_use = token.last_used_at.map_or_else(|| "never".to_owned(), |at| format!("{} ago", ago(at)));
    let ends = match token.expires_at {
        None => output::plain("-"),
        Some(_) if token.expired => output::painted("EXPIRED", Style::new().red()),
        Some(end) => output::plain(format!("in {}", output::roughly(output::between(now, end)))),
    };
    vec![
        output::plain(&token.name),
        output::plain(verbs(&token.scope)),
        output::plain(joined(&token.scope.namespaces)),
        output::plain(joined(&token.scope.templates)),
        output::plain(ago(token.created_at)),
        output::plain(last_use),
        ends,
    ]
}

fn permits(scope: &Scope) -> String {
    format!(
        "{}; namespaces {}; templates {}",
        verbs(scope),
        joined(&scope.namespaces),
        joined(&scope.templates)
    )
}

fn verbs(scope: &Scope) -> String {
    if scope.verbs.len() == Verb::ALL.len() { "all".to_owned() } else { joined(&scope.verbs) }
}

fn joined<T: ToString>(parts: impl IntoIterator<Item = T>) -> String {
    parts.into_iter().map(|part| part.to_string()).collect::<Vec<_>>().join(",")
}
