//! A backend of the shape that gRPC has (`GUEST_MODE=grpc`): HTTP/2 by prior knowledge, streams both ways, the outcome in
//! trailers. What it is asked is told by the path; anything else it tells back.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

/// Streams that it takes at once on a connection.
const STREAMS: u32 = 100;

/// Serves for ever.
pub(super) async fn serve(listener: TcpListener) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream));
        }
    }
}

async fn connection(stream: TcpStream) {
    let mut builder = h2::server::Builder::new();
    let Ok(mut wire) = builder.max_concurrent_streams(STREAMS).handshake::<_, Bytes>(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = wire.accept().await {
        if request.uri().path() == "/leave" {
            // The next request finds a connection whose end was announced.
            wire.graceful_shutdown();
        }
        tokio::spawn(async move {
            // A caller that has left needs no answer.
            let _ = answer(request, respond).await;
        });
    }
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/healthz" => whole(&mut respond, "text/plain", "ok"),
        "/unary" => unary(request, &mut respond).await,
        "/bidi" => bidi(request, &mut respond).await,
        "/none" => {
            let mut response = head("application/grpc");
            response.headers_mut().insert("grpc-status", HeaderValue::from_static("5"));
            respond.send_response(response, true).map(drop)
        }
        "/early" => {
            // Not a byte of the body is read.
            drop(request);
            whole(&mut respond, "text/plain", "early")
        }
        "/hints" => {
            let hints = Response::builder().status(103).header("link", "</style.css>; rel=preload");
            respond.send_informational(hints.body(()).unwrap_or_default())?;
            whole(&mut respond, "text/plain", "hinted")
        }
        "/breaks" => {
            let mut stream = respond.send_response(head("text/plain"), false)?;
            stream.send_data(Bytes::from_static(b"half of i"), false)?;
            // It has to be seen before the reset, which would overtake it.
            poll_fn(|cx| stream.poll_capacity(cx)).now_or_never();
            crate::elapse(Duration::from_millis(100)).await;
            stream.send_reset(Reason::INTERNAL_ERROR);
            Ok(())
        }
        _ => echo(request, &mut respond).await,
    }
}

fn head(kind: &'static str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn whole(respond: &mut SendResponse<Bytes>, kind: &'static str, text: &str) -> Result<(), h2::Error> {
    let mut stream = respond.send_response(head(kind), false)?;
    stream.send_data(Bytes::copy_from_slice(text.as_bytes()), true)
}

/// All of a body, and what came behind it.
async fn read(mut body: RecvStream) -> Result<(Vec<u8>, HeaderMap), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    Ok((bytes, body.trailers().await?.unwrap_or_default()))
}

/// Sends back what came, and behind it what came behind that, under other names.
async fn unary(request: Request<RecvStream>, respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    let (bytes, came) = read(request.into_body()).await?;
    let mut stream = respond.send_response(head("application/grpc"), false)?;
    pour(&mut stream, bytes.into()).await?;
    let mut trailers = outcome();
    for (name, value) in &came {
        if let Ok(name) = HeaderName::from_bytes(format!("came-{name}").as_bytes()) {
            trailers.append(name, value.clone());
        }
    }
    // What nobody may say but the proxy, or not there.
    trailers.insert("x-bivouac-user", HeaderValue::from_static("forged"));
    trailers.insert("set-cookie", HeaderValue::from_static("a=forged"));
    stream.send_trailers(trailers)
}

/// Sends each piece back as it comes.
async fn bidi(request: Request<RecvStream>, respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut stream = respond.send_response(head("application/grpc"), false)?;
    let mut body = request.into_body();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        pour(&mut stream, piece).await?;
    }
    stream.send_trailers(outcome())
}

fn outcome() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("grpc-message", HeaderValue::from_static("fine"));
    trailers
}

async fn pour(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        while stream.capacity() == 0 {
            match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(room) => drop(room?),
                None => return Ok(()),
            }
        }
        let part = data.split_to(stream.capacity().min(data.len()));
        stream.send_data(part, false)?;
    }
    Ok(())
}

/// Says what it was asked.
async fn echo(request: Request<RecvStream>, respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    let (parts, body) = request.into_parts();
    let ended_with_head = body.is_end_stream();
    let (bytes, trailers) = read(body).await?;
    let listed = |fields: &HeaderMap| -> Vec<(String, String)> {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        fields.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
    };
    let told = json!({
        "method": parts.method.as_str(),
        "authority": parts.uri.authority().map(|authority| authority.as_str()),
        "scheme": parts.uri.scheme_str(),
        "path": parts.uri.path_and_query().map(|path| path.as_str()),
        "fields": listed(&parts.headers),
        "trailers": listed(&trailers),
        "body": String::from_utf8_lossy(&bytes),
        "ended_with_head": ended_with_head,
        "pid": std::process::id(),
    });
    let mut stream = respond.send_response(head("application/json"), false)?;
    pour(&mut stream, told.to_string().into()).await?;
    stream.send_data(Bytes::new(), true)
}
