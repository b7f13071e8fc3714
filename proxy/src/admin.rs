//! For operators and load balancers, on a listener of its own: is it alive, is it ready, what has it counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::activity::table::Table;
use crate::membership::Membership;

/// What is shown.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) table: Arc<Table>,
    pub(crate) membership: watch::Receiver<Membership>,
    /// The listener for session traffic is open.
    pub(crate) serving: Arc<AtomicBool>,
    /// The proxy stops.
    pub(crate) draining: CancellationToken,
}

/// The body of `/readyz`.
#[derive(Serialize)]
struct Readiness {
    ready: bool,
    checks: Checks,
}

#[derive(Serialize)]
struct Checks {
    /// Session traffic is accepted.
    serving: bool,
    /// The proxy stops: no new connections.
    draining: bool,
    /// Its evidence counts before a session is stopped. Without it, sessions are served on what is known.
    member: bool,
    /// Replicas of the service that it is linked to. Without any, sessions are served from records and directory.
    links: usize,
}

pub(crate) fn router(admin: Admin) -> Router {
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(admin)
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let checks = Checks {
        serving: admin.serving.load(Ordering::Relaxed),
        draining: admin.draining.is_cancelled(),
        member: admin.membership.borrow().epoch().is_some(),
        links: admin.table.outbox.up(),
    };
    let ready = checks.serving && !checks.draining;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, checks })).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.table.metrics.render() {
        Ok(text) => {
            let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, openmetrics)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
