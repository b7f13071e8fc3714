//! The status page, as an operator sees it.

use bivouac_tests::World;
use bivouac_tests::browser::{Browser, Page};
use bivouac_tests::world::GUEST;

everywhere!(an_operator_watches_and_stops_a_session);

/// Shows the page a token, as a person types it.
async fn sign_in(page: &mut Page, token: &str) {
    page.shows("document.querySelector('#door')?.hidden === false").await;
    let typed = format!(
        "document.querySelector('#token').value = {}; document.querySelector('#sign-in button').click()",
        serde_json::to_string(token).unwrap()
    );
    page.evaluate(&typed).await;
}

/// An expression: whether the row of a session says something.
fn row(key: &str, what: &str) -> String {
    format!(
        "[...document.querySelectorAll('.row')].some(r => r.innerText.includes({key:?}) && r.innerText.includes({what:?}))"
    )
}

async fn an_operator_watches_and_stops_a_session(world: World) {
    let browser = Browser::start().await;
    let mut page = browser.open(&format!("{}/ui", world.api_url())).await;
    sign_in(&mut page, "bvk_nobody_x").await;
    page.shows("document.querySelector('#refusal').innerText.includes('not one of this installation')").await;
    sign_in(&mut page, &world.token()).await;
    page.shows("document.querySelector('#link').innerText === 'live'").await;
    page.shows("document.querySelector('#none').innerText.includes('No session lives')").await;
    page.shows("document.querySelectorAll('#members .pill').length === 1").await;

    let session = world.spawn(GUEST).key("<b>doc-7</b>").send().await.unwrap();
    session.is_problem(422, "invalid_field");
    let session = world
        .spawn(GUEST)
        .key("doc-7")
        .idle_timeout("60s")
        .field("user", "<img src=x onerror=alert(1)>")
        .await;
    page.shows(&row("doc-7", "ready")).await;
    page.shows("document.querySelector('.row img') === null").await;
    let mut socket = session.websocket().await;
    page.shows(&row("doc-7", "in use, 1 open")).await;

    page.evaluate("document.querySelector('.row').click()").await;
    page.shows("document.querySelectorAll('.detail .track i').length >= 4").await;
    page.shows("document.querySelector('.detail').innerText.includes('bootstrap')").await;
    page.shown_to_people(&world, "ui").await;
    page.evaluate("document.querySelector('.detail .danger').click()").await;
    page.shows("document.querySelector('#confirm').open && document.querySelector('#confirm').innerText.includes('1 connection is open')")
        .await;
    page.evaluate("document.querySelector('#confirm-no').click()").await;
    page.shows("!document.querySelector('#confirm').open").await;
    socket.echoes("a second thought").await;
    page.evaluate("document.querySelector('.detail .danger').click()").await;
    page.evaluate("document.querySelector('#confirm-yes').click()").await;
    session.ended("requested").await;
    page.shows("document.querySelector('#none').innerText.includes('No session lives')").await;
    page.evaluate("[...document.querySelectorAll('#filters button')].find(b => b.innerText.startsWith('Ended')).click()").await;
    page.shows(&row("doc-7", "requested: somebody asked for it")).await;
    page.shown_to_people(&world, "ui-ended").await;

    page.evaluate("document.querySelector('#leave').click()").await;
    page.shows("document.querySelector('#camp').hidden && !document.body.innerText.includes('doc-7')").await;
    page.shows(
        "sessionStorage.length === 0 && localStorage.length === 0 && !location.href.includes('token')",
    )
    .await;
    page.close().await;
}

/// The address bar, the page and what its policy allows: nothing of it is open to a session's own page.
#[test]
fn a_sessions_page_reaches_nothing_of_it() {
    World::embedded().run(async |world| {
        let session = world.spawn(GUEST).key("doc").idle_timeout("60s").await;
        session.serves("/").await;
        let browser = Browser::start().await;
        let mut hostile = browser.open(&format!("http://{}/", session.authority())).await;
        hostile.shows("document.readyState === 'complete'").await;
        let api = world.api_url();
        for call in [
            format!("fetch('{api}/v1/sessions', {{headers: {{Authorization: 'Bearer {}'}}}})", world.token()),
            format!("fetch('{api}/v1/sessions/{}', {{method: 'DELETE'}})", session.id),
            format!("fetch('{api}/ui')"),
        ] {
            let outcome = hostile.evaluate(&format!("{call}.then(r => r.text(), () => 'kept out')")).await;
            assert_eq!(outcome, "kept out", "{call}");
        }
        let framed = format!(
            "new Promise(done => {{ const f = document.createElement('iframe'); f.src = '{api}/ui'; \
             f.onload = () => {{ let seen = 'opaque'; try {{ seen = f.contentDocument.title }} catch {{}} done(seen) }}; \
             document.body.append(f) }})"
        );
        assert_ne!(hostile.evaluate(&framed).await, "Bivouac");
        hostile.close().await;
    });
}
