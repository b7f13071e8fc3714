use bivouac_protocol::RoutePhase;
use bivouac_protocol::link::Activity;

use super::*;
use crate::activity::Direction;
use crate::activity::gate::FenceAnswer;
use crate::link::outbox::Queue;
use crate::testing::{Camp, said, tag};

const SECOND: Duration = Duration::from_secs(1);

fn reported(queue: &mut Queue) -> Vec<Activity> {
    std::iter::from_fn(|| queue.messages.try_recv().ok())
        .filter_map(|message| if let FromProxy::Activity(activity) = message { Some(activity) } else { None })
        .collect()
}

async fn running() -> (Camp, Queue) {
    let camp = Camp::new();
    let link = camp.link();
    camp.run(false).await;
    camp.push(1, RoutePhase::Ready);
    let table = camp.table.clone();
    tokio::spawn(async move { table.report_changes().await });
    (camp, link)
}

#[tokio::test(start_paused = true)]
async fn both_edges_of_a_use_are_reported_with_rising_numbers() {
    let (camp, mut link) = running().await;
    let admitted = camp.admit().await.unwrap();
    tokio::time::sleep(SECOND).await;
    let busy = reported(&mut link);
    assert_eq!(busy.iter().map(|activity| (activity.open, activity.idle_ms)).collect::<Vec<_>>(), [(1, 0)]);
    assert_eq!(busy[0].generation, Some(Generation(1)));
    drop(admitted);
    tokio::time::sleep(SECOND).await;
    let idle = reported(&mut link);
    assert_eq!(idle.iter().map(|activity| activity.open).collect::<Vec<_>>(), [0]);
    assert!(idle[0].seq > busy[0].seq);
    assert!(idle[0].idle_ms <= 100);
}

#[tokio::test(start_paused = true)]
async fn many_short_uses_are_few_reports() {
    let (camp, mut link) = running().await;
    for _ in 0..1000 {
        drop(camp.admit().await.unwrap());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let reports = reported(&mut link).len();
    assert!((10..=25).contains(&reports), "{reports} reports in a second");
}

#[tokio::test(start_paused = true)]
async fn how_many_uses_there_are_is_reported_once_a_second_and_only_if_it_changed() {
    let (camp, mut link) = running().await;
    let first = camp.admit().await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(reported(&mut link).len(), 1, "the edge");
    let mut others = vec![camp.admit().await.unwrap(), camp.admit().await.unwrap()];
    for _ in 0..1000 {
        drop(camp.admit().await.unwrap());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let counts: Vec<_> =
        reported(&mut link).iter().map(|activity| (activity.open, activity.idle_ms)).collect();
    assert_eq!(counts, [(3, 0)], "and those that came and went meanwhile are not worth a word");
    others.pop();
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(reported(&mut link).iter().map(|activity| activity.open).collect::<Vec<_>>(), [2]);
    drop((others, first));
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(reported(&mut link).iter().map(|activity| activity.open).collect::<Vec<_>>(), [0]);
}

#[tokio::test(start_paused = true)]
async fn the_full_state_names_what_was_used_and_its_age() {
    let (camp, _link) = running().await;
    assert_eq!(camp.table.full_state(), [], "never used");
    drop(camp.admit().await.unwrap());
    tokio::time::sleep(30 * SECOND).await;
    let state = camp.table.full_state();
    assert_eq!(
        state.iter().map(|activity| (activity.open, activity.idle_ms)).collect::<Vec<_>>(),
        [(0, 30_000)]
    );
    camp.retract(1, true, bivouac_protocol::ReasonCode::Idle);
    assert_eq!(camp.table.full_state(), [], "over");
}

#[tokio::test(start_paused = true)]
async fn a_use_that_began_before_its_session_was_known_is_reported() {
    let camp = Camp::new();
    let mut link = camp.link();
    let table = camp.table.clone();
    tokio::spawn(async move { table.report_changes().await });
    camp.claim(false).await;
    let waiting = camp.admitting();
    tokio::time::sleep(SECOND).await;
    assert_eq!(reported(&mut link).iter().map(|activity| activity.open).collect::<Vec<_>>(), [1]);
    waiting.abort();
    let _ = waiting.await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(reported(&mut link).iter().map(|activity| activity.open).collect::<Vec<_>>(), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_session_in_use_or_used_too_recently_is_not_fenced() {
    let (camp, mut link) = running().await;
    let admitted = camp.admit().await.unwrap();
    let order =
        |attempt| bivouac_protocol::link::Fence { min_idle_ms: 5_000, ..camp.fence_order(1, attempt) };
    let echo = |attempt| FenceEcho { session: camp.id.clone(), generation: Generation(1), tag: tag(attempt) };
    assert_eq!(camp.table.fence(&order(1), link.id), FenceAnswer::Busy);
    drop(admitted);
    assert_eq!(camp.table.fence(&order(2), link.id), FenceAnswer::Busy);
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(camp.table.fence(&order(3), link.id), FenceAnswer::Fenced);
    let answers = [FromProxy::Busy(echo(1)), FromProxy::Busy(echo(2)), FromProxy::Fenced(echo(3))];
    assert_eq!(said(&mut link), answers);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_at_a_fence_stands_against_the_next_one() {
    let (camp, link) = running().await;
    assert_eq!(camp.table.fence(&camp.fence_order(1, 1), link.id), FenceAnswer::Fenced);
    let waiting = camp.admitting();
    tokio::time::sleep(SECOND).await;
    assert_eq!(camp.table.fence(&camp.fence_order(1, 2), link.id), FenceAnswer::Busy);
    camp.table.unfence(&camp.id, Fenced { tag: tag(2), generation: Generation(1) });
    assert!(waiting.await.unwrap().is_ok());
    assert_eq!(camp.table.fence(&camp.fence_order(1, 1), link.id), FenceAnswer::Stale, "it was lifted");
}

#[tokio::test(start_paused = true)]
async fn a_generation_that_is_over_is_not_fenced() {
    let (camp, link) = running().await;
    camp.push(2, RoutePhase::Starting);
    assert_eq!(camp.table.fence(&camp.fence_order(1, 1), link.id), FenceAnswer::Stale);
    camp.retract(2, true, bivouac_protocol::ReasonCode::Idle);
    assert_eq!(camp.table.fence(&camp.fence_order(2, 2), link.id), FenceAnswer::Stale);
}

#[tokio::test(start_paused = true)]
async fn retractions_are_forgotten_in_the_end_and_uses_are_not() {
    let (camp, _link) = running().await;
    drop(camp.admit().await.unwrap());
    camp.retract(1, true, bivouac_protocol::ReasonCode::Idle);
    camp.table.sweep();
    assert_eq!(camp.table.len(), 1, "a late route must find it retracted");
    tokio::time::sleep(REMEMBER_RETRACTED).await;
    camp.table.sweep();
    assert_eq!(camp.table.len(), 0);

    camp.push(2, RoutePhase::Ready);
    camp.table.mark_existing(&camp.table.find(&camp.id).unwrap(), Generation(2));
    camp.routes.forget(&camp.route(2, RoutePhase::Ready));
    assert_eq!(camp.table.sweep(), std::slice::from_ref(&camp.id), "its fate has to be looked up");
    assert_eq!(camp.table.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_under_an_earlier_membership_confirms_nothing() {
    let (camp, _link) = running().await;
    let epoch = camp.membership.borrow().epoch().unwrap();
    camp.table.end_epoch();
    let entry = camp.table.find(&camp.id).unwrap();
    camp.table.confirm(&entry, Generation(1), epoch);
    assert!(!entry.lock().gate.is_confirmed(Generation(1)));
    let epoch = camp.table.begin_epoch();
    camp.table.confirm(&entry, Generation(1), epoch);
    assert!(entry.lock().gate.is_confirmed(Generation(1)));
}

#[test]
fn the_last_of_many_threads_leaves_nothing_behind() {
    let table = Table::new(Clock::Boot, Arc::default(), Metrics::new());
    let id = SessionId::random();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let entered = table.enter(&id);
                    assert!(table.open() >= 1, "whoever is in is counted");
                    drop(entered);
                }
            });
        }
    });
    assert_eq!((table.open(), table.len()), (0, 0));
}

/// Lets a request in, whose session ends when its connections are silent, and makes it a carrier on which nothing moves.
async fn carrier(camp: &Camp) -> crate::admission::Admitted {
    let route = bivouac_protocol::Route { quiet: true, ..camp.route(1, RoutePhase::Ready) };
    assert!(camp.routes.push(route));
    let admitted = camp.admit().await.unwrap();
    admitted.carrier(Direction::ToClient).begin();
    for direction in [Direction::ToBackend, Direction::ToClient] {
        admitted.carrier(direction).hush();
    }
    admitted
}

fn silence(reports: &[Activity]) -> Vec<(u32, u32, Option<u64>)> {
    reports.iter().map(|report| (report.open, report.carriers, report.quiet_ms)).collect()
}

#[tokio::test(start_paused = true)]
async fn silence_is_reported_once_and_noise_after_it() {
    let camp = Camp::new();
    let mut link = camp.link();
    camp.run(false).await;
    let table = camp.table.clone();
    tokio::spawn(async move { table.report_changes().await });
    let admitted = carrier(&camp).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(silence(&reported(&mut link)), [(1, 1, Some(50))]);
    tokio::time::sleep(20 * SECOND).await;
    assert_eq!(reported(&mut link).len(), 0, "nothing has changed");
    for _ in 0..100 {
        let to_client = admitted.carrier(Direction::ToClient);
        assert!(to_client.pass().is_none());
        to_client.hush();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let reports = silence(&reported(&mut link));
    assert_eq!(reports.len(), 2, "bytes are no news each time: {reports:?}");
    assert!(reports.iter().all(|(_, carriers, quiet)| *carriers == 1 && *quiet < Some(200)), "{reports:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_is_too_loud_to_be_fenced_says_since_when() {
    let camp = Camp::new();
    let mut link = camp.link();
    camp.run(false).await;
    let admitted = carrier(&camp).await;
    tokio::time::sleep(3 * SECOND).await;
    let order = |attempt, min_idle_ms| bivouac_protocol::link::Fence {
        mode: bivouac_protocol::FenceMode::Quiet,
        min_idle_ms,
        ..camp.fence_order(1, attempt)
    };
    reported(&mut link);
    assert_eq!(camp.table.fence(&order(1, 5_000), link.id), FenceAnswer::Busy);
    let told: Vec<_> = std::iter::from_fn(|| link.messages.try_recv().ok()).collect();
    assert!(
        matches!(
            told.as_slice(),
            [FromProxy::Activity(Activity { carriers: 1, quiet_ms: Some(3_000), .. }), FromProxy::Busy(_)]
        ),
        "{told:?}"
    );
    drop(admitted);
}
