//! A typed client of Bivouac's own HTTP API (`/v1`).
//!
//! One method per call of the API. Every answer comes as a [`Reply`]: the typed value, and the JSON exactly as the
//! service sent it. Every refusal comes as a [`Problem`] with its stable code.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use bivouac_client::{Client, SpawnRequest, Wait};
//!
//! let client = Client::new("http://127.0.0.1:7070".parse()?, "token".to_owned().into())?;
//! let request = SpawnRequest { key: Some("doc-42".into()), ..SpawnRequest::new("whiteboard") };
//! let session = client.spawn(&request, Wait::Ready).await?.value.session;
//! println!("{} is {} at {}", session.id, session.state, session.url);
//! # Ok(())
//! # }
//! ```

mod error;
mod events;
mod model;
mod transport;

use bivouac_protocol::{BootId, Key, Namespace, SessionId};
use futures::Stream;
use reqwest::Method;
use secrecy::SecretString;
use url::Url;

pub use error::{Error, Problem};
pub use events::Event;
pub use model::{
    Alive, Filter, MemberList, ProxyUse, Session, SessionPage, SpawnRequest, Spawned, State, Template,
    TemplateList, Verdict,
};
use transport::Transport;

/// An answer of the API.
#[derive(Debug, Clone)]
pub struct Reply<T> {
    /// What it means.
    pub value: T,
    /// The JSON as it was received.
    pub json: String,
}

/// When a spawn answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// As soon as the claim is decided.
    Claimed,
    /// Once the session is ready, or has failed to become so.
    Ready,
}

/// How a session is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The backend gets its grace period.
    Graceful,
    /// It is killed at once.
    Force,
}

/// The client. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Transport,
}

impl Client {
    /// A client of the service at `base` ("http://127.0.0.1:7070"), which shows it `token`.
    ///
    /// # Errors
    /// If the address is not an http or https one, or TLS cannot be set up.
    pub fn new(base: Url, token: SecretString) -> Result<Self, Error> {
        Ok(Self { transport: Transport::new(base, token)? })
    }

    /// Spawns a session; with a key, gets or creates the key's one. With [`Wait::Ready`] there is no time limit here:
    /// the session's `startup_timeout` is the limit.
    ///
    /// # Errors
    /// A [`Problem`] if the service refuses, or the start failed while waiting for it.
    pub async fn spawn(&self, request: &SpawnRequest, wait: Wait) -> Result<Reply<Spawned>, Error> {
        let mut url = self.transport.url(&["v1", "spawn"]);
        if wait == Wait::Ready {
            url.query_pairs_mut().append_pair("wait", "ready");
        }
        self.transport.send(self.transport.patient(Method::POST, url).json(request)).await
    }

    /// One page of the sessions that the service knows, newest claim first.
    ///
    /// # Errors
    /// A [`Problem`] if the service refuses.
    pub async fn sessions(&self, filter: &Filter) -> Result<Reply<SessionPage>, Error> {
        let mut url = self.transport.url(&["v1", "sessions"]);
        for (name, value) in filter.pairs() {
            url.query_pairs_mut().append_pair(name, &value);
        }
        self.transport.send(self.transport.request(Method::GET, url)).await
    }

    /// One session.
    ///
    /// # Errors
    /// A [`Problem`], with code `session_unknown` if there is none.
    pub async fn session(&self, id: &SessionId) -> Result<Reply<Session>, Error> {
        let url = self.transport.url(&["v1", "sessions", id.as_str()]);
        self.transport.send(self.transport.request(Method::GET, url)).await
    }

    /// The session of a key.
    ///
    /// # Errors
    /// A [`Problem`], with code `session_unknown` if there is none.
    pub async fn session_of_key(&self, namespace: &Namespace, key: &Key) -> Result<Reply<Session>, Error> {
        let url = self.transport.url(&["v1", "keys", namespace.as_str(), key.as_str()]);
        self.transport.send(self.transport.request(Method::GET, url)).await
    }

    /// Stops a session. Idempotent: one that has ended is returned as it is.
    ///
    /// # Errors
    /// A [`Problem`] if the service refuses.
    pub async fn stop(&self, id: &SessionId, how: Stop) -> Result<Reply<Session>, Error> {
        let mut url = self.transport.url(&["v1", "sessions", id.as_str()]);
        if how == Stop::Force {
            url.query_pairs_mut().append_pair("force", "true");
        }
        self.transport.send(self.transport.request(Method::DELETE, url)).await
    }

    /// Follows one session, or all of them. The stream ends when the connection does; a new call begins with a new
    /// snapshot.
    ///
    /// # Errors
    /// A [`Problem`] if the service refuses; later failures are items of the stream.
    pub async fn events(
        &self,
        session: Option<&SessionId>,
    ) -> Result<impl Stream<Item = Result<Reply<Event>, Error>> + Send + use<>, Error> {
        let url = match session {
            Some(id) => self.transport.url(&["v1", "sessions", id.as_str(), "events"]),
            None => self.transport.url(&["v1", "events"]),
        };
        let request = self.transport.patient(Method::GET, url).header("accept", "text/event-stream");
        Ok(events::decode(self.transport.open(request).await?.bytes_stream()))
    }

    /// The templates that sessions can be spawned from.
    ///
    /// # Errors
    /// A [`Problem`] if the service refuses.
    pub async fn templates(&self) -> Result<Reply<TemplateList>, Error> {
        let url = self.transport.url(&["v1", "templates"]);
        self.transport.send(self.transport.request(Method::GET, url)).await
    }

    /// The proxies whose evidence is needed before a session is stopped for idleness.
    ///
    /// # Errors
    /// A [`Problem`] if the service refuses.
    pub async fn members(&self) -> Result<Reply<MemberList>, Error> {
        let url = self.transport.url(&["v1", "members"]);
        self.transport.send(self.transport.request(Method::GET, url)).await
    }

    /// Removes a member for good: its evidence is no longer waited for. Only right when its process is dead.
    ///
    /// # Errors
    /// A [`Problem`], with code `not_found` if there is no such member.
    pub async fn forget_member(&self, boot: &BootId) -> Result<(), Error> {
        let url = self.transport.url(&["v1", "members", boot.as_str()]);
        self.transport.open(self.transport.request(Method::DELETE, url)).await.map(drop)
    }
}
