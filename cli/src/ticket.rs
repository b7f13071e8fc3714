//! `bivouac ticket`: let a user into a session, or throw them out. A ticket is never printed, only the file that it was
//! written to; a link is, for it is there to be opened, and is good once.

use std::path::PathBuf;

use anyhow::Context;
use bivouac_client::{Client, NewTicket};
use bivouac_protocol::{SessionId, Span};
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use crate::{connect, output, private_file, session_name};

/// Let a user into a session, or throw them out
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bivouac ticket doc-1 --user ann --url               a link to open in a browser, once, within a minute
  bivouac ticket doc-1 --user ann --ttl 8h --claims '{\"role\": \"editor\"}'
  curl -H \"Authorization: Bearer $(cat doc-1.ticket)\" http://…
  bivouac ticket doc-1 --user ann --revoke            ann is out; a new ticket lets her in again
  bivouac ticket doc-1 --revoke                       everybody is

A ticket is written to a file that only you can read, ID|KEY.ticket unless --out names
another, and is never printed.")]
pub(crate) struct Args {
    #[command(flatten)]
    session: session_name::Args,
    /// For whom: the backend is told
    #[arg(long, short)]
    user: Option<String>,
    /// What else the backend is told of the user, a JSON object
    #[arg(long, value_name = "JSON", value_parser = object)]
    claims: Option<Claims>,
    /// How long it is good, at most 24h [default: 1h]
    #[arg(long, value_name = "DURATION")]
    ttl: Option<Span>,
    /// Where to write it; a file that is there is replaced
    #[arg(long, short, value_name = "FILE", conflicts_with = "url")]
    out: Option<PathBuf>,
    /// Print a link in place of it, which is good once and becomes a cookie
    #[arg(long)]
    url: bool,
    /// Refuse all tickets that were issued until now, the user's or everybody's, and cut what they opened
    #[arg(long, conflicts_with_all = ["claims", "ttl", "out", "url"])]
    revoke: bool,
    #[command(flatten)]
    connect: connect::Args,
}

/// A JSON object.
#[derive(Debug, Clone)]
struct Claims(Map<String, Value>);

/// Carries it out.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.connect.client()?;
    let id = args.session.find(&client).await?.value.id;
    if args.revoke { args.revoke(&client, &id).await } else { args.issue(&client, &id).await }
}

impl Args {
    async fn issue(self, client: &Client, id: &SessionId) -> anyhow::Result<()> {
        let file = self.out.unwrap_or_else(|| PathBuf::from(format!("{}.ticket", self.session.as_file())));
        let file = std::path::absolute(&file).with_context(|| format!("{} is not a path", file.display()))?;
        let wanted = NewTicket {
            user: self.user,
            claims: self.claims.map(|Claims(claims)| claims),
            ttl: self.ttl.map(|ttl| ttl.to_string()),
        };
        let given = client.issue_ticket(id, &wanted).await?;
        if self.url {
            let url = given.url.expose_secret();
            if self.connect.json {
                let shown = json!({ "url": url, "url_expires_at": given.url_expires_at });
                output::json(&shown.to_string())?;
            } else {
                output::line(url)?;
            }
            return Ok(());
        }
        private_file::write(&file, format!("{}\n", given.ticket.expose_secret()).as_bytes())?;
        if self.connect.json {
            let shown = json!({ "file": file, "expires_at": given.expires_at });
            return Ok(output::json(&shown.to_string())?);
        }
        output::line(file.display())?;
        output::error(format_args!("good until {}", given.expires_at));
        Ok(())
    }

    async fn revoke(self, client: &Client, id: &SessionId) -> anyhow::Result<()> {
        client.revoke_tickets(id, self.user.as_deref()).await?;
        // The API answers without a body.
        if !self.connect.json {
            let whose =
                self.user.map_or_else(|| "all tickets".to_owned(), |user| format!("all tickets of {user}"));
            output::line(format_args!("revoked {whose} for {id}"))?;
        }
        Ok(())
    }
}

fn object(text: &str) -> Result<Claims, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(claims)) => Ok(Claims(claims)),
        _ => Err("write a JSON object, such as {\"role\": \"editor\"}".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_an_object() {
        assert!(object("{\"a\": 1}").is_ok_and(|Claims(claims)| claims["a"] == 1));
        for text in ["", "[]", "1", "\"a\"", "{", "null"] {
            assert!(object(text).is_err(), "{text}");
        }
    }
}
