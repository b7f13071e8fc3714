//! The proxies whose evidence is needed, for operators.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bivouac_protocol::member::{Member, RemovalCause};
use jiff::Timestamp;
use serde::Serialize;

use super::Control;
use super::input::{Boot, unknown_member};
use super::problem::Problem;

#[derive(Serialize)]
pub(crate) struct Listing {
    members: Vec<Listed>,
}

/// A member, and whether the replica that answers hears it.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    member: Member,
    linked: bool,
}

/// `GET /v1/members`
pub(crate) async fn list(State(control): State<Arc<Control>>) -> Result<Json<Listing>, Problem> {
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
    Boot(boot): Boot,
) -> Result<StatusCode, Problem> {
    if !control.members.remove(&boot, RemovalCause::Forgotten, Timestamp::now()).await? {
        return Err(unknown_member());
    }
    tracing::info!(proxy.boot = %boot, "An operator had a proxy forgotten.");
    Ok(StatusCode::NO_CONTENT)
}
