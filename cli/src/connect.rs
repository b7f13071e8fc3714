//! How a client command reaches the service: flags, else environment, else the discovery file.

use std::path::PathBuf;

use anyhow::Context;
use bivouac_client::Client;
use secrecy::SecretString;
use url::Url;

use crate::ready_file::Bound;
use crate::{discovery, private_file};

/// Whom to ask, and how to print the answer.
#[derive(clap::Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Args {
    /// The service's API [default: what `bivouac dev` or `make cluster` left on this machine]
    #[arg(long, env = "BIVOUAC_ADDR", value_name = "URL")]
    addr: Option<String>,
    /// File that holds the API token (or set BIVOUAC_TOKEN to the token)
    #[arg(long, env = "BIVOUAC_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print the API's JSON exactly as it was received
    #[arg(long)]
    pub(crate) json: bool,
}

impl Args {
    /// The client.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let (url, token) = self.whom()?;
        Ok(Client::new(url, token?)?)
    }

    /// The address, and the token or why there is none.
    pub(crate) fn whom(&self) -> anyhow::Result<(Url, anyhow::Result<SecretString>)> {
        let found = discovery::read()?;
        let address = match (&self.addr, found.as_ref().and_then(|found| found.api.clone())) {
            (Some(given), _) => given.clone(),
            (None, Some(found)) => found,
            (None, None) => anyhow::bail!(
                "no service to ask: give --addr or BIVOUAC_ADDR, or start one with `bivouac dev`"
            ),
        };
        let url =
            with_scheme(&address).parse::<Url>().with_context(|| format!("{address} is not an address"))?;
        Ok((url, self.token(found)))
    }

    /// A token given by hand is never overridden; one of the discovery file is only for the address of that file, so
    /// that it is not sent to a stranger.
    fn token(&self, found: Option<Bound>) -> anyhow::Result<SecretString> {
        if let Some(file) = &self.token_file {
            return private_file::read_token(file);
        }
        if let Some(token) = std::env::var("BIVOUAC_TOKEN").ok().filter(|token| !token.is_empty()) {
            return Ok(token.into());
        }
        let same = |found: &Bound| match (&self.addr, &found.api) {
            (Some(given), Some(api)) => with_scheme(given).trim_end_matches('/') == api.trim_end_matches('/'),
            (None, _) => true,
            (Some(_), None) => false,
        };
        match found.filter(same) {
            Some(Bound { token: Some(token), .. }) => Ok(token.into()),
            Some(Bound { token_file: Some(file), .. }) => private_file::read_token(&file),
            _ => anyhow::bail!("no API token: give --token-file, or set BIVOUAC_TOKEN"),
        }
    }
}

fn with_scheme(address: &str) -> String {
    if address.contains("://") { address.to_owned() } else { format!("http://{address}") }
}
