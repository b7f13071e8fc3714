use std::sync::atomic::Ordering;

use bivouac_protocol::{ReasonCode, RoutePhase};

use super::*;
use crate::testing::{Camp, pass, tag};

const SECOND: Duration = Duration::from_secs(1);

/// A running session, fenced by the first attempt, whose leader was just lost.
async fn fenced() -> (Camp, tokio::task::JoinHandle<()>) {
    let camp = Camp::new();
    let link = camp.link();
    camp.run(false).await;
    camp.push(1, RoutePhase::Ready);
    camp.table.fence(&camp.fence_order(1, 1), link.id);
    let lifter = Lifter::new(camp.table.clone(), camp.routes.clone(), camp.wire.clone());
    let (id, fenced) = (camp.id.clone(), Fenced { tag: tag(1), generation: Generation(1) });
    let lifting = async move { lifter.release(&id, fenced).await };
    (camp, tokio::spawn(lifting))
}

#[tokio::test(start_paused = true)]
async fn a_running_session_is_bumped_and_freed() {
    let (camp, lifting) = fenced().await;
    let before = camp.records.read(&camp.id).await.unwrap().unwrap();
    lifting.await.unwrap();
    let after = camp.records.read(&camp.id).await.unwrap().unwrap();
    assert!(after.index > before.index, "whatever was prepared against the old revision is refused");
    assert!(!camp.table.is_fenced_by(&camp.id, tag(1)));
    assert!(camp.admit().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_newer_fence_stays() {
    let (camp, lifting) = fenced().await;
    let link = camp.link();
    camp.table.fence(&camp.fence_order(1, 2), link.id);
    lifting.await.unwrap();
    assert!(camp.table.is_fenced_by(&camp.id, tag(2)));
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_was_committed_is_waited_for() {
    let camp_and_lifting = fenced();
    let (camp, lifting) = camp_and_lifting.await;
    camp.stop(ReasonCode::Idle).await;
    pass(3 * SECOND).await;
    assert!(camp.table.is_fenced_by(&camp.id, tag(1)));
    camp.end(ReasonCode::Idle).await;
    lifting.await.unwrap();
    assert!(!camp.table.is_fenced_by(&camp.id, tag(1)));
    assert!(camp.table.peek(&camp.id, |_, state| state.known.is_over(Generation(1))).unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_successor_frees_what_its_predecessor_left() {
    let (camp, lifting) = fenced().await;
    camp.stop(ReasonCode::Idle).await;
    camp.end(ReasonCode::Idle).await;
    camp.run(false).await;
    lifting.await.unwrap();
    camp.push(2, RoutePhase::Ready);
    assert_eq!(camp.admit().await.unwrap().route().generation, Generation(2));
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_ledger_is_asked_again() {
    let camp = Camp::new();
    let link = camp.link();
    camp.run(false).await;
    camp.push(1, RoutePhase::Ready);
    camp.table.fence(&camp.fence_order(1, 1), link.id);
    camp.cut_wire(true);
    let lifter = Lifter::new(camp.table.clone(), camp.routes.clone(), camp.wire.clone());
    let (id, fenced) = (camp.id.clone(), Fenced { tag: tag(1), generation: Generation(1) });
    let lifting = tokio::spawn(async move { lifter.release(&id, fenced).await });
    pass(5 * SECOND).await;
    assert!(camp.table.is_fenced_by(&camp.id, tag(1)), "nothing follows from silence");
    assert!(camp.wire.reads.load(Ordering::SeqCst) >= 3);
    camp.cut_wire(false);
    lifting.await.unwrap();
    assert!(!camp.table.is_fenced_by(&camp.id, tag(1)));
}
