//! For those who watch over the service: is it alive, can it serve, what has it counted.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::timeout;

use super::Control;
use super::problem::Problem;
use crate::spec::template;

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    checks: Vec<Check>,
}

/// One thing that should be well. What is not required is worth knowing, and no reason to send callers elsewhere: it is
/// the same on every replica.
#[derive(Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    required: bool,
    detail: String,
}

const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /livez`: it answers, so it lives.
pub(crate) async fn livez() -> Json<serde_json::Value> {
    Json(serde_json::json!({"alive": true}))
}

/// `GET /readyz`: JSON, or sentences for whoever asks for plain text first, as Consul's checks do.
pub(crate) async fn readyz(State(control): State<Arc<Control>>, headers: HeaderMap) -> Response {
    let (ledger, backend) = tokio::join!(ledger(&control), backend(&control));
    let checks = vec![ledger, backend, access(&control), templates(&control), draining(&control)];
    let ready = checks.iter().all(|check| check.ok || !check.required);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let readiness = Readiness { ready, checks };
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if accept.is_some_and(|accept| accept.starts_with("text/plain")) {
        return (status, readiness.sentences()).into_response();
    }
    (status, Json(readiness)).into_response()
}

impl Readiness {
    /// What an operator reads as the check's output in Consul: the verdict, then whatever is not as it should be.
    fn sentences(&self) -> String {
        let mut text = match self.ready {
            true => "Ready to spawn sessions.\n".to_owned(),
            false => "Not ready: spawns are refused here, running sessions are not affected.\n".to_owned(),
        };
        for check in self.checks.iter().filter(|check| !check.ok) {
            let weight = if check.required { "This is why" } else { "Beside that" };
            text.push_str(&format!("{weight}: {}: {}\n", check.name, check.detail));
        }
        text
    }
}

fn check(name: &'static str, required: bool, outcome: Result<&str, String>) -> Check {
    match outcome {
        Ok(detail) => Check { name, ok: true, required, detail: detail.to_owned() },
        Err(detail) => Check { name, ok: false, required, detail },
    }
}

async fn ledger(control: &Control) -> Check {
    let answer = match timeout(PATIENCE, control.members.read()).await {
        Ok(Ok(_)) => Ok("answers"),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_elapsed) => Err("does not answer".to_owned()),
    };
    check("ledger", true, answer)
}

async fn backend(control: &Control) -> Check {
    let answer = match timeout(PATIENCE, control.backend.health()).await {
        Ok(Ok(())) => Ok("answers"),
        Ok(Err(unavailable)) => Err(unavailable.to_string()),
        Err(_elapsed) => Err("does not answer".to_owned()),
    };
    check("backend", true, answer)
}

/// What Nomad and Consul make of our tokens and certificates. If it is all of it that they refuse, the checks above fail.
fn access(control: &Control) -> Check {
    let all = [control.members.access(), control.backend.access()];
    let told: Vec<_> = all.iter().flatten().filter_map(bivouac_access::Access::problem).collect();
    check("access", false, if told.is_empty() { Ok("nothing is refused") } else { Err(told.join(" ")) })
}

fn templates(control: &Control) -> Check {
    let found: Vec<_> = control
        .templates
        .iter()
        .filter_map(|template| template.problem().map(|problem| (template, problem)))
        .collect();
    // A broken template is broken on every replica; one that is not parsed yet is what makes *this* one refuse spawns.
    let pending = found.iter().any(|(_, problem)| matches!(problem, template::Problem::Pending(_)));
    let disabled = found.iter().map(|(template, problem)| format!("{}: {}", template.name, problem.detail()));
    let rejected = control.templates.rejected().into_iter().map(|(folder, why)| match &*folder {
        "" => why,
        _ => format!("{folder}: what is in its folder is not in force: {why}"),
    });
    let told: Vec<_> = disabled.chain(rejected).collect();
    check("templates", pending, if told.is_empty() { Ok("all can be used") } else { Err(told.join("; ")) })
}

fn draining(control: &Control) -> Check {
    let stopping = control.shutdown.is_cancelled();
    check(
        "running",
        true,
        if stopping { Err("the service is stopping".to_owned()) } else { Ok("not stopping") },
    )
}

/// `GET /metrics`
pub(crate) async fn metrics(State(control): State<Arc<Control>>) -> Result<Response, Problem> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &control.metrics).map_err(Problem::internal)?;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}
