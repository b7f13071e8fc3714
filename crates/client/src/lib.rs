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
mod logs;
mod model;
mod request;
mod tickets;
mod tokens;
mod transport;

use bivouac_protocol::{BootId, IdempotencyKey, Key, LeaseName, Namespace, SessionId};
use futures::Stream;
use reqwest::Method;
use secrecy::SecretString;
use url::Url;

pub use error::{Error, Problem};
pub use events::Event;
pub use logs::{LogQuery, Output};
pub use model::{
    Alive, ListedMember, MemberList, ProxyUse, Session, SessionPage, Spawned, State, Template, TemplateList,
    Unreachable, Verdict,
};
pub use request::{Filter, LeaseLength, SpawnRequest};
pub use tickets::{GivenTicket, NewTicket};
pub use tokens::{GivenToken, NewToken, Rotation, TokenInfo, TokenList};
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
    /// Its node is unreachable: it is given up, and may run on until the node is back.
    Abandon,
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
        self.transport.send(self.spawning(request, wait)).await
    }

    /// Spawns a session without a key so that it may be repeated: the same `idempotency_key` and the same request lead to
    /// the same session, as it is by then, also if the first answer was lost.
    ///
    /// # Errors
    /// A [`Problem`] if the service refuses, with code `idempotency_key_reused` if the request is another one than before.
    pub async fn spawn_once(
        &self,
        request: &SpawnRequest,
        idempotency_key: &IdempotencyKey,
        wait: Wait,
    ) -> Result<Reply<Spawned>, Error> {
        let call = self.spawning(request, wait).header("idempotency-key", idempotency_key.as_str());
        self.transport.send(call).await
    }

    fn spawning(&self, request: &SpawnRequest, wait: Wait) -> reqwest::RequestBuilder {
        let mut url = self.transport.url(&["v1", "spawn"]);
        if wait == Wait::Ready {
            url.query_pairs_mut().append_pair("wait", "ready");
        }
        self.transport.patient(Method::POST, url).json(request)
    }

    /// Keeps a session alive for some time, or until some time, or renews that promise. What reaches beyond the
    /// session's lifetime is cut: the answer says until when the lease holds.
    ///
    /// # Errors
    /// A [`Problem`], with code `session_ended` or `session_stopping` if the session is not live any more.
    pub async fn lease(
        &self,
        id: &SessionId,
        name: &LeaseName,
        length: &LeaseLength,
    ) -> Result<Reply<Session>, Error> {
        let call = self.transport.request(Method::PUT, self.lease_url(id, name));
        self.transport.send(call.json(length)).await
    }

    /// Takes a lease back. Idempotent: where there is none, the session is returned as it is.
    ///
    /// # Errors
    /// A [`Problem`] if the service refuses.
    pub async fn release(&self, id: &SessionId, name: &LeaseName) -> Result<Reply<Session>, Error> {
        self.transport.send(self.transport.request(Method::DELETE, self.lease_url(id, name))).await
    }

    fn lease_url(&self, id: &SessionId, name: &LeaseName) -> Url {
        self.transport.url(&["v1", "sessions", id.as_str(), "leases", name.as_str()])
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
        match how {
            Stop::Graceful => {}
            Stop::Force => _ = url.query_pairs_mut().append_pair("force", "true"),
            Stop::Abandon => _ = url.query_pairs_mut().append_pair("abandon", "true"),
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

    /// Has a proxy accept nothing more, let what is open end by itself, and leave.
    ///
    /// # Errors
    /// A [`Problem`], with code `not_found` if there is no such member.
    pub async fn drain_member(&self, boot: &BootId) -> Result<Reply<ListedMember>, Error> {
        let url = self.transport.url(&["v1", "members", boot.as_str(), "drain"]);
        self.transport.send(self.transport.request(Method::POST, url)).await
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
