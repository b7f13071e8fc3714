//! A session as people name it on the command line: its id or its key.

use anyhow::Context;
use bivouac_client::{Client, Reply, Session};
use bivouac_protocol::{Key, Namespace, SessionId};

use crate::exit::NotFound;

/// Which session.
#[derive(clap::Args, Debug)]
#[group(skip)]
pub(crate) struct Args {
    /// The session: its id, or its key
    #[arg(value_name = "ID|KEY")]
    name: String,
    /// Namespace of the key
    #[arg(long, short, env = "BIVOUAC_NAMESPACE", default_value = "default")]
    namespace: Namespace,
}

impl Args {
    /// A session named by other arguments than these.
    pub(crate) fn new(name: String, namespace: Namespace) -> Self {
        Self { name, namespace }
    }

    /// Its name as that of a file: a key may have slashes.
    pub(crate) fn as_file(&self) -> String {
        self.name.replace('/', "_")
    }

    /// The session as the service knows it. What looks like an id may be a key as well: the id goes first.
    pub(crate) async fn find(&self, client: &Client) -> anyhow::Result<Reply<Session>> {
        if let Ok(id) = self.name.parse::<SessionId>() {
            match client.session(&id).await {
                Err(error) if error.is_not_found() => {}
                answer => return Ok(answer?),
            }
        }
        let key: Key =
            self.name.parse().with_context(|| format!("{:?} is neither an id nor a key", self.name))?;
        match client.session_of_key(&self.namespace, &key).await {
            Err(error) if error.code() == Some("session_unknown") => {
                let place = if self.namespace == Namespace::default() {
                    String::new()
                } else {
                    format!(" in namespace {}", self.namespace)
                };
                Err(NotFound(format!("no session has the id or key {:?}{place}", self.name)).into())
            }
            answer => Ok(answer?),
        }
    }
}
