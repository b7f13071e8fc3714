//! A connection for each request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Aim, Done, all, answer, get};

/// Has `tasks` connect, ask once, and read to the end, over and over.
pub(crate) async fn run(aim: Aim<'_>, tasks: usize, during: Duration) -> Result<Done> {
    let (address, request) = (aim.address, Arc::<[u8]>::from(get(aim.host, "/", "Connection: close\r\n")));
    let task = |end| {
        let request = request.clone();
        async move {
            let mut buffer = [0; 4096];
            let mut requests = 0;
            while Instant::now() < end {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(&request).await?;
                answer(&mut stream, &mut buffer).await?;
                // The other end closes first, so that this one needs no port to rest on afterwards.
                ensure!(stream.read(&mut buffer).await? == 0, "a connection was not closed");
                requests += 1;
            }
            Ok(requests)
        }
        .boxed()
    };
    all(tasks, during, task).await
}
