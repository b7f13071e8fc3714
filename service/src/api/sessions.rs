//! Spawn, look, list, stop.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as Reply;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bivouac_protocol::token::Verb;
use bivouac_protocol::{Access, SessionId};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use tokio::time::timeout;

use super::Control;
use super::auth::Caller;
use super::input::{Id, Json, Named, Query, idempotency_key, invalid};
use super::listing::{Listing, Page};
use super::problem::{Code, Problem, unknown_session};
use super::seen::Seen;
use super::tickets::{Given, USUAL};
use crate::session::view::{State as Phase, View};
use crate::session::{CommandError, Spawned};
use crate::spec::{Spec, request};
use crate::tickets::Holder;

/// The answer to a spawn: the session, and what this call did.
#[derive(Serialize)]
struct SpawnReply<'a> {
    #[serde(flatten)]
    session: &'a Seen,
    spawned: bool,
    /// Where the template wants one, or a user was named: for that user to enter. Said once, and kept nowhere.
    ticket: Option<String>,
    ticket_expires_at: Option<Timestamp>,
    ticket_url: Option<String>,
}

/// `POST /v1/spawn`
pub(crate) async fn spawn(
    State(control): State<Arc<Control>>,
    caller: Caller,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Json(body): Json,
) -> Result<Response, Problem> {
    let idempotency_key = idempotency_key(&headers)?;
    let wait = match Query::parse(query.as_deref(), &["wait"])?.one("wait")? {
        None => false,
        Some("ready") => true,
        Some(_) => return Err(invalid("wait", "must be \"ready\", or left out")),
    };
    let mut spec = permitted(&control, &caller, &body)?;
    if let Some(key) = idempotency_key {
        spec = spec.once(&control.secret, caller.name().as_str(), &key)?;
    }
    let ticketing = Ticketing::of(&mut spec, &caller)?;
    let sessions = control.sessions.clone();
    let (namespace, template) = (spec.namespace.clone(), spec.template.name.clone());
    let done = to_the_end_or_not(async move { sessions.spawn(spec).await }).await?;
    let Spawned { spawned, view } = done.map_err(|why| caller.discreetly(&namespace, why))?;
    // The repetition of a spawn whose session was ready once, and is over since: that is the answer.
    let was_ready = view.state >= Phase::Stopping && view.timeline.ready.is_some();
    let wait = wait && !was_ready;
    let view = if wait { until_decided(&control, view).await? } else { view };
    if view.template != template {
        // The run that was spawned is over, and the key's next one is another template's.
        return Err(caller.discreetly(&namespace, CommandError::OtherTemplate(view.template.to_string())));
    }
    let given = ticketing.issue(&control, &view)?;
    let view = caller.seen(&view);
    if wait && view.state >= Phase::Stopping {
        return Err(not_started(&view));
    }
    let status = if spawned { StatusCode::CREATED } else { StatusCode::OK };
    let location = [(header::LOCATION, format!("/v1/sessions/{}", view.id))];
    let (ticket, ticket_expires_at, ticket_url) = match given.map(Given::into_parts) {
        Some((ticket, end, url)) => (Some(ticket), Some(end), Some(url)),
        None => (None, None, None),
    };
    let reply = SpawnReply { session: &view, spawned, ticket, ticket_expires_at, ticket_url };
    Ok((status, location, Reply(reply)).into_response())
}

/// Whether, and for whom, a ticket goes with a spawn.
struct Ticketing(Option<Holder>);

impl Ticketing {
    /// Taken from the spawn: nothing of it is kept with the session.
    fn of(spec: &mut Spec, caller: &Caller) -> Result<Self, Problem> {
        let holder = Holder { user: spec.request.user.clone(), claims: spec.claims.take() };
        if holder.claims.is_some() {
            caller.require(Verb::Ticket, &spec.namespace, &spec.template.name)?;
        }
        let wanted =
            spec.template.rules.access == Access::Ticket || holder.user.is_some() || holder.claims.is_some();
        let may = caller.may(Verb::Ticket, &spec.namespace, &spec.template.name);
        Ok(Self((wanted && may).then_some(holder)))
    }

    fn issue(self, control: &Control, view: &View) -> Result<Option<Given>, Problem> {
        let given = self.0.map(|holder| Given::issue(control, (&view.id, &view.url), &holder, USUAL));
        given.transpose()
    }
}

/// Reads a spawn that the caller may ask for. Of templates that are none of its business it does not learn whether they
/// exist.
fn permitted(control: &Control, caller: &Caller, body: &[u8]) -> Result<Spec, Problem> {
    caller.require_verb(Verb::Spawn)?;
    let mut spec = request::parse(body, &control.templates, &control.secret, |namespace, template| {
        caller.require(Verb::Spawn, namespace, template)
    })?;
    spec.request.spawned_by = Some(caller.name().clone());
    Ok(spec)
}

/// Carries a command out even if its caller leaves: half a claim would have to be cleaned up by others.
pub(crate) async fn to_the_end<T: Send + 'static>(
    command: impl Future<Output = Result<T, CommandError>> + Send + 'static,
) -> Result<T, Problem> {
    Ok(to_the_end_or_not(command).await??)
}

async fn to_the_end_or_not<T: Send + 'static>(
    command: impl Future<Output = Result<T, CommandError>> + Send + 'static,
) -> Result<Result<T, CommandError>, Problem> {
    tokio::spawn(command).await.map_err(Problem::internal)
}

/// Added to the startup timeout, after which the session itself is given up, so that the caller hears of that.
const SLACK: Duration = Duration::from_secs(10);

/// Waits until the session is ready, or will not become so, be it because its key has a session of another template now.
pub(super) async fn until_decided(control: &Control, view: Arc<View>) -> Result<Arc<View>, Problem> {
    let id = view.id.clone();
    let Some(mut changes) = control.sessions.watch(&id) else { return Err(unknown_session()) };
    let decided = changes.wait_for(|now| {
        now.generation >= view.generation && (now.state >= Phase::Ready || now.template != view.template)
    });
    match timeout(view.policy.startup_timeout.get().saturating_add(SLACK), decided).await {
        Ok(Ok(decided)) => Ok(Arc::clone(&decided)),
        Ok(Err(_gone)) => Err(unknown_session()),
        Err(_elapsed) => Err(not_in_time(&id)),
    }
}

fn not_in_time(id: &SessionId) -> Problem {
    let detail = format!(
        "The session is still starting; GET /v1/sessions/{id} tells how far it is, and what it waits for."
    );
    Problem::new(Code::WaitTimeout, detail).with("session", json!(id))
}

fn not_started(view: &Seen) -> Problem {
    let reason = view.reason.as_ref();
    let code = reason.map_or("unknown", |reason| reason.code.as_str());
    let more = reason.and_then(|reason| reason.detail.as_deref()).map(|detail| format!(": {detail}"));
    let detail = format!(
        "The session ended before it was ready ({code}){}. Spawn it again once the cause is mended; if it came so far, \
         GET /v1/sessions/{}/logs has what it printed.",
        more.unwrap_or_default(),
        view.id
    );
    Problem::new(Code::StartFailed, detail).with("session", json!(view.id)).with("reason", json!(view.reason))
}

/// `GET /v1/sessions`
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Reply<Page>, Problem> {
    caller.require_verb(Verb::Read)?;
    let listing = Listing::parse(query.as_deref())?;
    let seen = control.sessions.list().into_iter().filter(|view| caller.sees(view)).collect();
    Ok(Reply(listing.page(seen, &caller)))
}

/// `GET /v1/sessions/{id}`
pub(crate) async fn get(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Id(id): Id,
) -> Result<Reply<Seen>, Problem> {
    let view = find(&control, &caller, Verb::Read, &id).await?;
    Ok(Reply(caller.seen(&view)))
}

/// `GET /v1/keys/{namespace}/{key}`
pub(crate) async fn by_key(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Named(namespace, key): Named,
) -> Result<Reply<Seen>, Problem> {
    caller.require_in(Verb::Read, &namespace)?;
    let id = SessionId::keyed(&control.secret, &namespace, &key);
    let view = find(&control, &caller, Verb::Read, &id).await?;
    Ok(Reply(caller.seen(&view)))
}

/// A session with which the caller may do this. One outside of its scope does not exist, as far as it is concerned.
pub(crate) async fn find(
    control: &Control,
    caller: &Caller,
    verb: Verb,
    id: &SessionId,
) -> Result<Arc<View>, Problem> {
    caller.require_verb(verb)?;
    let view = control.sessions.find(id).await?.ok_or_else(unknown_session)?;
    caller.require_on(verb, &view)?;
    Ok(view)
}

/// `DELETE /v1/sessions/{id}`
pub(crate) async fn stop(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Id(id): Id,
    RawQuery(query): RawQuery,
) -> Result<Reply<Seen>, Problem> {
    let query = Query::parse(query.as_deref(), &["force", "abandon"])?;
    let (force, abandon) = (query.flag("force")?, query.flag("abandon")?);
    if force && abandon {
        return Err(invalid("abandon", "is not for a process that can be killed: leave out \"force\""));
    }
    find(&control, &caller, Verb::Stop, &id).await?;
    let (sessions, permit) = (control.sessions.clone(), caller.permit(Verb::Stop));
    let command = async move {
        if abandon { sessions.abandon(&id, permit).await } else { sessions.stop(&id, force, permit).await }
    };
    let view = to_the_end(command).await?;
    caller.answer(Verb::Stop, &view).map(Reply)
}
