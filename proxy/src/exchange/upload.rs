//! The request's way to the backend: its head, then its body, piece by piece as it comes.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::backend::ToBackend;
use super::course::Course;
use super::incoming::{BodyError, Incoming};
use super::pace::Bounds;
use super::reply::Piece;
use crate::framing::Framing;

/// Why it ended early.
pub(super) enum UploadError {
    /// The client left, or its body cannot be read.
    Client(BodyError),
    /// The body is longer than it may be.
    TooLarge,
    /// The body does not come.
    TooSlow,
    /// The backend takes no more. It may have answered already.
    Backend(io::Error),
}

type Read = Result<Option<Bytes>, BodyError>;

/// Sends the head, which was gathered, and the whole body after it.
pub(super) async fn upload(
    asked: &mut Incoming,
    to: &mut ToBackend,
    body: Framing,
    bounds: Bounds,
    course: &Course<'_>,
) -> Result<(), UploadError> {
    let sent = send(asked, to, body, bounds, course).await;
    course.to_backend.hush();
    sent
}

async fn send(
    asked: &mut Incoming,
    to: &mut ToBackend,
    body: Framing,
    mut bounds: Bounds,
    course: &Course<'_>,
) -> Result<(), UploadError> {
    // Without a body nothing may follow the head: a backend would read it as the next request.
    while body != Framing::Empty && !asked.is_over() {
        let piece = {
            let mut reading = pin!(asked.piece());
            match futures::poll!(reading.as_mut()) {
                Poll::Ready(piece) => piece,
                Poll::Pending => {
                    to.flush().await.map_err(UploadError::Backend)?;
                    course.to_backend.hush();
                    awaited(reading, &mut bounds).await?
                }
            }
        };
        let Some(piece) = piece.map_err(UploadError::Client)? else { break };
        let length = piece.len() as u64;
        if !bounds.admit(length) {
            return Err(UploadError::TooLarge);
        }
        course.to_backend.passes().await;
        to.send(body, Piece::Own(piece)).await.map_err(UploadError::Backend)?;
        course.carried(length, 0);
    }
    to.end(body, asked.trailers()).await.map_err(UploadError::Backend)?;
    course.uploaded.store(true, Ordering::Relaxed);
    Ok(())
}

/// Waits for the next piece for as long as the client's pace permits.
async fn awaited(
    reading: Pin<&mut impl Future<Output = Read>>,
    bounds: &mut Bounds,
) -> Result<Read, UploadError> {
    let Some(pace) = &mut bounds.pace else { return Ok(reading.await) };
    let since = Instant::now();
    let read = timeout(pace.patience(), reading).await.map_err(|_| UploadError::TooSlow)?;
    if let Ok(Some(piece)) = &read {
        pace.advance(piece.len() as u64, since.elapsed());
    }
    Ok(read)
}
