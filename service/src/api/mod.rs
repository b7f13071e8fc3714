//! The HTTP API: every route, and what a request passes on its way to one.
//!
//! ```text
//!  perimeter (request id, host, origin; renders problems) ─▶ panics ─▶ CORS ─┬─▶ livez, readyz, metrics
//!                                                                            └─▶ token ─▶ /v1/…
//! ```

mod auth;
mod counting;
mod events;
mod input;
mod leases;
mod listing;
mod logs;
mod members;
mod ops;
mod perimeter;
mod problem;
mod seen;
mod sessions;
mod templates;
mod tickets;
mod tokens;
mod ui;

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use bivouac_ledger::members::Members;
use prometheus_client::registry::Registry;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::backend::Backend;
use crate::metrics::Metrics;
use crate::session::Sessions;
use crate::spec::Templates;
use crate::tickets::Issuer;
pub use auth::{Bootstrap, BootstrapError, Tokens};
pub use logs::Followers;
pub use perimeter::Perimeter;
use problem::{Code, Problem};

/// All that the handlers use.
pub struct Control {
    /// The way in to the sessions.
    pub sessions: Sessions,
    /// What can be spawned.
    pub templates: Arc<Templates>,
    /// The member proxies.
    pub members: Members,
    /// For its health.
    pub backend: Arc<dyn Backend>,
    /// Who may call.
    pub tokens: Arc<Tokens>,
    /// The cluster secret: ids of keyed sessions follow from it.
    pub secret: SecretString,
    /// Signs tickets.
    pub issuer: Arc<Issuer>,
    /// What `/metrics` shows.
    pub metrics: Arc<Registry>,
    /// Where requests are counted.
    pub counted: Arc<Metrics>,
    /// Who reads logs.
    pub followers: Followers,
    /// Cancelled when the service drains: event streams end, `/readyz` says no.
    pub shutdown: CancellationToken,
}

/// The API.
pub fn router(control: Arc<Control>, perimeter: Perimeter) -> Router {
    let v1 = Router::new()
        .route("/spawn", post(sessions::spawn))
        .route("/sessions", get(sessions::list))
        .route("/sessions/{id}", get(sessions::get).delete(sessions::stop))
        .route("/sessions/{id}/events", get(events::one))
        .route("/sessions/{id}/logs", get(logs::read))
        .route("/sessions/{id}/leases/{name}", put(leases::put).delete(leases::delete))
        .route("/sessions/{id}/tickets", post(tickets::issue).delete(tickets::revoke))
        .route("/keys/{namespace}/{*key}", get(sessions::by_key))
        .route("/events", get(events::all))
        .route("/templates", get(templates::list))
        .route("/members", get(members::list))
        .route("/members/{boot}", delete(members::forget))
        .route("/members/{boot}/drain", post(members::drain))
        .route("/tokens", get(tokens::list).post(tokens::create))
        .route("/tokens/{name}", delete(tokens::revoke))
        .route("/tokens/{name}/rotate", post(tokens::rotate))
        .route("/caller", get(tokens::caller))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(from_fn_with_state(Arc::clone(&control.tokens), auth::require));
    Router::new()
        .route("/livez", get(ops::livez))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics))
        .route("/ui", get(ui::page))
        .method_not_allowed_fallback(method_not_allowed)
        .nest("/v1", v1)
        .fallback(not_found)
        .layer(from_fn_with_state(Arc::clone(&control.counted), counting::count))
        .layer(cors(&perimeter))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::new(perimeter), perimeter::pass))
        .with_state(control)
}

/// For pages of the listed origins; all others were refused before.
fn cors(perimeter: &Perimeter) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(perimeter.origins().iter().cloned()))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, input::IDEMPOTENCY_KEY])
}

async fn not_found() -> Problem {
    Problem::new(Code::NotFound, "No resource of the API has this path.")
}

async fn method_not_allowed() -> Problem {
    Problem::new(Code::MethodNotAllowed, "The `Allow` header lists the methods of this resource.")
}

fn panicked(payload: Box<dyn std::any::Any + Send>) -> Response {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let cause = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
    Problem::internal(cause).into_response()
}

#[cfg(test)]
mod tests;
