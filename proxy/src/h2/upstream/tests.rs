use bivouac_protocol::{Protocol, RoutePhase};
use h2::server;
use tokio::net::TcpListener;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(5);

/// A backend that permits so many requests at once, and answers none of them.
struct Backend {
    endpoint: Endpoint,
    connections: Arc<AtomicUsize>,
    leave: Arc<tokio::sync::Notify>,
}

impl Backend {
    async fn permitting(streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, leave) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Notify::new()));
        let (counted, leaving) = (connections.clone(), leave.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let leaving = leaving.clone();
                tokio::spawn(async move {
                    let mut builder = server::Builder::new();
                    let mut wire =
                        builder.max_concurrent_streams(streams).handshake::<_, Bytes>(stream).await.unwrap();
                    let mut held = Vec::new();
                    loop {
                        tokio::select! {
                            asked = wire.accept() => match asked {
                                Some(Ok(asked)) => held.push(asked),
                                _ => return,
                            },
                            () = leaving.notified() => wire.graceful_shutdown(),
                        }
                    }
                });
            }
        });
        Self {
            endpoint: Endpoint { address, protocol: Protocol::H2c, phase: RoutePhase::Ready },
            connections,
            leave,
        }
    }

    fn route(&self, allocation: &str) -> Route {
        Route::new(
            "abcdefghijklmnop2345".parse().unwrap(),
            Generation(1),
            allocation.parse().unwrap(),
            "http".parse().unwrap(),
            self.endpoint,
        )
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn open(backends: &Backends, backend: &Backend, allocation: &str) -> Call {
    backends.open(&backend.route(allocation), &backend.endpoint, TIMEOUT).await.unwrap()
}

#[tokio::test]
async fn requests_share_a_connection() {
    let (backends, backend) = (Backends::default(), Backend::permitting(100).await);
    let opening = (0..50).map(|_| open(&backends, &backend, "a"));
    let calls = futures::future::join_all(opening).await;
    assert_eq!((backend.connections(), calls.iter().filter(|call| !call.reused).count()), (1, 1));
}

#[tokio::test]
async fn as_many_as_the_backend_permits() {
    let (backends, backend) = (Backends::default(), Backend::permitting(10).await);
    let mut calls = Vec::new();
    for _ in 0..25 {
        calls.push(open(&backends, &backend, "a").await);
    }
    assert_eq!(backend.connections(), 3);
    calls.clear();
    open(&backends, &backend, "a").await;
    assert_eq!(backend.connections(), 3, "places are given back");
}

#[tokio::test]
async fn allocations_share_nothing() {
    let (backends, backend) = (Backends::default(), Backend::permitting(100).await);
    let _one = open(&backends, &backend, "a").await;
    let other = open(&backends, &backend, "b").await;
    assert!(!other.reused);
    assert_eq!((backend.connections(), backends.len()), (2, 2));
}

#[tokio::test]
async fn a_backend_that_leaves_is_asked_over_another_connection() {
    let (backends, backend) = (Backends::default(), Backend::permitting(100).await);
    open(&backends, &backend, "a").await;
    backend.leave.notify_one();
    let waiting = async {
        while open(&backends, &backend, "a").await.reused {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, waiting).await.expect("the end is noticed");
    assert_eq!(backends.len(), 1);
}

#[tokio::test]
async fn whoever_speaks_something_else_is_no_backend() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = Backend {
        endpoint: Endpoint {
            address: listener.local_addr().unwrap(),
            protocol: Protocol::H2c,
            phase: RoutePhase::Ready,
        },
        connections: Arc::default(),
        leave: Arc::default(),
    };
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let opened = Backends::default().open(&backend.route("a"), &backend.endpoint, TIMEOUT).await;
    assert!(matches!(opened, Err(ConnectError::Failed)));
}

#[tokio::test]
async fn nobody_there_is_said_so() {
    let mut backend = Backend::permitting(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    backend.endpoint.address = listener.local_addr().unwrap();
    drop(listener);
    let opened = Backends::default().open(&backend.route("a"), &backend.endpoint, TIMEOUT).await;
    assert!(matches!(opened, Err(ConnectError::Refused)));
}
