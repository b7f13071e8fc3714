//! Bodies of 1 MiB, as fast as they come.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::FutureExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Aim, Done, all, answer, get};

/// Where the backend has it.
pub(crate) const PATH: &str = "/big";
/// How large it is, in bytes.
pub(crate) const SIZE: usize = 1 << 20;

/// Keeps `connections` busy; counts bodies.
pub(crate) async fn run(aim: Aim<'_>, connections: usize, during: Duration) -> Result<Done> {
    let (address, request) = (aim.address, Arc::<[u8]>::from(get(aim.host, PATH, "")));
    let task = |end| {
        let request = request.clone();
        async move {
            let mut stream = TcpStream::connect(address).await?;
            let mut buffer = vec![0; 128 << 10];
            let mut bodies = 0;
            while Instant::now() < end {
                stream.write_all(&request).await?;
                anyhow::ensure!(answer(&mut stream, &mut buffer).await? > SIZE, "a body was too short");
                bodies += 1;
            }
            Ok(bodies)
        }
        .boxed()
    };
    all(connections, during, task).await
}
