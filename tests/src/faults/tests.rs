use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;

use super::*;

struct Target {
    address: SocketAddr,
    hits: Arc<AtomicUsize>,
}

async fn target() -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hits = Arc::new(AtomicUsize::new(0));
    let counter = hits.clone();
    let app = Router::new().route(
        "/{*path}",
        get(move || async move {
            counter.fetch_add(1, Ordering::SeqCst);
            "hello"
        }),
    );
    tokio::spawn(async move { axum::serve(listener, app).await });
    Target { address, hits }
}

async fn fetch(client: &reqwest::Client, proxy: &FaultProxy, path: &str) -> Result<String, reqwest::Error> {
    client.get(format!("http://{}{path}", proxy.address())).send().await?.text().await
}

#[tokio::test]
async fn it_refuses_swallows_and_heals() {
    let target = target().await;
    let proxy = FaultProxy::in_front_of(target.address).await;
    let client = crate::http_client(Duration::from_millis(500));
    assert_eq!(fetch(&client, &proxy, "/a").await.unwrap(), "hello");
    proxy.refuse();
    assert!(!fetch(&client, &proxy, "/b").await.unwrap_err().is_timeout());
    proxy.heal();
    assert_eq!(fetch(&client, &proxy, "/c").await.unwrap(), "hello");
    proxy.blackhole();
    assert!(fetch(&client, &proxy, "/d").await.unwrap_err().is_timeout());
    proxy.heal();
    assert_eq!(fetch(&client, &proxy, "/e").await.unwrap(), "hello");
    assert_eq!(target.hits.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn it_loses_the_answer_of_the_request_that_was_asked_for() {
    let target = target().await;
    let proxy = FaultProxy::in_front_of(target.address).await;
    let client = crate::http_client(Duration::from_secs(5));
    let caught = proxy.lose_nth_answer("/x", 2);
    assert_eq!(fetch(&client, &proxy, "/x").await.unwrap(), "hello");
    assert_eq!(fetch(&client, &proxy, "/y").await.unwrap(), "hello");
    // reqwest repeats a GET on a reused connection that was closed without an answer; a fresh one shows the fault.
    let fresh = crate::http_client(Duration::from_secs(5));
    assert!(fetch(&fresh, &proxy, "/x").await.is_err());
    caught.done().await;
    assert_eq!(target.hits.load(Ordering::SeqCst), 3, "the request whose answer was lost was carried out");
    assert_eq!(fetch(&client, &proxy, "/x").await.unwrap(), "hello");
}

#[tokio::test]
async fn it_holds_a_request_until_it_is_released() {
    let target = target().await;
    let proxy = FaultProxy::in_front_of(target.address).await;
    let client = crate::http_client(Duration::from_secs(5));
    let caught = proxy.hold("GET /held");
    let request = tokio::spawn({
        let url = format!("http://{}/held", proxy.address());
        async move { client.get(url).send().await.unwrap().text().await.unwrap() }
    });
    caught.arrived().await;
    assert_eq!(target.hits.load(Ordering::SeqCst), 0);
    caught.release();
    assert_eq!(request.await.unwrap(), "hello");
}
