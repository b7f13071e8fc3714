//! Further ports, seats, and what is told of a start.

use bivouac_protocol::{Route, Rules};

use super::*;
use crate::page::timeline::Progress;
use crate::testing::{ADMIN, SEATS};

const READY: RoutePhase = RoutePhase::Ready;
const STARTING: RoutePhase = RoutePhase::Starting;

#[tokio::test(start_paused = true)]
async fn each_port_is_waited_for_by_itself() {
    let camp = Camp::new();
    let _link = camp.link();
    camp.run(false).await;
    assert!(camp.routes.push(camp.route_with(1, READY, STARTING)));
    assert_eq!(camp.admit().await.unwrap().endpoint().address.port(), 20_001);
    let request = camp.admitting_to(Some(ADMIN));
    pass(3 * Duration::from_secs(1)).await;
    assert!(!request.is_finished());
    assert!(camp.routes.push(camp.route_with(1, READY, READY)));
    assert_eq!(request.await.unwrap(), Ok(Generation(1)));
    let admitted = camp.admit_to(Some(ADMIN)).await.unwrap();
    assert_eq!(admitted.endpoint().address.port(), 21_001);
    assert_eq!(camp.admit_to(Some("http")).await.unwrap().endpoint().address.port(), 20_001);
}

#[tokio::test(start_paused = true)]
async fn a_further_port_may_be_ready_first() {
    let camp = Camp::new();
    let _link = camp.link();
    camp.run(false).await;
    assert!(camp.routes.push(camp.route_with(1, STARTING, READY)));
    assert!(camp.admit_to(Some(ADMIN)).await.is_ok());
    let request = camp.admitting();
    pass(MOMENT).await;
    assert!(!request.is_finished());
    camp.push(1, READY);
    assert_eq!(request.await.unwrap(), Ok(Generation(1)));
    assert!(camp.admit_to(Some(ADMIN)).await.is_ok(), "it is still known");
}

#[tokio::test(start_paused = true)]
async fn a_port_that_the_template_does_not_have_is_unknown() {
    let camp = Camp::new();
    let _link = camp.link();
    camp.claim(false).await;
    assert_eq!(camp.admit_to(Some("nope")).await.err(), Some(Refusal::UnknownPort), "it only starts");
    camp.pin().await;
    assert!(camp.routes.push(camp.route_with(1, READY, READY)));
    drop(camp.admit().await.unwrap());
    let before = camp.wire.reads.load(Ordering::SeqCst);
    for _ in 0..10 {
        assert_eq!(camp.admit_to(Some("nope")).await.err(), Some(Refusal::UnknownPort));
    }
    assert_eq!(camp.wire.reads.load(Ordering::SeqCst), before, "what its record said is remembered");
    camp.end(ReasonCode::Idle).await;
    camp.retract(1, true, ReasonCode::Idle);
    assert_eq!(camp.admit_to(Some("nope")).await.err(), Some(Refusal::UnknownPort));
}

#[tokio::test(start_paused = true)]
async fn alone_a_further_port_is_resolved_with_what_its_record_says() {
    let camp = Camp::new();
    camp.run(false).await;
    let mut registered = camp.route_with(1, READY, READY);
    for endpoint in registered.further.values_mut() {
        endpoint.protocol = bivouac_protocol::Protocol::Http;
    }
    camp.directory.register(registered);
    let admitted = camp.admit_to(Some(ADMIN)).await.unwrap();
    assert_eq!(*admitted.endpoint(), camp.route_with(1, READY, READY).further[&ADMIN.parse().unwrap()]);
    assert_eq!(admitted.route().rules.max_connections, Some(SEATS), "the directory knows nothing of rules");
    assert_eq!(admitted.route().address.port(), 20_001);
}

#[tokio::test(start_paused = true)]
async fn a_port_that_is_registered_late_is_found() {
    let camp = Camp::new();
    camp.run(false).await;
    camp.directory.register(camp.route(1, READY));
    drop(camp.admit().await.unwrap());
    let request = camp.admitting_to(Some(ADMIN));
    pass(2 * Duration::from_secs(1)).await;
    assert!(!request.is_finished());
    camp.directory.register(camp.route_with(1, READY, READY));
    assert_eq!(request.await.unwrap(), Ok(Generation(1)));
}

#[tokio::test(start_paused = true)]
async fn a_registration_of_a_further_port_alone_is_not_the_session() {
    let camp = Camp::new();
    camp.run(false).await;
    let further = camp.route_with(1, READY, READY).further[&ADMIN.parse().unwrap()];
    let registered = Route::new(
        camp.id.clone(),
        Generation(1),
        camp.route(1, READY).allocation,
        ADMIN.parse().unwrap(),
        further,
    );
    camp.directory.register(registered);
    let request = camp.admitting();
    pass(2 * Duration::from_secs(1)).await;
    assert!(!request.is_finished());
    camp.directory.register(camp.route_with(1, READY, READY));
    assert_eq!(request.await.unwrap(), Ok(Generation(1)));
    assert_eq!(camp.admit().await.unwrap().endpoint().address.port(), 20_001);
}

#[tokio::test(start_paused = true)]
async fn a_replica_knows_more_of_a_further_port_than_the_directory() {
    let camp = Camp::new();
    let _link = camp.link();
    camp.run(false).await;
    camp.ready().await;
    camp.directory.register(camp.route_with(1, READY, READY));
    assert!(camp.admit().await.is_ok());
    let request = camp.admitting_to(Some(ADMIN));
    pass(2 * Duration::from_secs(1)).await;
    assert!(!request.is_finished(), "nobody has said that it is ready");
    assert!(camp.routes.push(camp.route_with(1, READY, READY)));
    assert_eq!(request.await.unwrap(), Ok(Generation(1)));
}

#[tokio::test(start_paused = true)]
async fn a_full_session_says_so_until_somebody_leaves() {
    let camp = Camp::new();
    let _link = camp.link();
    camp.run(false).await;
    let rules = Rules { max_connections: Some(2), ..Rules::default() };
    assert!(camp.routes.push(Route { rules, ..camp.route_with(1, READY, READY) }));
    let first = camp.admit().await.unwrap();
    let _second = camp.admit_to(Some(ADMIN)).await.unwrap();
    assert_eq!(camp.admit().await.err(), Some(Refusal::TooManyConnections), "on whatever port");
    drop(first);
    assert!(camp.admit().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_told_how_far_it_is() {
    let camp = Camp::new();
    let _link = camp.link();
    let progress = || match camp.admission.starting(&camp.id) {
        Refusal::StillStarting { progress, .. } => progress,
        other => panic!("{other:?}"),
    };
    assert_eq!(progress(), Progress::default());
    assert_eq!(camp.table.len(), 0, "to ask leaves no entry");
    camp.claim(false).await;
    let _request = camp.admitting();
    pass(MOMENT).await;
    let shown = || crate::page::timeline::shown(&progress());
    assert!(shown().contains("Looking for a host"), "{}", shown());
    camp.pin().await;
    camp.push(1, STARTING);
    pass(MOMENT).await;
    assert!(shown().contains("Placed on a host") && shown().contains(">Starting"), "{}", shown());
}
