//! Counts what was asked and what was answered, by pattern and code: nothing that a caller writes becomes a label.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::problem::Problem;
use crate::metrics::Metrics;

/// The layer. It has to be inside of the one that renders problems.
pub(crate) async fn count(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    // Fallbacks have patterns of axum's own making.
    let route = matched.as_ref().map(MatchedPath::as_str).filter(|route| !route.contains("__private"));
    let status = response.status();
    let code = response.extensions().get::<Problem>().map_or(status.as_str(), |problem| problem.code());
    metrics.answered(route.unwrap_or("other"), code);
    response
}
