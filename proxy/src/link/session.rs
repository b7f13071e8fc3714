//! One link: handshake, full state both ways, then messages until either end falls silent.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bivouac_protocol::BootId;
use bivouac_protocol::link::{DEAD_AFTER, FromProxy, FromService, MAX_MESSAGE, PING_EVERY, VERSIONS, agree};
use bivouac_protocol::proof::{Challenge, End, Proof};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

use super::Parts;
use super::dispatch::Hearing;
use super::outbox::Queue;
use crate::activity::clock::Clock;
use crate::activity::table::Table;

/// Longest time for connection and handshake together.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

type Socket = WebSocketStream<TcpStream>;

/// Why a link ended, or never began.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    #[error(transparent)]
    WebSocket(#[from] tungstenite::Error),
    #[error("a message cannot be read or written: {0}")]
    Message(#[from] serde_json::Error),
    #[error("silence for too long")]
    Silence,
    #[error("the replica closed the link")]
    Closed,
    #[error("this proxy closed the link: its queue is full, or it is another boot now")]
    Dropped,
    #[error("the replica says: {0}")]
    Refused(String),
    #[error("the replica does not know the link secret")]
    Secret,
    #[error("the replica says something else than the protocol expects: {0}")]
    Unexpected(&'static str),
}

/// Runs one link to its end: whether it was up, and why it ended. Fences that it left behind are lifted.
pub(super) async fn run(parts: &Arc<Parts>, address: SocketAddr, boot: &BootId) -> (bool, LinkError) {
    let connected = async {
        let mut socket = connect(address).await?;
        shake_hands(parts, &mut socket, boot).await?;
        Ok(socket)
    };
    let socket = match timeout(CONNECT_WITHIN, connected).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return (false, error),
        Err(_) => return (false, LinkError::Silence),
    };
    let queue = parts.table.outbox.open();
    if parts.membership.borrow().boot() != Some(boot) {
        // It became another boot during the handshake, before this queue was there to be closed.
        parts.table.outbox.remove(queue.id);
        return (false, LinkError::Dropped);
    }
    let mut hearing = Hearing::new(parts.clone(), queue.id);
    let (id, closed) = (queue.id, queue.closed.clone());
    let (sink, stream) = socket.split();
    let Err(error) = tokio::select! {
        ended = speak(&parts.table, sink, queue) => ended,
        ended = listen(&mut hearing, stream, parts.table.clock) => ended,
        () = closed.cancelled() => Err(LinkError::Dropped),
    };
    parts.table.outbox.remove(id);
    (hearing.end(), error)
}

async fn connect(address: SocketAddr) -> Result<Socket, LinkError> {
    let stream = TcpStream::connect(address).await?;
    if stream.local_addr()? == address {
        // The port of a dead replica can be given to our own end; TCP then connects it to itself, and as long as that
        // lasts the replica could not come back.
        return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
    }
    stream.set_nodelay(true)?;
    let limits =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let url = format!("ws://{address}/v1/link");
    let (socket, _) = tokio_tungstenite::client_async_with_config(url, stream, Some(limits)).await?;
    Ok(socket)
}

/// Both ends prove that they know the secret.
async fn shake_hands(parts: &Parts, socket: &mut Socket, boot: &BootId) -> Result<(), LinkError> {
    let ours = Challenge::random();
    let hello = FromProxy::Hello { versions: VERSIONS, boot: boot.clone(), challenge: ours.clone() };
    socket.send(text(&hello)?).await?;
    let (theirs, proof) = match receive(socket).await? {
        FromService::Welcome { version, challenge, proof, .. } if agree((version, version)).is_some() => {
            (challenge, proof)
        }
        FromService::Refused { detail } => return Err(LinkError::Refused(detail)),
        _ => return Err(LinkError::Unexpected("no welcome in a version that this proxy speaks")),
    };
    // With the one that the replica has shown to know: during a rotation it may not know the other.
    let known = parts.secrets.proved(&proof, End::Service, &ours, &theirs).ok_or(LinkError::Secret)?;
    let proof = Proof::make(known, End::Proxy, &ours, &theirs);
    socket.send(text(&FromProxy::Proof { proof })?).await?;
    Ok(())
}

/// Tells the full state, then whatever is queued; a ping each second.
async fn speak(
    table: &Table,
    mut sink: SplitSink<Socket, Message>,
    mut queue: Queue,
) -> Result<Infallible, LinkError> {
    for activity in table.full_state() {
        send(&mut sink, &FromProxy::Activity(activity)).await?;
    }
    send(&mut sink, &FromProxy::StateEnd).await?;
    let mut pings = interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = queue.messages.recv() => match message {
                Some(message) => batch(&mut sink, message, &mut queue.messages).await?,
                None => return Err(LinkError::Dropped),
            },
            _ = pings.tick() => send(&mut sink, &FromProxy::Ping).await?,
        }
        timeout(DEAD_AFTER, sink.flush()).await.map_err(|_| LinkError::Silence)??;
    }
}

/// What has gathered in the queue goes out with one write.
async fn batch(
    sink: &mut SplitSink<Socket, Message>,
    first: FromProxy,
    rest: &mut mpsc::Receiver<FromProxy>,
) -> Result<(), LinkError> {
    send(sink, &first).await?;
    while let Ok(message) = rest.try_recv() {
        send(sink, &message).await?;
    }
    Ok(())
}

/// Puts it into the socket's buffer. A replica that does not read is as good as silent.
async fn send(sink: &mut SplitSink<Socket, Message>, message: &FromProxy) -> Result<(), LinkError> {
    let message = text(message)?;
    timeout(DEAD_AFTER, sink.feed(message)).await.map_err(|_| LinkError::Silence)??;
    Ok(())
}

async fn listen(
    hearing: &mut Hearing,
    mut stream: SplitStream<Socket>,
    clock: Clock,
) -> Result<Infallible, LinkError> {
    let mut heard = clock.now();
    loop {
        let message = timeout(DEAD_AFTER, receive(&mut stream)).await.map_err(|_| LinkError::Silence)??;
        let now = clock.now();
        if now.saturating_sub(heard) > DEAD_AFTER {
            // This process was suspended: what has gathered in the socket meanwhile is news of yesterday.
            return Err(LinkError::Silence);
        }
        heard = now;
        hearing.hear(message)?;
    }
}

async fn receive<S>(stream: &mut S) -> Result<FromService, LinkError>
where
    S: futures::Stream<Item = Result<Message, tungstenite::Error>> + Unpin,
{
    loop {
        match stream.next().await {
            Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text)?),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(_))) | None => return Err(LinkError::Closed),
            Some(Ok(_)) => return Err(LinkError::Unexpected("a message that is not text")),
            Some(Err(error)) => return Err(error.into()),
        }
    }
}

fn text(message: &FromProxy) -> Result<Message, LinkError> {
    Ok(Message::text(serde_json::to_string(message)?))
}
