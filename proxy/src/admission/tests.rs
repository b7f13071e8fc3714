use std::future::ready;

use bivouac_protocol::link::{FenceEcho, FromProxy};
use bivouac_protocol::{Generation, Phase, ReasonCode, RoutePhase};
use tokio::time::Instant;

use super::admitted::FLUSH_AFTER_EXIT;
use super::*;
use crate::activity::entry::Outcome;
use crate::activity::gate::{FenceAnswer, Fenced};
use crate::testing::{Camp, HOLD_TIMEOUT, pass, said, tag};

mod ports;

const MOMENT: Duration = Duration::from_millis(100);

#[tokio::test(start_paused = true)]
async fn an_unknown_id_is_refused_and_leaves_no_entry() {
    let camp = Camp::new();
    let _link = camp.link();
    assert_eq!(camp.admit().await.err(), Some(Refusal::UnknownSession));
    assert_eq!(camp.table.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_flood_for_an_unknown_id_is_answered_from_memory() {
    let camp = Camp::new();
    for _ in 0..200 {
        assert_eq!(camp.admit().await.err(), Some(Refusal::UnknownSession));
    }
    assert!(camp.wire.reads.load(Ordering::SeqCst) < 30);
    assert_eq!(camp.table.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_right_after_the_spawn_sees_it() {
    let camp = Camp::new();
    let _link = camp.link();
    assert_eq!(camp.admit().await.err(), Some(Refusal::UnknownSession));
    camp.run(false).await;
    camp.push(1, RoutePhase::Ready);
    assert_eq!(camp.admit().await.unwrap().route.generation, Generation(1));
}

#[tokio::test(start_paused = true)]
async fn a_starting_session_is_waited_for_and_the_first_of_many_reads_for_all() {
    let camp = Camp::new();
    let _link = camp.link();
    camp.run(false).await;
    let before = camp.wire.reads.load(Ordering::SeqCst);
    camp.push(1, RoutePhase::Starting);
    let waiting: Vec<_> = (0..40).map(|_| camp.admitting()).collect();
    pass(MOMENT).await;
    assert!(waiting.iter().all(|request| !request.is_finished()));
    camp.push(1, RoutePhase::Ready);
    let asked = Instant::now();
    for request in waiting {
        assert_eq!(request.await.unwrap().unwrap(), Generation(1));
    }
    assert!(asked.elapsed() < MOMENT, "nobody waits for the next look");
    assert!(camp.wire.reads.load(Ordering::SeqCst) - before <= 2);
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_at_the_deadline() {
    let camp = Camp::new();
    let _link = camp.link();
    camp.claim(false).await;
    let began = Instant::now();
    let refusal = camp.admit().await.err().unwrap();
    assert!(matches!(refusal, Refusal::StillStarting { .. }));
    assert_eq!(began.elapsed(), HOLD_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_client() {
    let camp = Camp::new();
    camp.claim(false).await;
    assert!(
        camp.admission.admit(&camp.target(None), Grant::default(), pass(MOMENT)).await.unwrap().is_none()
    );
    assert_eq!(camp.table.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_route_whose_record_is_stopping_is_not_served_until_it_has_ended() {
    let camp = Camp::new();
    let _link = camp.link();
    camp.run(false).await;
    camp.push(1, RoutePhase::Ready);
    camp.stop(ReasonCode::Idle).await;
    let request = camp.admitting();
    pass(3 * Duration::from_secs(1)).await;
    assert!(!request.is_finished());
    camp.end(ReasonCode::Idle).await;
    assert_eq!(request.await.unwrap(), Err(Refusal::Ended(Some(ReasonCode::Idle.into()))));
}

#[tokio::test(start_paused = true)]
async fn an_admitted_session_is_not_read_again_while_a_replica_is_heard() {
    let camp = Camp::new();
    let _link = camp.link();
    camp.run(false).await;
    camp.push(1, RoutePhase::Ready);
    drop(camp.admit().await.unwrap());
    let before = camp.wire.reads.load(Ordering::SeqCst);
    for _ in 0..10 {
        drop(camp.admit().await.unwrap());
        pass(Duration::from_secs(1)).await;
    }
    assert_eq!(camp.wire.reads.load(Ordering::SeqCst), before);
}

#[tokio::test(start_paused = true)]
async fn alone_it_resolves_from_record_and_directory() {
    let camp = Camp::new();
    camp.run(false).await;
    camp.directory.register(camp.route(1, RoutePhase::Ready));
    assert_eq!(camp.admit().await.unwrap().route.address.port(), 20_001);
    let before = camp.wire.reads.load(Ordering::SeqCst);
    drop(camp.admit().await.unwrap());
    assert_eq!(camp.wire.reads.load(Ordering::SeqCst), before, "it was confirmed a moment ago");
    pass(Duration::from_secs(4)).await;
    drop(camp.admit().await.unwrap());
    assert!(camp.wire.reads.load(Ordering::SeqCst) > before, "by now it might be another's");
}

#[tokio::test(start_paused = true)]
async fn alone_it_does_not_believe_a_route_that_the_directory_does_not_name() {
    let camp = Camp::new();
    camp.run(false).await;
    camp.push(1, RoutePhase::Ready);
    let request = camp.admitting();
    pass(Duration::from_secs(2)).await;
    assert!(!request.is_finished());
    camp.directory.register(camp.route(1, RoutePhase::Ready));
    assert!(request.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn with_nobody_to_ask_a_known_route_is_served_and_an_unknown_one_is_not() {
    let camp = Camp::new();
    camp.cut_wire(true);
    assert_eq!(camp.admit().await.err(), Some(Refusal::Unresolvable));
    assert_eq!(camp.table.len(), 0);
    camp.push(1, RoutePhase::Ready);
    assert!(camp.admit().await.is_ok());
    assert!(camp.table.metrics.render().unwrap().contains("bivouac_proxy_served_unconfirmed_total 1"));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_is_no_member_any_more_reads_again_once_it_has_joined() {
    let camp = Camp::new();
    let _link = camp.link();
    camp.run(false).await;
    camp.push(1, RoutePhase::Ready);
    drop(camp.admit().await.unwrap());
    camp.membership.send_replace(Membership::Joining);
    camp.table.end_epoch();
    let request = camp.admitting();
    pass(MOMENT).await;
    assert!(!request.is_finished());
    let before = camp.wire.reads.load(Ordering::SeqCst);
    camp.join();
    assert!(request.await.unwrap().is_ok());
    assert!(camp.wire.reads.load(Ordering::SeqCst) > before);
}

#[tokio::test(start_paused = true)]
async fn requests_at_a_fence_knock_once_and_go_in_when_it_is_lifted() {
    let camp = Camp::new();
    let mut link = camp.link();
    camp.run(false).await;
    camp.push(1, RoutePhase::Ready);
    assert_eq!(camp.table.fence(&camp.fence_order(1, 1), link.id), FenceAnswer::Fenced);
    let echo = FenceEcho { session: camp.id.clone(), generation: Generation(1), tag: tag(1) };
    assert_eq!(said(&mut link), [FromProxy::Fenced(echo.clone())]);
    let (one, two) = (camp.admitting(), camp.admitting());
    pass(MOMENT).await;
    assert_eq!(said(&mut link), [FromProxy::Knock(echo)], "once per fence");
    assert!(!one.is_finished() && !two.is_finished());
    camp.table.unfence(&camp.id, Fenced { tag: tag(1), generation: Generation(1) });
    assert!(one.await.unwrap().is_ok() && two.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_at_a_fence_reads_what_became_of_the_stop() {
    let camp = Camp::new();
    let link = camp.link();
    camp.run(false).await;
    camp.push(1, RoutePhase::Ready);
    camp.table.fence(&camp.fence_order(1, 1), link.id);
    let request = camp.admitting();
    camp.stop(ReasonCode::Idle).await;
    pass(Duration::from_secs(3)).await;
    assert!(!request.is_finished(), "a stop is waited for");
    camp.end(ReasonCode::Idle).await;
    assert_eq!(request.await.unwrap(), Err(Refusal::Ended(Some(ReasonCode::Idle.into()))));
}

#[tokio::test(start_paused = true)]
async fn an_ended_session_is_woken_and_its_successor_served() {
    let camp = Camp::new();
    let mut link = camp.link();
    camp.run(true).await;
    camp.end(ReasonCode::Idle).await;
    let (one, two) = (camp.admitting(), camp.admitting());
    pass(MOMENT).await;
    let wake = FromProxy::Wake { session: camp.id.clone(), generation: Generation(1) };
    assert_eq!(said(&mut link), [wake], "one asks for all");
    camp.run(true).await;
    camp.push(2, RoutePhase::Ready);
    assert_eq!(one.await.unwrap(), Ok(Generation(2)));
    assert_eq!(two.await.unwrap(), Ok(Generation(2)));
}

#[tokio::test(start_paused = true)]
async fn a_woken_session_that_cannot_start_is_not_woken_again() {
    let camp = Camp::new();
    let mut link = camp.link();
    camp.run(true).await;
    camp.end(ReasonCode::Idle).await;
    let request = camp.admitting();
    pass(MOMENT).await;
    camp.claim(true).await;
    camp.end(ReasonCode::StartupTimeout).await;
    assert_eq!(request.await.unwrap(), Err(Refusal::StartFailed(Some(ReasonCode::StartupTimeout.into()))));
    assert_eq!(said(&mut link).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_replica_may_refuse_to_wake() {
    let camp = Camp::new();
    let _link = camp.link();
    camp.run(true).await;
    camp.end(ReasonCode::Idle).await;
    let request = camp.admitting();
    pass(MOMENT).await;
    let reason = Some(bivouac_protocol::Reason::new(ReasonCode::StartFailed, "it failed a moment ago"));
    let outcome =
        Outcome { generation: Some(Generation(1)), phase: Some(Phase::Ended), reason: reason.clone() };
    camp.table.peek(&camp.id, |entry, state| {
        state.outcome = Some((camp.table.next_round(), outcome));
        entry.announce();
    });
    assert_eq!(request.await.unwrap(), Err(Refusal::StartFailed(reason)));
}

#[tokio::test(start_paused = true)]
async fn what_ended_for_good_is_not_woken() {
    for (wake, reason) in [(false, ReasonCode::Idle), (true, ReasonCode::Operator)] {
        let camp = Camp::new();
        let mut link = camp.link();
        camp.run(wake).await;
        camp.end(reason).await;
        assert_eq!(camp.admit().await.err(), Some(Refusal::Ended(Some(reason.into()))));
        assert_eq!(said(&mut link), []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_is_tried_again_while_the_session_starts() {
    let camp = Camp::new();
    camp.run(false).await;
    camp.directory.register(camp.route(1, RoutePhase::Ready));
    let mut admitted = camp.admit().await.unwrap();
    let began = Instant::now();
    let mut tries = 0;
    while matches!(admitted.reroute(std::future::pending()).await, Ok(true)) {
        tries += 1;
        assert_eq!(camp.table.open(), 1, "the guard is kept");
    }
    assert!(tries > 20 && began.elapsed() >= HOLD_TIMEOUT, "it tried {tries} times");
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_to_what_was_ready_is_soon_given_up() {
    let camp = Camp::new();
    camp.run(false).await;
    camp.ready().await;
    camp.directory.register(camp.route(1, RoutePhase::Ready));
    let mut admitted = camp.admit().await.unwrap();
    let began = Instant::now();
    let outcome = loop {
        match admitted.reroute(std::future::pending()).await {
            Ok(true) => {}
            other => break other,
        }
    };
    assert_eq!(outcome, Err(Refusal::BackendUnreachable));
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_exits_is_told_to_whoever_was_refused() {
    let camp = Camp::new();
    let _link = camp.link();
    camp.run(false).await;
    camp.push(1, RoutePhase::Ready);
    let mut admitted = camp.admit().await.unwrap();
    camp.end(ReasonCode::Exited).await;
    let refusal = admitted.reroute(std::future::pending()).await;
    assert_eq!(refusal, Err(Refusal::Ended(Some(ReasonCode::Exited.into()))));
}

#[tokio::test(start_paused = true)]
async fn a_stop_cuts_what_is_open_and_an_exit_lets_it_run_out() {
    let camp = Camp::new();
    let _link = camp.link();
    camp.run(false).await;
    camp.push(1, RoutePhase::Ready);
    let admitted = camp.admit().await.unwrap();
    let began = Instant::now();
    camp.retract(1, true, ReasonCode::Exited);
    assert_eq!(admitted.cut().await, Cut::Over(ReasonCode::Exited.into()));
    assert_eq!(began.elapsed(), FLUSH_AFTER_EXIT);

    camp.end(ReasonCode::Exited).await;
    camp.run(false).await;
    camp.push(2, RoutePhase::Ready);
    let admitted = camp.admit().await.unwrap();
    tokio::select! {
        biased;
        _ = admitted.cut() => panic!("nothing was stopped"),
        () = ready(()) => {}
    }
    let (cut, ()) = tokio::join!(admitted.cut(), async { camp.retract(2, false, ReasonCode::Requested) });
    assert_eq!(cut, Cut::Over(ReasonCode::Requested.into()));
}

#[tokio::test(start_paused = true)]
async fn a_closed_proxy_admits_nobody_and_cuts_everybody() {
    let camp = Camp::new();
    let _link = camp.link();
    camp.run(false).await;
    camp.push(1, RoutePhase::Starting);
    let waiting = camp.admitting();
    pass(MOMENT).await;
    camp.admission.close();
    assert_eq!(waiting.await.unwrap(), Err(Refusal::Draining));
    assert_eq!(camp.admit().await.err(), Some(Refusal::Draining));
}

#[tokio::test(start_paused = true)]
async fn the_first_byte_is_reported_once() {
    let camp = Camp::new();
    let mut link = camp.link();
    camp.run(false).await;
    camp.push(1, RoutePhase::Ready);
    let admitted = camp.admit().await.unwrap();
    admitted.first_byte();
    admitted.first_byte();
    camp.admit().await.unwrap().first_byte();
    let told = FromProxy::FirstByte { session: camp.id.clone(), generation: Generation(1) };
    assert_eq!(said(&mut link), [told]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_a_restored_ledger_brings_back_is_served_again() {
    let camp = Camp::new();
    let _link = camp.link();
    camp.run(true).await;
    camp.push(1, RoutePhase::Ready);
    drop(camp.admit().await.unwrap());
    let snapshot = camp.wire.ledger.snapshot();
    camp.end(ReasonCode::Idle).await;
    camp.retract(1, true, ReasonCode::Idle);
    camp.run(true).await;
    camp.push(2, RoutePhase::Ready);
    drop(camp.admit().await.unwrap());
    camp.wire.ledger.restore(snapshot);
    camp.routes.forget(&camp.route(2, RoutePhase::Ready));
    let request = camp.admitting();
    pass(MOMENT).await;
    camp.push(1, RoutePhase::Ready);
    assert_eq!(request.await.unwrap().unwrap(), Generation(1), "the record decides, also when it goes back");
}

#[tokio::test(start_paused = true)]
async fn a_fence_of_a_run_that_a_restored_ledger_has_forgotten_is_lifted() {
    let camp = Camp::new();
    let link = camp.link();
    camp.run(true).await;
    let snapshot = camp.wire.ledger.snapshot();
    camp.end(ReasonCode::Idle).await;
    camp.run(true).await;
    camp.push(2, RoutePhase::Ready);
    assert_eq!(camp.table.fence(&camp.fence_order(2, 1), link.id), FenceAnswer::Fenced);
    camp.wire.ledger.restore(snapshot);
    let request = camp.admitting();
    pass(Duration::from_secs(5)).await;
    camp.push(1, RoutePhase::Ready);
    assert_eq!(request.await.unwrap().unwrap(), Generation(1));
}
