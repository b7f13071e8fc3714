use std::sync::atomic::AtomicUsize;

use bivouac_protocol::RoutePhase;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::testing::Camp;

fn config(data_dir: PathBuf) -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin: ([127, 0, 0, 1], 0).into(),
        domain: "localhost".to_owned(),
        link_secrets: secrecy::SecretString::from("secret").into(),
        data_dir,
        backends: Backends { ports: vec![1024..=65_535], ..Backends::default() },
        hold_timeout: Duration::from_secs(5),
        holds_per_session: 10,
        holds_total: 10,
        drain_timeout: Duration::from_secs(5),
        allocation: None,
        edge: Edge::default(),
    }
}

/// A backend that answers each connection once, whatever it is asked.
async fn backend(answered: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")
                .await;
            answered.fetch_add(1, Ordering::SeqCst);
        }
    });
    address
}

async fn get(address: SocketAddr, host: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn alone_it_serves_a_running_session_and_leaves_when_it_is_told_to() {
    let camp = Camp::new();
    let answered = Arc::new(AtomicUsize::new(0));
    let address = backend(answered.clone()).await;
    camp.run(false).await;
    camp.directory.register(bivouac_protocol::Route { address, ..camp.route(1, RoutePhase::Ready) });
    let data = tempfile::tempdir().unwrap();
    let proxy =
        Proxy::bind(config(data.path().into()), camp.wire.clone(), camp.directory.clone()).await.unwrap();
    let (listen, admin) = (proxy.listen_addr(), proxy.admin_addr());
    let members = bivouac_ledger::members::Members::new(camp.wire.clone());
    let joined = members.read().await.unwrap().unwrap().value.boots;
    assert_eq!(joined.len(), 1, "it has joined before anybody can connect");

    let shutdown = CancellationToken::new();
    let running = tokio::spawn(proxy.run(shutdown.clone()));
    let answer = get(listen, &format!("{}.localhost", camp.id), "/").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    assert_eq!(answered.load(Ordering::SeqCst), 1);
    let unknown = get(listen, &format!("{}.localhost", bivouac_protocol::SessionId::random()), "/").await;
    assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");
    assert!(get(admin, "localhost", "/livez").await.starts_with("HTTP/1.1 200"));
    let ready = get(admin, "localhost", "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains(r#""member":true"#), "{ready}");
    assert!(get(admin, "localhost", "/metrics").await.contains("bivouac_proxy_open 0"));

    shutdown.cancel();
    timeout(Duration::from_secs(5), running).await.expect("nothing is open").unwrap();
    assert!(members.read().await.unwrap().unwrap().value.boots.is_empty());
    assert!(TcpStream::connect(listen).await.is_err());
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let camp = Camp::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let data = tempfile::tempdir().unwrap();
    let config = Config { admin: taken.local_addr().unwrap(), ..config(data.path().into()) };
    let error = Proxy::bind(config.clone(), camp.wire.clone(), camp.directory.clone()).await.err().unwrap();
    assert!(error.to_string().contains(&config.admin.to_string()), "{error}");
}

#[tokio::test]
async fn drained_by_an_operator_it_cuts_nothing_leaves_and_stays() {
    let camp = Camp::new();
    let address = backend(Arc::default()).await;
    camp.run(false).await;
    camp.directory.register(bivouac_protocol::Route { address, ..camp.route(1, RoutePhase::Ready) });
    let data = tempfile::tempdir().unwrap();
    let config = Config { drain_timeout: Duration::ZERO, ..config(data.path().into()) };
    let proxy = Proxy::bind(config, camp.wire.clone(), camp.directory.clone()).await.unwrap();
    let (listen, admin, draining) = (proxy.listen_addr(), proxy.admin_addr(), proxy.draining());
    let members = bivouac_ledger::members::Members::new(camp.wire.clone());
    let boot = members.read().await.unwrap().unwrap().value.boots.pop_first().unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(proxy.run(shutdown.clone()));
    // A request whose head is not complete yet is something open.
    let mut open = TcpStream::connect(listen).await.unwrap();
    open.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    get(listen, &format!("{}.localhost", camp.id), "/").await;

    let told = jiff::Timestamp::now();
    assert_eq!(members.drain(&boot, told).await.unwrap().unwrap().draining_since, Some(told));
    assert_eq!(
        members.drain(&boot, jiff::Timestamp::now()).await.unwrap().unwrap().draining_since,
        Some(told)
    );
    timeout(Duration::from_secs(5), draining.cancelled()).await.unwrap();
    // Not ready first, and closed after that: a load balancer that has noticed sends nobody into the gap.
    let closed = async { while TcpStream::connect(listen).await.is_ok() {} };
    timeout(Duration::from_secs(5), closed).await.expect("it accepts nothing more");
    assert!(members.read().await.unwrap().unwrap().value.boots.contains(&boot), "it waits for what is open");
    open.write_all(format!("host: {}.localhost\r\n\r\n", camp.id).as_bytes()).await.unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let left = async {
        let mut index = 0;
        while let Some(list) = members.watch(index, Duration::from_secs(5)).await.unwrap() {
            index = list.index;
            if list.value.boots.is_empty() {
                return;
            }
        }
    };
    timeout(Duration::from_secs(5), left).await.expect("it leaves once nothing is open");
    let ready = get(admin, "localhost", "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains(r#""draining":true"#), "{ready}");
    assert!(!running.is_finished());
    shutdown.cancel();
    timeout(Duration::from_secs(5), running).await.unwrap().unwrap();
    assert_eq!(members.drain(&boot, told).await.unwrap(), None);
}
