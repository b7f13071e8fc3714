//! The bundled whiteboard, as a person sees it.

use std::time::Duration;

use bivouac_tests::World;
use bivouac_tests::browser::{Browser, Page};
use bivouac_tests::world::WHITEBOARD;

everywhere!(two_people_draw_to_each_other);

/// How much of the page's canvas has been drawn on.
const INK: &str = "(() => { const c = document.querySelector('canvas'); \
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; \
    const first = [d[0], d[1], d[2], d[3]]; let n = 0; \
    for (let i = 0; i < d.length; i += 4) { if (d[i] !== first[0] || d[i+1] !== first[1] || d[i+2] !== first[2] || d[i+3] !== first[3]) n++; } \
    return n; })()";

async fn ink(page: &mut Page) -> u64 {
    page.evaluate(INK).await.as_u64().expect("a number of pixels")
}

async fn two_people_draw_to_each_other(world: World) {
    let session = world.spawn(WHITEBOARD).key("doc-1").idle_timeout("3s").await;
    let url = format!("http://{}/", session.authority());
    let browser = Browser::start().await;
    let (mut anna, mut ben) = (browser.open(&url).await, browser.open(&url).await);
    for page in [&mut anna, &mut ben] {
        page.shows("document.readyState === 'complete' && !!document.querySelector('canvas')").await;
        page.shows("/\\b2\\b/.test(document.body.innerText)").await;
    }
    let blank = ink(&mut ben).await;
    anna.draw(&[(200.0, 200.0), (300.0, 260.0), (400.0, 320.0)]).await;
    let shown = bivouac_tests::eventually("Ben sees what Anna draws", Duration::from_secs(10), async || {
        let now = ink(&mut ben).await;
        if now > blank { Ok(now) } else { Err(format!("{now} pixels")) }
    })
    .await;
    ben.draw(&[(400.0, 200.0), (300.0, 300.0), (200.0, 420.0)]).await;
    bivouac_tests::eventually("Anna sees what Ben draws", Duration::from_secs(10), async || {
        let now = ink(&mut anna).await;
        if now > shown { Ok(()) } else { Err(format!("{now} pixels")) }
    })
    .await;
    anna.shown_to_people(&world, "whiteboard").await;
    let closed = jiff::Timestamp::now();
    anna.close().await;
    ben.close().await;
    let ended = session.ended("idle").await;
    let stopping: jiff::Timestamp = ended["timeline"]["stopping"].as_str().unwrap().parse().unwrap();
    let idle = stopping.duration_since(closed);
    assert!((3.0..8.0).contains(&idle.as_secs_f64()), "stopped {idle:?} after the last window was closed");
    session.backends_gone().await;
}
