//! One task per link, from its upgrade to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use bivouac_protocol::link::{DEAD_AFTER, FromProxy, FromService, MAX_MESSAGE, PING_EVERY};
use bivouac_protocol::proof::LinkSecrets;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::handshake::{self, shake_hands};
use super::{LinkEvent, Peer, QUEUE};
use crate::session::LinkId;

/// What links need.
#[derive(Clone)]
pub(crate) struct Links {
    shared: Arc<Shared>,
}

struct Shared {
    secrets: LinkSecrets,
    replica: String,
    next: AtomicU64,
    tell: Box<dyn Fn(LinkEvent) + Send + Sync>,
    shutdown: CancellationToken,
}

impl Links {
    /// Links of this replica, whose events go to `tell`.
    pub(crate) fn new(
        secrets: LinkSecrets,
        replica: String,
        tell: impl Fn(LinkEvent) + Send + Sync + 'static,
        shutdown: CancellationToken,
    ) -> Self {
        let shared = Shared { secrets, replica, next: AtomicU64::new(1), tell: Box::new(tell), shutdown };
        Self { shared: Arc::new(shared) }
    }
}

/// The internal listener's routes.
pub(crate) fn router(links: Links) -> Router {
    Router::new().route("/v1/link", get(upgrade)).with_state(links)
}

async fn upgrade(State(links): State<Links>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.max_message_size(MAX_MESSAGE).on_upgrade(move |socket| serve(links, socket))
}

async fn serve(links: Links, mut socket: WebSocket) {
    let shared = &links.shared;
    let boot = match timeout(DEAD_AFTER, shake_hands(&mut socket, &shared.secrets, &shared.replica)).await {
        Ok(Ok(boot)) => boot,
        Ok(Err(refused)) => {
            tracing::warn!(%refused, "A link is refused.");
            let _ = handshake::send(&mut socket, &FromService::Refused { detail: refused.to_string() }).await;
            return;
        }
        Err(_) => return tracing::warn!("A link is refused: its handshake took too long."),
    };
    let link = LinkId(shared.next.fetch_add(1, Ordering::Relaxed));
    let (sender, outbox) = mpsc::channel(QUEUE);
    let close = CancellationToken::new();
    (shared.tell)(LinkEvent::Up { link, peer: Peer { boot, sender, close: close.clone(), leaving: false } });
    tokio::select! {
        () = carry(shared, link, &mut socket, outbox) => {}
        () = close.cancelled() => {}
        () = shared.shutdown.cancelled() => {}
    }
    (shared.tell)(LinkEvent::Down { link });
}

/// Carries messages until either end falls silent.
async fn carry(
    shared: &Shared,
    link: LinkId,
    socket: &mut WebSocket,
    mut outbox: mpsc::Receiver<FromService>,
) {
    let mut pings = interval(PING_EVERY);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            received = socket.recv() => match received {
                Some(Ok(Message::Text(text))) => {
                    heard = Instant::now();
                    match serde_json::from_str(&text) {
                        Ok(FromProxy::Ping) => {}
                        Ok(message) => (shared.tell)(LinkEvent::Said { link, message }),
                        Err(error) => return tracing::warn!(%error, "A proxy's message cannot be read; its link is closed."),
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => heard = Instant::now(),
                Some(Ok(_) | Err(_)) | None => return,
            },
            Some(message) = outbox.recv() => {
                // A proxy that does not read must not hold this task: its silence would not be noticed.
                if !matches!(timeout(DEAD_AFTER, handshake::send(socket, &message)).await, Ok(Ok(()))) {
                    return;
                }
            }
            _ = pings.tick() => {
                if !matches!(timeout(DEAD_AFTER, handshake::send(socket, &FromService::Ping)).await, Ok(Ok(()))) {
                    return;
                }
            }
            () = sleep_until(heard + DEAD_AFTER) => return,
        }
    }
}
