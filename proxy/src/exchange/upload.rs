//! The request's way to the backend: its head, then its body, piece by piece as it comes.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use pingora_core::protocols::http::v1::server::HttpSession;

use crate::framing::Framing;
use crate::metrics::Metrics;
use crate::stream::Outlet;

/// Which side ended it early.
pub(super) enum UploadError {
    /// The client left, or its body cannot be read.
    Client(pingora_core::BError),
    /// The backend takes no more. It may have answered already.
    Backend(io::Error),
}

/// Sends what is in the outlet, the head, and the whole body after it. `complete` tells when it is done.
pub(super) async fn upload(
    request: &mut HttpSession,
    outlet: &mut Outlet,
    body: Framing,
    complete: &AtomicBool,
    metrics: &Metrics,
) -> Result<(), UploadError> {
    while !request.is_body_done() {
        let piece = {
            let mut reading = pin!(request.read_body_bytes());
            match futures::poll!(reading.as_mut()) {
                Poll::Ready(piece) => piece,
                Poll::Pending => {
                    outlet.flush().await.map_err(UploadError::Backend)?;
                    reading.await
                }
            }
        };
        if let Some(piece) = piece.map_err(UploadError::Client)? {
            outlet.send(body, &piece).await.map_err(UploadError::Backend)?;
            metrics.carried(piece.len() as u64, 0);
        }
    }
    body.end(outlet.buffer());
    outlet.flush().await.map_err(UploadError::Backend)?;
    complete.store(true, Ordering::Relaxed);
    Ok(())
}
