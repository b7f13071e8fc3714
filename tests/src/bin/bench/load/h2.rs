//! The same requests as streams of a few HTTP/2 connections.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::FutureExt;
use h2::client::SendRequest;
use http::Request;

use super::tls::{Dial, Trust};
use super::{Aim, Done, all};

/// Keeps `streams` busy on each of `connections`, over TLS.
pub(crate) async fn run(
    trust: &Trust,
    aim: Aim<'_>,
    (connections, streams): (usize, usize),
    during: Duration,
) -> Result<Done> {
    let dial = Dial::new(trust, aim, b"h2")?;
    let uri = format!("https://{}/", aim.host);
    let mut opened = Vec::new();
    for _ in 0..connections {
        let (send, connection) = h2::client::handshake(dial.connect().await?).await?;
        // It ends with the last of those who ask over it.
        tokio::spawn(connection);
        opened.extend(std::iter::repeat_n(send, streams));
    }
    let opened = std::sync::Mutex::new(opened);
    let task = |end| {
        let send = opened.lock().ok().and_then(|mut opened| opened.pop());
        let uri = uri.clone();
        async move { ask(send.context("a connection")?, &uri, end).await }.boxed()
    };
    all(connections * streams, during, task).await
}

async fn ask(mut send: SendRequest<Bytes>, uri: &str, end: Instant) -> Result<u64> {
    let mut requests = 0;
    while Instant::now() < end {
        send = send.ready().await?;
        let request = Request::get(uri).body(())?;
        let (response, _) = send.send_request(request, true)?;
        let response = response.await?;
        ensure!(response.status() == 200, "answered with {}", response.status());
        let mut body = response.into_body();
        while let Some(piece) = body.data().await {
            body.flow_control().release_capacity(piece?.len())?;
        }
        requests += 1;
    }
    Ok(requests)
}
