//! What `bivouac dev` says once it serves: what to open, and how to do the same by hand.

use bivouac_protocol::{Namespace, SessionId};
use owo_colors::OwoColorize;
use secrecy::SecretString;

use super::home::Home;
use crate::output;
use crate::ready_file::Bound;

/// Key of the session that the example spawns.
const EXAMPLE_KEY: &str = "hello";

/// What it tells of.
pub(super) struct Banner<'a> {
    pub(super) bound: &'a Bound,
    pub(super) home: &'a Home,
    /// The session that is there already.
    pub(super) open: Option<String>,
    /// A template to spawn from.
    pub(super) example: Option<&'a str>,
    /// Domain and port of the session hostnames.
    pub(super) domain: &'a str,
    /// Tells the URL of a key before it is spawned.
    pub(super) secret: &'a SecretString,
}

impl Banner<'_> {
    pub(super) fn print(&self) -> anyhow::Result<()> {
        let api = self.bound.api.as_deref().unwrap_or_default();
        let file = self.home.token_file.display();
        output::line("")?;
        output::line(format_args!("  {} {}", "bivouac dev".bold(), env!("CARGO_PKG_VERSION").dimmed()))?;
        output::line("")?;
        if let Some(url) = &self.open {
            output::line(format_args!("  {}   {}", "Open ".dimmed(), url.green().bold()))?;
            output::line(
                "          in two windows, draw, close both: half a minute later its process is gone;",
            )?;
            output::line("          open it again, and it is back")?;
        }
        output::line(format_args!("  {}   {api}", "API  ".dimmed()))?;
        output::line(format_args!("  {}   {api}/ui", "Look ".dimmed()))?;
        output::line(format_args!("  {}   {file}", "Token".dimmed()))?;
        if let Some(template) = self.example {
            self.print_example(api, template)?;
        }
        output::line("")?;
        output::line(format_args!("  {}", "Ctrl-C ends it, and every session with it.".dimmed()))?;
        output::line("")?;
        Ok(())
    }

    /// The three lines that spawn, use and inspect a session.
    fn print_example(&self, api: &str, template: &str) -> anyhow::Result<()> {
        let id = SessionId::keyed(self.secret, &Namespace::default(), &EXAMPLE_KEY.parse()?);
        let token = format!("-H \"Authorization: Bearer $(cat '{}')\"", self.home.token_file.display());
        let body = format!("{{\"template\": \"{template}\", \"key\": \"{EXAMPLE_KEY}\"}}");
        output::line("")?;
        output::line(format_args!("  {}", "Spawn, use and inspect one by hand:".dimmed()))?;
        output::line("")?;
        output::line(format_args!(
            "    curl -s {token} -H 'Content-Type: application/json' -d '{body}' '{api}/v1/spawn?wait=ready'"
        ))?;
        output::line(format_args!("    curl -s http://{id}.{}/", self.domain))?;
        output::line(format_args!("    curl -s {token} {api}/v1/keys/default/{EXAMPLE_KEY}"))?;
        output::line("")?;
        let short = format!("bivouac spawn {template} --key {EXAMPLE_KEY}");
        output::line(format_args!("  or shorter: {}, {}", short.bold(), "bivouac status hello".bold()))?;
        Ok(())
    }
}
