use std::time::Duration;

use bivouac_protocol::link::{Fence, FenceEcho, FromProxy};
use bivouac_protocol::{FenceMode, Generation, ReasonCode, Route, RoutePhase, Rules};
use futures::FutureExt;

use super::*;
use crate::activity::gate::{FenceAnswer, Fenced};
use crate::link::outbox::Queue;
use crate::testing::{Camp, said, tag};

const BOTH: [Direction; 2] = [Direction::ToBackend, Direction::ToClient];

/// A session that ends when its connections are silent, with one request that was let in.
async fn watched() -> (Camp, Queue, Admitted) {
    let camp = Camp::new();
    let link = camp.link();
    camp.run(false).await;
    let rules =
        Rules { ignore_paths: vec!["/healthz".to_owned(), "/probe/*".to_owned()], ..Rules::default() };
    assert!(camp.routes.push(Route { quiet: true, rules, ..camp.route(1, RoutePhase::Ready) }));
    let admitted = camp.admit().await.unwrap();
    (camp, link, admitted)
}

fn begin(admitted: &Admitted) {
    admitted.carrier(Direction::ToClient).begin();
    BOTH.iter().for_each(|direction| admitted.carrier(*direction).hush());
}

fn fence(camp: &Camp, link: &Queue, attempt: u64, mode: FenceMode) -> FenceAnswer {
    camp.table.fence(&Fence { mode, ..camp.fence_order(1, attempt) }, link.id)
}

#[tokio::test(start_paused = true)]
async fn a_request_is_in_the_way_until_its_answer_has_begun_and_everything_was_taken() {
    let (camp, link, admitted) = watched().await;
    assert_eq!(fence(&camp, &link, 1, FenceMode::Quiet), FenceAnswer::Busy);
    admitted.carrier(Direction::ToClient).begin();
    assert_eq!(fence(&camp, &link, 2, FenceMode::Quiet), FenceAnswer::Busy);
    admitted.carrier(Direction::ToBackend).hush();
    assert_eq!(fence(&camp, &link, 3, FenceMode::Quiet), FenceAnswer::Busy);
    admitted.carrier(Direction::ToClient).hush();
    assert_eq!(fence(&camp, &link, 4, FenceMode::Idle), FenceAnswer::Busy, "it is open");
    assert_eq!(fence(&camp, &link, 5, FenceMode::Quiet), FenceAnswer::Fenced);
}

#[tokio::test(start_paused = true)]
async fn bytes_at_the_fence_knock_once_and_go_on_when_it_is_lifted() {
    let (camp, mut link, admitted) = watched().await;
    begin(&admitted);
    assert_eq!(fence(&camp, &link, 1, FenceMode::Quiet), FenceAnswer::Fenced);
    let echo = FenceEcho { session: camp.id.clone(), generation: Generation(1), tag: tag(1) };
    assert_eq!(said(&mut link), [FromProxy::Fenced(echo.clone())]);
    let passing = async |direction| admitted.carrier(direction).passes().await;
    let [mut up, mut down] = BOTH.map(|direction| Box::pin(passing(direction)));
    assert!(up.as_mut().now_or_never().is_none() && down.as_mut().now_or_never().is_none());
    assert_eq!(said(&mut link), [FromProxy::Knock(echo)]);
    camp.table.unfence(&camp.id, Fenced { tag: tag(1), generation: Generation(1) });
    tokio::join!(up, down);
    assert_eq!(fence(&camp, &link, 2, FenceMode::Quiet), FenceAnswer::Busy, "they are not taken yet");
    BOTH.iter().for_each(|direction| admitted.carrier(*direction).hush());
    assert_eq!(fence(&camp, &link, 3, FenceMode::Quiet), FenceAnswer::Fenced);
}

#[tokio::test(start_paused = true)]
async fn nothing_passes_once_the_session_is_stopped_and_what_an_exited_one_has_said_does() {
    for (code, passes) in [(ReasonCode::Quiet, false), (ReasonCode::Exited, true)] {
        let (camp, link, admitted) = watched().await;
        begin(&admitted);
        assert_eq!(fence(&camp, &link, 1, FenceMode::Quiet), FenceAnswer::Fenced);
        let mut waiting = Box::pin(async {
            admitted.carrier(Direction::ToClient).passes().await;
        });
        assert!(waiting.as_mut().now_or_never().is_none());
        camp.retract(1, true, code);
        let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        assert_eq!(waited.is_ok(), passes, "{code:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_record_is_read_by_bytes_whose_fence_nobody_lifts() {
    let (camp, link, admitted) = watched().await;
    begin(&admitted);
    assert_eq!(fence(&camp, &link, 1, FenceMode::Quiet), FenceAnswer::Fenced);
    // Its leader is cut off from the ledger: after a while this proxy makes the commit impossible.
    admitted.carrier(Direction::ToBackend).passes().await;
    assert!(!camp.table.is_fenced_by(&camp.id, tag(1)));
}

#[tokio::test(start_paused = true)]
async fn an_ignored_path_is_never_in_the_way_of_a_quiet_fence() {
    let (camp, link, admitted) = watched().await;
    admitted.disregard("/doc");
    assert_eq!(fence(&camp, &link, 1, FenceMode::Quiet), FenceAnswer::Busy);
    admitted.disregard("/healthz");
    assert!(admitted.carrier(Direction::ToClient).pass().is_none());
    assert_eq!(fence(&camp, &link, 2, FenceMode::Idle), FenceAnswer::Busy);
    assert_eq!(fence(&camp, &link, 3, FenceMode::Quiet), FenceAnswer::Fenced);
    assert!(admitted.carrier(Direction::ToClient).pass().is_none(), "nor does it wait there");
}

#[tokio::test(start_paused = true)]
async fn without_a_quiet_timeout_a_use_is_a_use() {
    let camp = Camp::new();
    let link = camp.link();
    camp.run(false).await;
    camp.push(1, RoutePhase::Ready);
    let admitted = camp.admit().await.unwrap();
    begin(&admitted);
    admitted.disregard("/healthz");
    assert!(!admitted.carrier(Direction::ToClient).is_watched());
    assert_eq!(fence(&camp, &link, 1, FenceMode::Quiet), FenceAnswer::Busy);
}

#[test]
fn a_pattern_is_a_path_or_the_beginning_of_one() {
    assert!(matches("/healthz", "/healthz") && !matches("/healthz", "/healthz/deep"));
    assert!(matches("/probe/*", "/probe/") && matches("/probe/*", "/probe/live"));
    assert!(!matches("/probe/*", "/probes") && matches("*", "/anything"));
}
