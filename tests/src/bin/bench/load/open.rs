//! Requests at a fixed rate, whatever becomes of those before: how long each takes, counted from when it was due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use super::{Aim, GRACE, answer, get};
use crate::report::Times;

/// Asks `rate` times a second over `connections`, which take turns.
pub(crate) async fn run(aim: Aim<'_>, connections: u32, rate: f64, during: Duration) -> Result<Times> {
    let request = Arc::<[u8]>::from(get(aim.host, "/", ""));
    let every = Duration::from_secs_f64(f64::from(connections) / rate);
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..connections {
        let (address, request) = (aim.address, request.clone());
        let first = started + every.mul_f64(f64::from(number) / f64::from(connections));
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (mut due, mut taken, mut buffer) = (first, Vec::new(), [0; 8 << 10]);
            while due < started + during {
                // The runtime's clock has steps of a millisecond. Who wakes late is not the server's fault; who could
                // not go to sleep, because the last answer took too long, is.
                let from = if Instant::now() < due {
                    sleep_until(due.into()).await;
                    Instant::now()
                } else {
                    due
                };
                stream.write_all(&request).await?;
                answer(&mut stream, &mut buffer).await?;
                taken.push(from.elapsed());
                due += every;
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
    let times = timeout(during + GRACE, all).await.context("an answer does not come")??;
    Ok(times.into_iter().collect())
}
