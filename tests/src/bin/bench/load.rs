//! Loads: what is asked, over what, and how often. Each runs against one address at a time and says what it has come to.

pub(crate) mod bulk;
pub(crate) mod connect;
pub(crate) mod h2;
pub(crate) mod kept;
pub(crate) mod open;
pub(crate) mod tls;
pub(crate) mod ws;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How much longer than asked for the last answers may take.
const GRACE: Duration = Duration::from_secs(10);

/// Where a load goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aim<'a> {
    pub(crate) address: SocketAddr,
    /// Who is asked for there.
    pub(crate) host: &'a str,
}

/// What a load has come to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    /// Requests, or whatever else was asked for.
    pub(crate) count: u64,
    pub(crate) seconds: f64,
}

/// A GET of a path.
fn get(host: &str, path: &str, more: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n").into_bytes()
}

/// Runs so many of the same task until the end, and adds up what they count.
async fn all(
    tasks: usize,
    during: Duration,
    task: impl Fn(Instant) -> futures::future::BoxFuture<'static, Result<u64>>,
) -> Result<Done> {
    let started = Instant::now();
    let end = started + during;
    let mut running = JoinSet::new();
    for _ in 0..tasks {
        running.spawn(task(end));
    }
    let adding = async {
        let mut count = 0;
        while let Some(done) = running.join_next().await {
            count += done??;
        }
        anyhow::Ok(count)
    };
    let count = timeout(during + GRACE, adding).await.context("an answer does not come")??;
    ensure!(count > 0, "nothing was answered");
    Ok(Done { count, seconds: started.elapsed().as_secs_f64() })
}

/// Reads one answer with a `Content-Length` to its end; its whole length.
async fn answer(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> Result<usize> {
    let (mut filled, mut length) = (0, None);
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        ensure!(read > 0, "a connection was closed in the middle of an answer");
        filled += read;
        if length.is_none() {
            length = answer_length(&buffer[..filled])?;
        }
        let Some(length) = length else { continue };
        ensure!(filled <= length, "more was answered than asked for");
        if filled == length {
            return Ok(length);
        }
        if length > buffer.len() {
            return rest(stream, buffer, length - filled).await.map(|()| length);
        }
    }
}

/// Reads what is left of an answer that is longer than the buffer.
async fn rest(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8], mut left: usize) -> Result<()> {
    while left > 0 {
        let most = left.min(buffer.len());
        let read = stream.read(&mut buffer[..most]).await?;
        ensure!(read > 0, "a connection was closed in the middle of an answer");
        left -= read;
    }
    Ok(())
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
