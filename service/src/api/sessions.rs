//! Spawn, look, list, stop.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as Reply;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bivouac_protocol::SessionId;
use serde::Serialize;
use serde_json::json;
use tokio::time::timeout;

use super::Control;
use super::input::{Id, Json, Named, Query, invalid};
use super::listing::{Listing, Page};
use super::problem::{Code, Problem, unknown_session};
use crate::session::view::{State as Phase, View};
use crate::session::{CommandError, Spawned};
use crate::spec::request;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The answer to a spawn: the session, and what this call did.
#[derive(Serialize)]
struct SpawnReply<'a> {
    #[serde(flatten)]
    session: &'a View,
    spawned: bool,
    ticket: Option<String>,
    ticket_expires_at: Option<jiff::Timestamp>,
}

/// `POST /v1/spawn`
pub(crate) async fn spawn(
    State(control): State<Arc<Control>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Json(body): Json,
) -> Result<Response, Problem> {
    if headers.contains_key(&IDEMPOTENCY_KEY) {
        let detail = "The Idempotency-Key header is not supported yet: leave it out, and give the session a key to make \
                      the spawn safe to repeat.";
        return Err(Problem::new(Code::UnsupportedField, detail));
    }
    let wait = match Query::parse(query.as_deref(), &["wait"])?.one("wait")? {
        None => false,
        Some("ready") => true,
        Some(_) => return Err(invalid("wait", "must be \"ready\", or left out")),
    };
    let spec = request::parse(&body, &control.templates, &control.secret)?;
    let sessions = control.sessions.clone();
    let Spawned { spawned, view } = to_the_end(async move { sessions.spawn(spec).await }).await?;
    let view = if wait { until_ready(&control, view).await? } else { view };
    let status = if spawned { StatusCode::CREATED } else { StatusCode::OK };
    let location = [(header::LOCATION, format!("/v1/sessions/{}", view.id))];
    let reply = SpawnReply { session: &view, spawned, ticket: None, ticket_expires_at: None };
    Ok((status, location, Reply(reply)).into_response())
}

/// Carries a command out even if its caller leaves: half a claim would have to be cleaned up by others.
async fn to_the_end<T: Send + 'static>(
    command: impl Future<Output = Result<T, CommandError>> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::spawn(command).await {
        Ok(done) => Ok(done?),
        Err(error) => {
            Err(Problem::new(Code::Internal, "Try again; if it happens again, report the request id.")
                .because(error))
        }
    }
}

/// Added to the startup timeout, after which the session itself is given up, so that the caller hears of that.
const SLACK: Duration = Duration::from_secs(10);

/// Waits until the session is ready, or will not become so.
async fn until_ready(control: &Control, view: Arc<View>) -> Result<Arc<View>, Problem> {
    let id = view.id.clone();
    let Some(mut changes) = control.sessions.watch(&id) else { return Err(unknown_session()) };
    let decided = changes.wait_for(|now| now.generation >= view.generation && now.state >= Phase::Ready);
    let decided = match timeout(view.policy.startup_timeout.get().saturating_add(SLACK), decided).await {
        Ok(Ok(decided)) => Arc::clone(&decided),
        Ok(Err(_gone)) => return Err(unknown_session()),
        Err(_elapsed) => return Err(not_in_time(&id)),
    };
    match decided.state {
        Phase::Stopping | Phase::Ended => Err(not_started(&decided)),
        _ => Ok(decided),
    }
}

fn not_in_time(id: &SessionId) -> Problem {
    let detail = format!(
        "The session is still starting; GET /v1/sessions/{id} tells how far it is, and what it waits for."
    );
    Problem::new(Code::WaitTimeout, detail).with("session", json!(id))
}

fn not_started(view: &View) -> Problem {
    let reason = view.reason.as_ref();
    let code = reason.map_or("unknown", |reason| reason.code.as_str());
    let more = reason.and_then(|reason| reason.detail.as_deref()).map(|detail| format!(": {detail}"));
    let detail = format!("The session ended before it was ready ({code}){}", more.unwrap_or_default());
    Problem::new(Code::StartFailed, detail).with("session", json!(view.id)).with("reason", json!(view.reason))
}

/// `GET /v1/sessions`
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    RawQuery(query): RawQuery,
) -> Result<Reply<Page>, Problem> {
    Ok(Reply(Listing::parse(query.as_deref())?.page(control.sessions.list())))
}

/// `GET /v1/sessions/{id}`
pub(crate) async fn get(
    State(control): State<Arc<Control>>,
    Id(id): Id,
) -> Result<Reply<Arc<View>>, Problem> {
    find(&control, &id).await.map(Reply)
}

/// `GET /v1/keys/{namespace}/{key}`
pub(crate) async fn by_key(
    State(control): State<Arc<Control>>,
    Named(namespace, key): Named,
) -> Result<Reply<Arc<View>>, Problem> {
    find(&control, &SessionId::keyed(&control.secret, &namespace, &key)).await.map(Reply)
}

pub(crate) async fn find(control: &Control, id: &SessionId) -> Result<Arc<View>, Problem> {
    control.sessions.find(id).await?.ok_or_else(unknown_session)
}

/// `DELETE /v1/sessions/{id}`
pub(crate) async fn stop(
    State(control): State<Arc<Control>>,
    Id(id): Id,
    RawQuery(query): RawQuery,
) -> Result<Reply<Arc<View>>, Problem> {
    let force = match Query::parse(query.as_deref(), &["force"])?.one("force")? {
        None | Some("false") => false,
        Some("" | "true") => true,
        Some(_) => return Err(invalid("force", "must be true or false")),
    };
    let sessions = control.sessions.clone();
    to_the_end(async move { sessions.stop(&id, force).await }).await.map(Reply)
}
