//! Tickets that open nothing, each for its own reason.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bivouac_tests::world::{Answer, Session, Socket};
use bivouac_tests::{World, eventually};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Given, PRIVATE, SOON, follow, get, issue};

/// The same ticket with another header in front.
fn with_header(ticket: &str, change: impl Fn(&mut Value)) -> String {
    let (header, rest) = ticket.split_once('.').unwrap();
    let mut header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    change(&mut header);
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

pub(super) async fn every_wrong_ticket_has_its_code(world: World) {
    let session = world.spawn(PRIVATE).idle_timeout("1m").await;
    let sibling = world.spawn(PRIVATE).idle_timeout("1m").await;
    tokio::join!(session.ready(), sibling.ready());
    let short = issue(&session, &world, json!({"ttl": "1s"})).await;
    let (good, others) = (issue(&session, &world, json!({})).await, issue(&sibling, &world, json!({})).await);
    let ticket = &good.ticket;
    let none = with_header(ticket, |header| header["alg"] = "none".into());
    let unsigned = format!("{}.", none.rsplit_once('.').unwrap().0);
    let link_ticket = good.link.split_once('=').unwrap().1.to_owned();
    let truncated = ticket[..ticket.len() - 20].to_owned();
    for (what, text, status, code) in [
        ("another session's", others.ticket.clone(), 403, "ticket_wrong_session"),
        ("alg none", unsigned, 401, "ticket_invalid"),
        ("alg HS256", with_header(ticket, |header| header["alg"] = "HS256".into()), 401, "ticket_invalid"),
        (
            "an unknown key",
            with_header(ticket, |header| header["kid"] = "aaaaaaaaaaaaaaaa".into()),
            401,
            "ticket_invalid",
        ),
        ("truncated", truncated, 401, "ticket_invalid"),
        ("5 KiB", format!("{ticket}{}", "A".repeat(5000)), 401, "ticket_invalid"),
        ("a link", link_ticket.clone(), 403, "ticket_misplaced"),
    ] {
        let answer = get(&session, "/", &[("authorization", &format!("Bearer {text}"))]).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {answer:?}");
        assert!(!answer.body.contains(&text), "{what} is repeated");
    }
    let missing = session.get("/").await.unwrap();
    missing.is_problem(401, "ticket_missing");
    assert!(missing.header("www-authenticate").starts_with("Bearer"), "{missing:?}");
    eventually("a short ticket expires", SOON, async || {
        let answer = get(&session, "/", &[("authorization", &short.bearer())]).await;
        if answer.code() == "ticket_expired" { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    cookies_of_others(&session, &sibling, &others).await;
    pages_of_others(&session, &good, &link_ticket).await;
}

async fn cookies_of_others(session: &Session, sibling: &Session, others: &Given) {
    let untagged = format!("bivouac={}", others.ticket);
    let answer = get(sibling, "/", &[("cookie", &untagged)]).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "ticket_misplaced"), "a ticket is no cookie");
    let cookie = follow(sibling, &others.link).await;
    let answer = get(session, "/", &[("cookie", &cookie)]).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "ticket_wrong_session"), "a sibling's cookie");
}

async fn pages_of_others(session: &Session, good: &Given, link_ticket: &str) {
    let posted = session
        .request(Method::POST, &format!("/?bivouac_ticket={link_ticket}"))
        .header("accept", "text/html");
    let posted = Answer::to(posted).await.unwrap();
    assert!(posted.status == 403 && posted.body.contains("ticket_misplaced"), "{posted:?}");
    let cookie = follow(session, &good.link).await;
    let sibling = "http://aaaaaaaaaaaaaaaaaaaa.localhost";
    let no_cors =
        [("cookie", cookie.as_str()), ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")];
    assert_eq!(get(session, "/", &no_cors).await.code(), "origin_refused");
    let posted = get(session, "/", &[("cookie", &cookie), ("origin", sibling)]).await;
    assert_eq!((posted.status, posted.code().as_str()), (403, "origin_refused"));
    // A page learns why by the close code: it cannot read a status.
    let mut socket =
        Socket::open_with(&session.authority(), "/ws", &[("cookie", &cookie), ("origin", sibling)])
            .await
            .unwrap();
    assert_eq!(socket.closed().await, (4403, "origin_refused".to_owned()));
    let own = format!("http://{}", session.authority());
    let mut socket = Socket::open_with(&session.authority(), "/ws", &[("cookie", &cookie), ("origin", &own)])
        .await
        .unwrap();
    socket.echoes("hello").await;
}
