//! Server-sent events: a snapshot, then changes. Nothing is kept to resume from, so whoever reconnects is told to start
//! over, and so is whoever reads too slowly.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use bivouac_protocol::token::Verb;
use futures::{Stream, StreamExt, stream};
use serde::Serialize;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::Control;
use super::auth::Caller;
use super::input::Id;
use super::problem::{Problem, unknown_session};
use super::sessions::find;
use crate::session::Sessions;
use crate::session::view::View;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Shorter than the idle timeouts that load balancers come with.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /v1/events`
pub(crate) async fn all(
    State(control): State<Arc<Control>>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    caller.require_verb(Verb::Read)?;
    let resumed = headers.contains_key(&LAST_EVENT_ID);
    let follower = AllSessions::new(control.sessions.clone(), caller.clone(), resumed);
    let events = stream::unfold(follower, async |mut follower| Some((follower.next().await?, follower)));
    Ok(serve(control.shutdown.clone(), caller, events))
}

/// `GET /v1/sessions/{id}/events`
pub(crate) async fn one(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    find(&control, &caller, Verb::Read, &id).await?;
    let changes = control.sessions.watch(&id).ok_or_else(unknown_session)?;
    let follower = OneSession::new(changes, caller.clone(), headers.contains_key(&LAST_EVENT_ID));
    let events = stream::unfold(follower, async |mut follower| Some((follower.next().await?, follower)));
    Ok(serve(control.shutdown.clone(), caller, events))
}

/// Serves a stream until its end, or that of the service (a drain must not wait for readers who never leave), or that of
/// the caller's token.
fn serve<S: Stream<Item = Event> + Send + 'static>(
    shutdown: CancellationToken,
    caller: Caller,
    events: S,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + Send + use<S>> {
    let events = events.map(Ok).take_until(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = caller.over() => {}
        }
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive"))
}

/// Numbers events. The numbers mean nothing to us; a client that sends one back has missed something.
#[derive(Default)]
struct Numbered {
    last: u64,
}

impl Numbered {
    fn event(&mut self, name: &str, data: &impl Serialize) -> Event {
        self.last += 1;
        let data = serde_json::to_string(data).unwrap_or_else(|_| "{}".to_owned());
        Event::default().id(self.last.to_string()).event(name).data(data)
    }
}

struct AllSessions {
    sessions: Sessions,
    caller: Caller,
    changes: broadcast::Receiver<Arc<View>>,
    numbered: Numbered,
    pending: VecDeque<Event>,
}

impl AllSessions {
    fn new(sessions: Sessions, caller: Caller, resumed: bool) -> Self {
        let changes = sessions.changes();
        let mut follower =
            Self { sessions, caller, changes, numbered: Numbered::default(), pending: VecDeque::new() };
        follower.start(resumed);
        follower
    }

    /// Subscribes first and lists then, so that no change falls in between.
    fn start(&mut self, reset: bool) {
        self.changes = self.sessions.changes();
        if reset {
            self.pending.push_back(self.numbered.event("reset", &json!({})));
        }
        let sessions = self.sessions.list().into_iter().filter(|view| self.caller.sees(view));
        let sessions: Vec<_> = sessions.map(|view| self.caller.seen(&view)).collect();
        self.pending.push_back(self.numbered.event("snapshot", &json!({"sessions": sessions})));
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            match self.changes.recv().await {
                Ok(view) if !self.caller.sees(&view) => {}
                Ok(view) => return Some(self.numbered.event("session", &self.caller.seen(&view))),
                Err(RecvError::Lagged(_)) => self.start(true),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

struct OneSession {
    changes: watch::Receiver<Arc<View>>,
    caller: Caller,
    numbered: Numbered,
    reset: bool,
    begun: bool,
}

impl OneSession {
    fn new(changes: watch::Receiver<Arc<View>>, caller: Caller, resumed: bool) -> Self {
        Self { changes, caller, numbered: Numbered::default(), reset: resumed, begun: false }
    }

    /// `None` once the session's record was purged, or its key was spawned from a template that the caller may not see.
    async fn next(&mut self) -> Option<Event> {
        if std::mem::take(&mut self.reset) {
            return Some(self.numbered.event("reset", &json!({})));
        }
        let name = if self.begun { "session" } else { "snapshot" };
        if self.begun {
            self.changes.changed().await.ok()?;
        }
        self.begun = true;
        let view = Arc::clone(&self.changes.borrow_and_update());
        if !self.caller.sees(&view) {
            return None;
        }
        Some(self.numbered.event(name, &self.caller.seen(&view)))
    }
}
