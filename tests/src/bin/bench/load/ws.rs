//! WebSockets, with frames written by hand: one kind of message, which the backend says back byte by byte.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bivouac_tests::guest::raw::read_head;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Aim, GRACE, get};
use crate::report::Times;

/// Where the backend echoes.
const PATH: &str = "/rest";
/// Bytes of a small message.
pub(crate) const SMALL: usize = 64;
/// How many are opened, or used, at the same time when there are many.
const AT_ONCE: usize = 64;

/// One that is open.
pub(crate) struct Socket {
    stream: TcpStream,
}

impl Socket {
    pub(crate) async fn open(aim: Aim<'_>) -> Result<Self> {
        let mut stream = TcpStream::connect(aim.address).await?;
        stream.set_nodelay(true)?;
        let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        stream.write_all(&get(aim.host, PATH, fields)).await?;
        let head = timeout(GRACE, read_head(&mut stream)).await.context("a handshake is not answered")??.0;
        ensure!(head.starts_with("HTTP/1.1 101 "), "answered with: {head}");
        Ok(Self { stream })
    }

    /// Sends a message of so many bytes and reads it back.
    pub(crate) async fn echo(&mut self, length: usize) -> Result<()> {
        let sent = frame(length);
        let mut got = vec![0; sent.len()];
        // At the same time: neither end can keep a long one in its buffers.
        let (mut reading, mut writing) = self.stream.split();
        let (wrote, read) = tokio::join!(writing.write_all(&sent), reading.read_exact(&mut got));
        wrote?;
        read?;
        ensure!(got == sent, "a message came back as another one");
        Ok(())
    }
}

/// Opens so many.
pub(crate) async fn open(aim: Aim<'_>, count: usize) -> Result<Vec<Socket>> {
    let mut sockets = Vec::with_capacity(count);
    while sockets.len() < count {
        let batch = AT_ONCE.min(count - sockets.len());
        sockets.extend(futures::future::try_join_all((0..batch).map(|_| Socket::open(aim))).await?);
    }
    Ok(sockets)
}

/// Sends one message over each.
pub(crate) async fn touch(sockets: &mut [Socket], length: usize) -> Result<()> {
    for batch in sockets.chunks_mut(AT_ONCE) {
        futures::future::try_join_all(batch.iter_mut().map(|socket| socket.echo(length))).await?;
    }
    Ok(())
}

/// Sends small messages over each of `count`, one at a time, as fast as they come back.
pub(crate) async fn echoes(aim: Aim<'_>, count: usize, during: Duration) -> Result<Times> {
    let sockets = open(aim, count).await?;
    let end = Instant::now() + during;
    let mut tasks = JoinSet::new();
    for mut socket in sockets {
        tasks.spawn(async move {
            let mut taken = Vec::new();
            while Instant::now() < end {
                let sent = Instant::now();
                socket.echo(SMALL).await?;
                taken.push(sent.elapsed());
            }
            anyhow::Ok(taken)
        });
    }
    let all = async {
        let mut times = Vec::new();
        while let Some(taken) = tasks.join_next().await {
            times.extend(taken??);
        }
        anyhow::Ok(times)
    };
    let times = timeout(during + GRACE, all).await.context("a message does not come back")??;
    Ok(times.into_iter().collect())
}

/// A binary message in one frame, masked as a client's has to be, with nothing.
fn frame(length: usize) -> Vec<u8> {
    let mut frame = vec![0x82];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length), _) if length < 126 => frame.push(0x80 | length),
        (_, Ok(length)) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.resize(frame.len() + length, b'x');
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_three_forms() {
        assert_eq!(frame(3), b"\x82\x83\0\0\0\0xxx");
        assert_eq!(&frame(200)[..8], [0x82, 0xfe, 0, 200, 0, 0, 0, 0]);
        assert_eq!(&frame(70_000)[..4], [0x82, 0xff, 0, 0]);
    }
}
