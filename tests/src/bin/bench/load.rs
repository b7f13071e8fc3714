//! Small requests as fast as they are answered, over connections that are kept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How much longer than asked for the last answers may take.
const GRACE: Duration = Duration::from_secs(10);
/// Nothing that is asked for here is longer.
const LONGEST_ANSWER: usize = 8 << 10;

/// What a load has come to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
}

/// Keeps `connections` busy with requests for `host` at `address`. Every answer must be a 200.
pub(crate) async fn run(
    address: SocketAddr,
    host: &str,
    connections: usize,
    during: Duration,
) -> Result<Done> {
    let request: Arc<[u8]> = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes().into();
    let started = Instant::now();
    let end = started + during;
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        tasks.spawn(connection(address, request.clone(), end));
    }
    let all = async {
        let mut requests = 0;
        while let Some(done) = tasks.join_next().await {
            requests += done??;
        }
        anyhow::Ok(requests)
    };
    let requests = timeout(during + GRACE, all).await.context("an answer does not come")??;
    ensure!(requests > 0, "nothing was answered");
    Ok(Done { requests, seconds: started.elapsed().as_secs_f64() })
}

async fn connection(address: SocketAddr, request: Arc<[u8]>, end: Instant) -> Result<u64> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = [0; LONGEST_ANSWER];
    let mut requests = 0;
    while Instant::now() < end {
        stream.write_all(&request).await?;
        let mut filled = 0;
        let mut length = None;
        while length.is_none_or(|length| filled < length) {
            let read = stream.read(&mut buffer[filled..]).await?;
            ensure!(read > 0, "a kept connection was closed after {requests} requests");
            filled += read;
            if length.is_none() {
                length = answer_length(&buffer[..filled])?;
            }
        }
        ensure!(length == Some(filled), "more was answered than asked for");
        requests += 1;
    }
    Ok(requests)
}

/// The length of the whole answer, once its head is there.
fn answer_length(bytes: &[u8]) -> Result<Option<usize>> {
    const NAME: &[u8] = b"content-length:";
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    if !bytes.starts_with(b"HTTP/1.1 200 ") {
        bail!("answered with: {}", String::from_utf8_lossy(bytes));
    }
    let mut lines = bytes[..head].split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then(|| str::from_utf8(value).ok()?.trim().parse::<usize>().ok())?
    });
    let body = value.context("an answer without a Content-Length")?;
    Ok(Some(head + 4 + body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_answer_is_known_from_its_head() {
        let answer = b"HTTP/1.1 200 OK\r\nDate: now\r\ncontent-Length: 2\r\n\r\nok";
        assert_eq!(answer_length(answer).unwrap(), Some(answer.len()));
        assert_eq!(answer_length(&answer[..30]).unwrap(), None);
        assert!(answer_length(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").is_err());
        assert!(answer_length(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }
}
