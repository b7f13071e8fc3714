//! The proxies whose evidence is needed, for operators.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bivouac_protocol::member::{Member, RemovalCause};
use bivouac_protocol::token::Verb;
use jiff::Timestamp;
use serde::Serialize;

use super::Control;
use super::auth::Caller;
use super::input::{Boot, unknown_member};
use super::problem::Problem;

#[derive(Serialize)]
pub(crate) struct Listing {
    members: Vec<Listed>,
}

/// A member, and whether the replica that answers hears it.
#[derive(Serialize)]
pub(crate) struct Listed {
    #[serde(flatten)]
    member: Member,
    linked: bool,
}

/// `GET /v1/members`
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    caller: Caller,
) -> Result<Json<Listing>, Problem> {
    caller.require_verb(Verb::Members)?;
    let mut members = Vec::new();
    for member in control.members.list().await? {
        let linked = control.sessions.hears(&member.boot).await;
        members.push(Listed { member, linked });
    }
    Ok(Json(Listing { members }))
}

/// `DELETE /v1/members/{boot}`: an operator vouches that the proxy is dead.
pub(crate) async fn forget(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Boot(boot): Boot,
) -> Result<StatusCode, Problem> {
    caller.require_verb(Verb::Members)?;
    if !control.members.remove(&boot, RemovalCause::Forgotten, Timestamp::now()).await? {
        return Err(unknown_member());
    }
    tracing::info!(proxy.boot = %boot, by = %caller.name(), "An operator had a proxy forgotten.");
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/members/{boot}/drain`: the proxy accepts nothing more, lets what is open end by itself, and leaves.
pub(crate) async fn drain(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Boot(boot): Boot,
) -> Result<(StatusCode, Json<Listed>), Problem> {
    caller.require_verb(Verb::Members)?;
    let drained = control.members.drain(&boot, Timestamp::now()).await?;
    let member = drained.ok_or_else(unknown_member)?;
    tracing::info!(proxy.boot = %boot, by = %caller.name(), "An operator has a proxy drained.");
    let linked = control.sessions.hears(&boot).await;
    Ok((StatusCode::ACCEPTED, Json(Listed { member, linked })))
}
