//! A log on its way to whoever reads it. A task of its own reads it, so that a client that takes nothing does not keep
//! its place among the readers, nor the connection to Nomad: the task ends whether or not the client ever asks for more.
//!
//! An answer that is cut short must not look like one that is complete: it ends with an error.

use std::io;
use std::time::Duration;

use axum::body::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Log;
use super::followers::Follower;

/// Pieces of a log that are read ahead of the client.
const AHEAD: usize = 4;
/// How long a client may take nothing before its place is given to others.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a task reads, and until when.
pub(super) struct Pump {
    /// What is sent.
    pub(super) log: Log,
    /// Resolves, with the cause, when the answer must end.
    pub(super) cut: BoxFuture<'static, &'static str>,
    /// Taken until the task ends.
    pub(super) place: Follower,
}

impl Pump {
    /// Begins to read; what is read is the body of the answer.
    pub(super) fn start(self) -> impl Stream<Item = io::Result<Bytes>> + Send {
        let (pieces, receiver) = mpsc::channel(AHEAD);
        let (end, ended) = oneshot::channel();
        tokio::spawn(async move {
            // Nobody hears it if the client has left.
            drop(end.send(self.run(pieces).await));
        });
        body(receiver, ended)
    }

    /// The error is told at the end of the answer, after what was read before it.
    async fn run(mut self, pieces: mpsc::Sender<Bytes>) -> io::Result<()> {
        let done = tokio::select! {
            biased;
            why = &mut self.cut => Err(io::Error::other(why)),
            () = pieces.closed() => return Ok(()),
            done = send(&mut self.log, &pieces) => done,
        };
        drop(self.place);
        if let Err(error) = &done {
            tracing::info!(%error, "A log that is being read breaks off.");
        }
        done
    }
}

async fn send(log: &mut Log, pieces: &mpsc::Sender<Bytes>) -> io::Result<()> {
    while let Some(piece) = log.next().await {
        let piece = piece.map_err(io::Error::other)?;
        match timeout(PATIENCE, pieces.send(piece)).await {
            Ok(Ok(())) => {}
            Ok(Err(_left)) => return Ok(()),
            Err(_elapsed) => return Err(io::Error::other("the client has stopped reading")),
        }
    }
    Ok(())
}

fn body(
    pieces: mpsc::Receiver<Bytes>,
    ended: oneshot::Receiver<io::Result<()>>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold(Some((pieces, ended)), async |reading| {
        let (mut pieces, ended) = reading?;
        if let Some(piece) = pieces.recv().await {
            return Some((Ok(piece), Some((pieces, ended))));
        }
        // A task that ended without a word did not come to the end either.
        let done = ended.await.unwrap_or_else(|_| Err(io::Error::other("the log was not read to its end")));
        done.err().map(|error| (Err(error), None))
    })
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use bivouac_protocol::SessionId;
    use futures::FutureExt;
    use prometheus_client::metrics::gauge::Gauge;

    use super::super::Followers;
    use super::*;

    const LINE: Bytes = Bytes::from_static(b"line\n");

    fn pump(log: Log, cut: BoxFuture<'static, &'static str>) -> (Pump, Gauge) {
        let readers = Gauge::default();
        let place = Followers::new(readers.clone());
        let place = place.admit(&SessionId::random(), &"ci".parse().unwrap()).unwrap();
        (Pump { log, cut, place }, readers)
    }

    fn endless() -> Log {
        stream::repeat_with(|| Ok(LINE)).boxed()
    }

    async fn all(body: impl Stream<Item = io::Result<Bytes>>) -> (usize, Option<String>) {
        let items: Vec<_> = body.collect().await;
        let failed = items.last().and_then(|last| last.as_ref().err()).map(ToString::to_string);
        (items.iter().filter(|item| item.is_ok()).count(), failed)
    }

    #[tokio::test]
    async fn what_is_read_to_its_end_ends_well() {
        let (pump, readers) = pump(stream::iter((0..20).map(|_| Ok(LINE))).boxed(), pending().boxed());
        assert_eq!(all(pump.start()).await, (20, None));
        assert_eq!(readers.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_loses_its_place() {
        let (pump, readers) = pump(endless(), pending().boxed());
        let body = pump.start();
        tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
        assert_eq!(readers.get(), 1);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(readers.get(), 0, "though it never asked");
        assert_eq!(all(body).await, (AHEAD, Some("the client has stopped reading".to_owned())));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_its_token_frees_the_place_of_a_client_that_takes_nothing() {
        for log in [endless(), stream::pending().boxed()] {
            let cut = tokio::time::sleep(Duration::from_secs(1)).map(|()| "the token ended").boxed();
            let (pump, readers) = pump(log, cut);
            let body = pump.start();
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!(readers.get(), 0);
            assert_eq!(all(body).await.1.as_deref(), Some("the token ended"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_frees_its_place_at_once_and_a_silent_log_does_not() {
        let (pump, readers) = pump(stream::pending().boxed(), pending().boxed());
        let body = pump.start();
        tokio::time::sleep(PATIENCE * 10).await;
        assert_eq!(readers.get(), 1, "it waits for the log, not the log for it");
        drop(body);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(readers.get(), 0);
    }
}
