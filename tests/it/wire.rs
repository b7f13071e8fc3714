//! Answers that never arrive: whether a write was done is not known, and nothing is lost or done twice for it.

use std::time::Duration;

use bivouac_tests::world::{GUEST, Session, WAKING};
use bivouac_tests::{World, eventually};

/// The answer to the `n`th transaction of a session's life is lost, whatever it was: claim, pin, ready, commit, end.
async fn loses_a_transactions_answer(world: World, nth: usize) {
    let service = world.service(0);
    let lost = service.consul.lose_nth_answer("PUT /v1/txn", nth);
    // Whoever gets no proper answer asks again.
    let session = eventually("the session is spawned", Duration::from_secs(20), async || {
        let answer = world.spawn(GUEST).key("doc").idle_timeout("1s").send().await?;
        let answer = if answer.status == 201 { answer } else { answer.expect_status(200)? };
        Ok(Session::of(&world, answer.json()))
    })
    .await;
    session.serves("/").await;
    lost.done().await;
    session.ended("idle").await;
    session.never_doubled();
    session.backends_gone().await;
    assert_eq!(session.view().await["generation"], 1);
    world.nothing_runs().await;
}

macro_rules! loses {
    ($($name:ident: $nth:literal),+ $(,)?) => {$(
        #[test]
        fn $name() {
            World::cluster().run(async |world| loses_a_transactions_answer(world, $nth).await);
        }
    )+};
}

loses!(
    the_first_transactions_answer_is_lost: 1,
    the_second_transactions_answer_is_lost: 2,
    the_third_transactions_answer_is_lost: 3,
    the_fourth_transactions_answer_is_lost: 4,
);

#[test]
fn a_registrations_answer_is_lost() {
    World::cluster().run(async |world| {
        let lost = world.service(0).nomad.lose_answer("T /v1/job");
        let session = world.spawn(GUEST).key("doc").idle_timeout("2s").await;
        session.serves("/").await;
        lost.done().await;
        session.never_doubled();
        session.ended("idle").await;
        world.nothing_runs().await;
    });
}

#[test]
fn a_deletions_answer_is_lost() {
    World::cluster().run(async |world| {
        let lost = world.service(0).nomad.lose_answer("DELETE /v1/job/session-");
        let session = world.spawn(GUEST).key("doc").idle_timeout("1s").await;
        session.ended("idle").await;
        lost.done().await;
        session.backends_gone().await;
        world.nothing_runs().await;
    });
}

#[test]
fn a_registration_that_never_arrived_is_sent_again() {
    World::cluster().run(async |world| {
        let dropped = world.service(0).nomad.drop_request("T /v1/job");
        let session = world.spawn(GUEST).key("doc").await;
        dropped.done().await;
        session.serves("/").await;
        session.never_doubled();
    });
}

#[test]
fn the_event_stream_breaks_again_and_again() {
    World::cluster().run(async |world| {
        for round in 0..6 {
            let session = world.spawn(WAKING).key(&format!("doc-{round}")).idle_timeout("1s").await;
            world.service(0).nomad.cut();
            session.serves("/").await;
            world.service(0).nomad.cut();
            session.ended("idle").await;
            session.never_doubled();
        }
        world.nothing_runs().await;
    });
}

#[test]
fn slow_agents_only_make_it_slow() {
    World::cluster().run(async |world| {
        world.service(0).consul.delay(Duration::from_millis(150));
        world.service(0).nomad.delay(Duration::from_millis(150));
        world.proxy(0).consul.delay(Duration::from_millis(150));
        let session = world.spawn(WAKING).key("doc").idle_timeout("2s").await;
        session.serves("/").await;
        session.ended("idle").await;
        assert_eq!(session.serves("/").await.json()["generation"], "2");
        session.ended("idle").await;
        session.never_doubled();
        world.nothing_runs().await;
    });
}
