//! A reader that follows a session's log.

use std::pin::Pin;
use std::time::Duration;

use bivouac_tests::World;
use bivouac_tests::world::Session;
use futures::{Stream, StreamExt};
use reqwest::Method;

use super::{SOON, path};

/// Logs that are being followed.
pub(super) struct Following {
    pieces: Pin<Box<dyn Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
}

impl Following {
    pub(super) async fn of(world: &World, session: &Session, query: &str) -> Self {
        let path = path(session, &format!("follow=true&{query}"));
        let request = world.call(Method::GET, &path).timeout(Duration::from_secs(120));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
        Self { pieces: Box::pin(answer.bytes_stream()) }
    }

    /// The next bytes are these.
    pub(super) async fn shows(&mut self, expected: &str) {
        let mut seen = Vec::new();
        let read = tokio::time::timeout(SOON, async {
            while seen.len() < expected.len() {
                seen.extend_from_slice(&self.pieces.next().await.expect("it goes on").expect("more"));
            }
        });
        let read = read.await;
        assert!(read.is_ok() && seen == expected.as_bytes(), "{:?}", String::from_utf8_lossy(&seen));
    }

    /// All that is left, up to a proper end.
    pub(super) async fn rest(mut self) -> String {
        let mut seen = Vec::new();
        let read = async {
            while let Some(bytes) = self.pieces.next().await {
                seen.extend_from_slice(&bytes.expect("a proper end"));
            }
        };
        tokio::time::timeout(SOON, read).await.expect("it ends with its session");
        String::from_utf8_lossy(&seen).into_owned()
    }

    /// It breaks off: nobody could take what was read for all there is.
    pub(super) async fn breaks_off(mut self) {
        let end = tokio::time::timeout(SOON, self.pieces.next()).await.expect("an end");
        assert!(matches!(end, Some(Err(_))), "{end:?}");
    }
}
