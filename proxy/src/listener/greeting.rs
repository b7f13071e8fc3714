//! The first words of a connection: who it is from, whether in TLS, and which HTTP is spoken.
//!
//! PROXY header → TLS → protocol. Nothing here has a buffer before the client has said something.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::Gateway;
use super::places::{Full, Place};
use super::proxy_protocol::{self, Introduction};
use super::tls::Handshake;
use crate::metrics::TurnedAway;
use crate::stream::Socket;
use crate::visitor::{Visitor, is_within};
use crate::{connection, h2};

/// What a client says first that speaks HTTP/2 without having agreed on it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Room for a first read: most heads fit.
const FIRST_READ: usize = 4096;

/// Somebody who has connected.
pub(super) struct Arrival {
    pub(super) stream: TcpStream,
    pub(super) peer: IpAddr,
    pub(super) place: Place,
    /// Where TLS is spoken.
    pub(super) handshake: Option<Handshake>,
}

/// Which protocol a client speaks, by its first bytes. Pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Http1,
    Http2,
    /// Too little has come to tell.
    Undecided,
}

impl Spoken {
    fn in_(first: &[u8]) -> Self {
        match first.len().min(PREFACE.len()) {
            0 => Self::Undecided,
            known if first.get(..known) != PREFACE.get(..known) => Self::Http1,
            known if known < PREFACE.len() => Self::Undecided,
            _ => Self::Http2,
        }
    }
}

/// Serves whoever has connected, to the connection's end.
pub(super) async fn welcome(gateway: Arc<Gateway>, arrival: Arrival) {
    let Arrival { stream, peer, place, handshake } = arrival;
    let announced = is_within(&gateway.proxy_protocol_from, peer);
    if handshake.is_none() && !announced {
        let unannounced = Introduction { client: None, secure: false };
        let Some(visitor) = seat(&gateway, place, peer, unannounced) else { return };
        return hear(gateway, Socket::plain(stream), visitor, Duration::ZERO).await;
    }
    // Apart, because most connections have neither.
    Box::pin(async move {
        let begun = Instant::now();
        let Some((socket, visitor, http2)) = introduce(&gateway, stream, place, peer, handshake, begun).await
        else {
            return;
        };
        match http2 {
            Some(true) => h2::run(gateway, socket, visitor, BytesMut::new()).await,
            // Within TLS, HTTP/2 is spoken by agreement only.
            Some(false) => connection::run(gateway, socket, visitor, BytesMut::new(), begun.elapsed()).await,
            None => hear(gateway, socket, visitor, begun.elapsed()).await,
        }
    })
    .await;
}

/// Reads the PROXY header and shakes hands, within the time of one head. Whether HTTP/2 was agreed on: where there is TLS.
async fn introduce(
    gateway: &Gateway,
    stream: TcpStream,
    place: Place,
    peer: IpAddr,
    handshake: Option<Handshake>,
    begun: Instant,
) -> Option<(Socket, Arc<Visitor>, Option<bool>)> {
    let deadline = begun + gateway.limits.head_timeout;
    let stream = Arc::new(stream);
    let plain = Socket::Plain(stream.clone());
    let mut introduction = Introduction { client: None, secure: false };
    if is_within(&gateway.proxy_protocol_from, peer) {
        introduction = match timeout_at(deadline, proxy_protocol::read(&plain)).await {
            Ok(Ok(introduction)) => introduction,
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                return gateway.turn_away(TurnedAway::ProxyHeader);
            }
            // A balancer's probe that only connects is no fault.
            Ok(Err(_)) => return None,
            Err(_) => return gateway.turn_away(TurnedAway::Slow),
        };
    }
    introduction.secure |= handshake.is_some();
    let visitor = seat(gateway, place, peer, introduction)?;
    let Some(handshake) = handshake else { return Some((plain, visitor, None)) };
    match timeout_at(deadline, handshake.shake(stream)).await {
        Ok(Ok((socket, http2))) => Some((socket, visitor, Some(http2))),
        Ok(Err(error)) => {
            tracing::debug!(%error, "A TLS handshake has failed.");
            gateway.turn_away(TurnedAway::Handshake)
        }
        Err(_) => gateway.turn_away(TurnedAway::Slow),
    }
}

/// A place for the client, now that it is known. A hop has none of its own: it speaks for many.
fn seat(gateway: &Gateway, place: Place, peer: IpAddr, introduction: Introduction) -> Option<Arc<Visitor>> {
    let client = introduction.client.unwrap_or(peer);
    let visitor = Visitor::new(client, introduction.secure, &gateway.hops);
    let place = if visitor.is_hop() { Ok(place) } else { place.belongs_to(visitor.client) };
    match place {
        Ok(place) => {
            let counted = gateway.admission.metrics().connection(introduction.secure);
            Some(Arc::new(visitor.seated(place, counted)))
        }
        Err(Full::Client) => gateway.turn_away(TurnedAway::Client),
        Err(Full::Total) => gateway.turn_away(TurnedAway::Full),
    }
}

/// Hears which protocol is spoken, and speaks it. `spent`: what of the first head's time is gone already.
async fn hear(gateway: Arc<Gateway>, socket: Socket, visitor: Arc<Visitor>, spent: Duration) {
    let Some(mut ahead) = first_words(&gateway, &socket).await else { return };
    let begun = Instant::now();
    let head_by = begun + gateway.limits.head_timeout.saturating_sub(spent);
    loop {
        match Spoken::in_(&ahead) {
            Spoken::Http1 => {
                let spent = spent + begun.elapsed();
                return connection::run(gateway, socket, visitor, ahead, spent).await;
            }
            Spoken::Http2 => return h2::run(gateway, socket, visitor, ahead).await,
            Spoken::Undecided => {}
        }
        match timeout_at(head_by, poll_fn(|cx| socket.poll_recv(cx, &mut ahead))).await {
            Ok(Ok(1..)) => {}
            Ok(_) => return,
            Err(_) => return gateway.turn_away(TurnedAway::Slow).unwrap_or_default(),
        }
    }
}

/// The first bytes. `None`: none will come, or the proxy stops before any did.
async fn first_words(gateway: &Gateway, socket: &Socket) -> Option<BytesMut> {
    let mut ahead = BytesMut::new();
    let arriving = poll_fn(|cx| {
        let tcp = socket.tcp().map(|tcp| tcp.poll_read_ready(cx));
        if tcp.is_some_and(|ready| ready.is_pending()) {
            return std::task::Poll::Pending;
        }
        ahead.reserve(FIRST_READ);
        let read = socket.poll_recv(cx, &mut ahead);
        if read.is_pending() {
            // It was nothing after all: the room is given back.
            ahead = BytesMut::new();
        }
        read
    });
    let mut arriving = pin!(arriving);
    let read = tokio::select! {
        biased;
        read = &mut arriving => read,
        () = gateway.closing.rests_end() => return None,
        () = tokio::time::sleep(gateway.limits.keep_alive) => return None,
    };
    read.is_ok_and(|read| read > 0).then_some(ahead)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_preface_tells_the_protocol() {
        assert_eq!(Spoken::in_(PREFACE), Spoken::Http2);
        assert_eq!(Spoken::in_(&[PREFACE, b"more"].concat()), Spoken::Http2);
        for http1 in ["GET / HTTP/1.1\r\n", "POST", "PRI * HTTP/1.1\r\n", "\r\n", "PRIVATE"] {
            assert_eq!(Spoken::in_(http1.as_bytes()), Spoken::Http1, "{http1:?}");
        }
        for length in 0..PREFACE.len() {
            assert_eq!(Spoken::in_(&PREFACE[..length]), Spoken::Undecided);
        }
    }

    proptest! {
        #[test]
        fn what_is_decided_stays_so(bytes in prop::collection::vec(any::<u8>(), 0..40), cut in 0usize..40, preface in any::<bool>()) {
            let bytes = if preface { [PREFACE, &bytes].concat() } else { bytes };
            let first = Spoken::in_(&bytes[..cut.min(bytes.len())]);
            prop_assert!(first == Spoken::Undecided || first == Spoken::in_(&bytes));
        }
    }
}
