//! The first three messages of a link.

use axum::extract::ws::{Message, WebSocket};
use bivouac_protocol::BootId;
use bivouac_protocol::link::{FromProxy, FromService, VERSIONS, agree};
use bivouac_protocol::proof::{Challenge, End, LinkSecrets, Proof};

/// Why a link was refused: for both ends' logs.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("the proxy went away during the handshake")]
    Gone,
    #[error("the proxy said something else than the protocol expects")]
    Unexpected,
    #[error("the proxy speaks versions {0} to {1} of the link, this service {lowest} to {highest}: upgrade the older one", lowest = VERSIONS.0, highest = VERSIONS.1)]
    Version(u32, u32),
    #[error("the proxy does not know the link secret: give both the same one")]
    Secret,
}

/// Both ends prove that they know the secret; the proxy's boot is known afterwards.
pub(super) async fn shake_hands(
    socket: &mut WebSocket,
    secrets: &LinkSecrets,
    replica: &str,
) -> Result<BootId, Refused> {
    let FromProxy::Hello { versions, boot, challenge: theirs } = receive(socket).await? else {
        return Err(Refused::Unexpected);
    };
    let version = agree(versions).ok_or(Refused::Version(versions.0, versions.1))?;
    let ours = Challenge::random();
    let proof = Proof::make(secrets.first(), End::Service, &theirs, &ours);
    let welcome =
        FromService::Welcome { version, replica: replica.to_owned(), challenge: ours.clone(), proof };
    send(socket, &welcome).await.map_err(|()| Refused::Gone)?;
    let FromProxy::Proof { proof } = receive(socket).await? else { return Err(Refused::Unexpected) };
    secrets.proved(&proof, End::Proxy, &theirs, &ours).map(|_| boot).ok_or(Refused::Secret)
}

/// One message, as text.
pub(super) async fn send(socket: &mut WebSocket, message: &FromService) -> Result<(), ()> {
    let text = serde_json::to_string(message).map_err(drop)?;
    socket.send(Message::text(text)).await.map_err(drop)
}

async fn receive(socket: &mut WebSocket) -> Result<FromProxy, Refused> {
    loop {
        match socket.recv().await {
            Some(Ok(Message::Text(text))) => {
                return serde_json::from_str(&text).map_err(|_| Refused::Unexpected);
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(_)) => return Err(Refused::Unexpected),
            Some(Err(_)) | None => return Err(Refused::Gone),
        }
    }
}
