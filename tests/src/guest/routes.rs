//! What the guest answers.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io::Write;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, Request};
use axum::http::StatusCode;
use axum::response::{Json, Response};
use axum::routing::{any, get, post};
use axum::{RequestExt, Router};
use futures::stream;
use serde_json::{Value, json};

/// How often a stream says something.
const CHUNK_EVERY: Duration = Duration::from_millis(100);

pub(super) fn router() -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/slow", any(slow))
        .route("/stream", get(stream_chunks))
        .route("/silence", get(begin_and_say_nothing))
        .route("/ws", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo_messages)))
        .route("/exit", any(exit))
        .route("/print", post(print))
        .route("/env", get(async || Json(std::env::vars().collect::<BTreeMap<_, _>>())))
        .route("/args", get(async || Json(std::env::args().skip(1).collect::<Vec<_>>())))
        .fallback(echo)
}

fn number(query: &HashMap<String, String>, name: &str) -> u64 {
    query.get(name).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Says what it was asked.
async fn echo(request: Request) -> Json<Value> {
    let (parts, body) = request.with_limited_body().into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in &parts.headers {
        headers.entry(name.to_string()).or_default().push(String::from_utf8_lossy(value.as_bytes()).into());
    }
    Json(json!({
        "method": parts.method.as_str(),
        "uri": parts.uri.to_string(),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
        "pid": std::process::id(),
        "session": std::env::var("BIVOUAC_SESSION_ID").ok(),
        "generation": std::env::var("BIVOUAC_GENERATION").ok(),
    }))
}

/// Answers after `ms`.
async fn slow(Query(query): Query<HashMap<String, String>>) -> String {
    crate::elapse(Duration::from_millis(number(&query, "ms"))).await;
    "slow".to_owned()
}

/// Sends a numbered line every 100 ms for `seconds`.
async fn stream_chunks(Query(query): Query<HashMap<String, String>>) -> Response {
    let chunks = number(&query, "seconds") * 10;
    let lines = stream::unfold(0u64, move |n| async move {
        if n >= chunks {
            return None;
        }
        crate::elapse(CHUNK_EVERY).await;
        Some((Ok::<_, Infallible>(Bytes::from(format!("{n}\n"))), n + 1))
    });
    Response::new(Body::from_stream(lines))
}

/// Begins an answer that never goes on.
async fn begin_and_say_nothing() -> Response {
    let first = stream::once(async { Ok::<_, Infallible>(Bytes::from_static(b"begun\n")) });
    Response::new(Body::from_stream(futures::StreamExt::chain(first, stream::pending())))
}

/// Sends every message back.
async fn echo_messages(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Prints the body, as it is: to standard output or, with `stream=stderr`, to standard error.
async fn print(Query(query): Query<HashMap<String, String>>, body: Bytes) -> StatusCode {
    let printed = match query.get("stream").map(String::as_str) {
        Some("stderr") => std::io::stderr().write_all(&body),
        _ => std::io::stdout().write_all(&body).and_then(|()| std::io::stdout().flush()),
    };
    if printed.is_ok() { StatusCode::NO_CONTENT } else { StatusCode::INTERNAL_SERVER_ERROR }
}

/// Ends the process with `code`, without an answer.
async fn exit(Query(query): Query<HashMap<String, String>>) {
    std::process::exit(i32::try_from(number(&query, "code")).unwrap_or(1));
}
