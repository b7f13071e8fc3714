use bivouac_protocol::{Endpoint, Protocol, RoutePhase};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;

fn route(address: SocketAddr, allocation: &str, generation: u64) -> Arc<Route> {
    Arc::new(Route::new(
        "abcdefghijklmnop2345".parse().unwrap(),
        Generation(generation),
        allocation.parse().unwrap(),
        "http".parse().unwrap(),
        at(address),
    ))
}

fn at(address: SocketAddr) -> Endpoint {
    Endpoint { address, protocol: Protocol::Http, phase: RoutePhase::Ready }
}

async fn connected() -> (Wire, TcpStream, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ours, theirs) = tokio::join!(connect(address, Duration::from_secs(2)), listener.accept());
    (ours.unwrap_or_else(|error| panic!("{error:?}")).wire, theirs.unwrap().0, address)
}

#[tokio::test]
async fn a_kept_connection_serves_its_own_allocation_only() {
    let (wire, _theirs, address) = connected().await;
    let pool = Pool::default();
    pool.keep(&route(address, "a1", 1), &at(address), wire);
    assert!(pool.take(&route(address, "a2", 1), &at(address), true).is_none());
    assert!(pool.take(&route(address, "a1", 2), &at(address), true).is_none());
    assert!(pool.take(&route(address, "a1", 1), &at(address), true).is_some_and(|backend| backend.reused));
    assert!(pool.take(&route(address, "a1", 1), &at(address), true).is_none());
}

#[tokio::test]
async fn two_ports_of_one_allocation_share_no_connection() {
    let (wire, _theirs, address) = connected().await;
    let pool = Pool::default();
    pool.keep(&route(address, "a1", 1), &at(address), wire);
    let other = at(SocketAddr::new(address.ip(), address.port() ^ 1));
    assert!(pool.take(&route(address, "a1", 1), &other, true).is_none());
    assert!(pool.take(&route(address, "a1", 1), &at(address), true).is_some());
}

#[tokio::test]
async fn a_vanished_host_is_noticed() {
    let (wire, _theirs, _) = connected().await;
    let socket = SockRef::from(wire.outlet.socket().tcp().unwrap());
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNHEARD));
    assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
}

#[tokio::test]
async fn a_connection_with_anything_on_it_is_not_used_again() {
    for close in [false, true] {
        let (wire, mut theirs, address) = connected().await;
        let socket = wire.outlet.socket().clone();
        let pool = Pool::default();
        pool.keep(&route(address, "a1", 1), &at(address), wire);
        if close {
            drop(theirs);
        } else {
            theirs.write_all(b"HTTP/1.1 408 Late\r\n\r\n").await.unwrap();
        }
        socket.tcp().unwrap().readable().await.unwrap();
        assert!(pool.take(&route(address, "a1", 1), &at(address), true).is_none());
    }
}

#[tokio::test]
async fn what_a_backend_has_closed_is_swept() {
    let (wire, theirs, address) = connected().await;
    let socket = wire.outlet.socket().clone();
    let pool = Pool::default();
    pool.keep(&route(address, "a1", 1), &at(address), wire);
    pool.sweep();
    assert_eq!(pool.len(), 1);
    drop(theirs);
    socket.tcp().unwrap().readable().await.unwrap();
    pool.sweep();
    assert_eq!(pool.len(), 0);
}

#[tokio::test]
async fn a_port_without_a_listener_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(connect(address, Duration::from_secs(2)).await.err(), Some(ConnectError::Refused));
}
