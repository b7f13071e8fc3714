//! The tools of the scenarios themselves: what they are meant to show must not come from them.

use std::process::Stdio;
use std::time::Duration;

use bivouac_tests::browser::Browser;
use bivouac_tests::world::{Answer, Socket, free_port};
use bivouac_tests::{eventually, guard, guest, http_client};

fn guest_on(port: u16, diary: &std::path::Path, mode: &str) -> std::process::Child {
    let mut command = guard::command(guard::guest_binary());
    command
        .env("PORT", port.to_string())
        .env("GUEST_MODE", mode)
        .env("GUEST_DIARY", diary)
        .env("GUEST_OWNER", std::process::id().to_string())
        .env("BIVOUAC_SESSION_ID", "somebody")
        .env("BIVOUAC_GENERATION", "7")
        .stdin(Stdio::null());
    guard::spawn(command)
}

#[tokio::test]
async fn the_guest_answers_and_keeps_a_diary() {
    let (port, diary) = (free_port(), tempfile::tempdir().unwrap());
    let mut child = guest_on(port, diary.path(), "serve");
    let http = http_client(Duration::from_secs(5));
    let authority = format!("x.localhost:{port}");
    let echo = eventually("the guest listens", Duration::from_secs(10), async || {
        Answer::to(http.post(format!("http://{authority}/p?q=1")).body("b")).await
    })
    .await
    .json();
    assert_eq!(
        (&echo["method"], &echo["uri"], &echo["body"]),
        (&"POST".into(), &"/p?q=1".into(), &"b".into())
    );
    let mut socket = Socket::open(&authority, "/ws").await.unwrap();
    socket.echoes("hello").await;
    let stream = Answer::to(http.get(format!("http://{authority}/stream?seconds=1"))).await.unwrap();
    assert_eq!(stream.body.lines().count(), 10);
    let starts = guest::starts(diary.path(), "somebody");
    assert_eq!((starts.len(), starts[0].generation, starts[0].alive()), (1, 7, true));
    assert!(Answer::to(http.get(format!("http://{authority}/exit?code=9"))).await.is_err());
    assert_eq!(child.wait().unwrap().code(), Some(9));
    assert!(!starts[0].alive());
    assert_eq!(guest_on(port, diary.path(), "dead").wait().unwrap().code(), Some(i32::from(guest::DEAD)));
}

#[tokio::test]
async fn the_browser_shows_what_a_page_does() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://x.localhost:{}/", listener.local_addr().unwrap().port());
    let page =
        "<body style='margin:0;height:100vh' onpointerdown='document.title=event.clientX'>hello</body>";
    let app = axum::Router::new().fallback(move || async move { axum::response::Html(page) });
    tokio::spawn(async move { axum::serve(listener, app).await });
    let browser = Browser::start().await;
    let mut page = browser.open(&url).await;
    page.shows("document.body !== null && document.body.innerText === 'hello'").await;
    page.draw(&[(123.0, 45.0), (200.0, 50.0)]).await;
    page.shows("document.title === '123'").await;
    let folder = tempfile::tempdir().unwrap();
    page.screenshot(&folder.path().join("page.png")).await;
    assert!(std::fs::read(folder.path().join("page.png")).unwrap().starts_with(b"\x89PNG"));
    page.close().await;
}
