//! Small requests as fast as they are answered, over connections that are kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::FutureExt;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Aim, Done, all, answer, get};

/// Nothing that is asked for here is longer.
const LONGEST_ANSWER: usize = 8 << 10;

/// Keeps `connections` busy. Every answer must be a 200.
pub(crate) async fn run(aim: Aim<'_>, connections: usize, during: Duration) -> Result<Done> {
    let (address, request) = (aim.address, Arc::<[u8]>::from(get(aim.host, "/", "")));
    let task = |end| {
        let request = request.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            ask(stream, &request, end).await
        }
        .boxed()
    };
    all(connections, during, task).await
}

/// Asks over one connection until the end; how often it was answered.
pub(super) async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
    end: Instant,
) -> Result<u64> {
    let mut buffer = [0; LONGEST_ANSWER];
    let mut requests = 0;
    while Instant::now() < end {
        stream.write_all(request).await?;
        answer(&mut stream, &mut buffer).await?;
        requests += 1;
    }
    Ok(requests)
}

/// Asks once over a connection of its own; when the request was sent, and when it was answered.
pub(crate) async fn once(aim: Aim<'_>) -> Result<(Timestamp, Timestamp)> {
    let mut stream = TcpStream::connect(aim.address).await?;
    stream.write_all(&get(aim.host, "/healthz", "")).await?;
    let sent = Timestamp::now();
    answer(&mut stream, &mut [0; LONGEST_ANSWER]).await?;
    Ok((sent, Timestamp::now()))
}
