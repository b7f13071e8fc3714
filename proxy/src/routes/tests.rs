use bivouac_protocol::{ReasonCode, RoutePhase};

use super::*;
use crate::activity::gate::FenceAnswer;
use crate::testing::{Camp, tag};

#[tokio::test(start_paused = true)]
async fn a_recycled_port_drops_whoever_had_it() {
    let camp = Camp::new();
    let _link = camp.link();
    camp.run(false).await;
    camp.push(1, RoutePhase::Ready);
    drop(camp.admit().await.unwrap());
    let newcomer = Route { session: SessionId::random(), ..camp.route(1, RoutePhase::Starting) };
    assert!(camp.routes.push(newcomer.clone()));
    let (route, confirmed) = camp
        .table
        .peek(&camp.id, |_, state| (state.known.route().cloned(), state.gate.is_confirmed(Generation(1))))
        .unwrap();
    assert_eq!(route, None);
    assert!(!confirmed);
    assert!(camp.table.peek(&newcomer.session, |_, state| state.known.route().is_some()).unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_recycled_further_port_drops_whoever_had_it() {
    let camp = Camp::new();
    let ready = RoutePhase::Ready;
    assert!(camp.routes.push(camp.route_with(1, ready, ready)));
    let further = camp.route_with(1, ready, ready).further.into_values().next().unwrap();
    let newcomer = Route {
        session: SessionId::random(),
        address: further.address,
        ..camp.route(1, RoutePhase::Starting)
    };
    assert!(camp.routes.push(newcomer.clone()));
    let routed = |id| camp.table.peek(id, |_, state| state.known.route().is_some());
    assert_eq!((routed(&camp.id), routed(&newcomer.session)), (Some(false), Some(true)));
    // Its other address is nobody's: whoever gets that one evicts nobody.
    let third = Route { session: SessionId::random(), ..camp.route(1, RoutePhase::Starting) };
    assert!(camp.routes.push(third));
    assert_eq!(routed(&newcomer.session), Some(true));
}

#[tokio::test(start_paused = true)]
async fn every_port_has_to_lie_where_backends_may_live() {
    let camp = Camp::new();
    let mut route = camp.route_with(1, RoutePhase::Ready, RoutePhase::Ready);
    route.further.values_mut().for_each(|endpoint| endpoint.address.set_port(22));
    assert!(!camp.routes.push(route));
    assert_eq!(camp.table.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_address_outside_of_the_networks_is_not_used() {
    let camp = Camp::new();
    let metadata =
        Route { address: "169.254.169.254:20001".parse().unwrap(), ..camp.route(1, RoutePhase::Ready) };
    assert!(!camp.routes.push(metadata));
    assert_eq!(camp.table.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_retraction_ends_the_fences_of_its_generation() {
    let camp = Camp::new();
    let link = camp.link();
    camp.push(1, RoutePhase::Ready);
    assert_eq!(camp.table.fence(&camp.fence_order(1, 1), link.id), FenceAnswer::Fenced);
    camp.retract(1, false, ReasonCode::Idle);
    assert!(!camp.table.is_fenced_by(&camp.id, tag(1)));
}

#[tokio::test(start_paused = true)]
async fn a_route_that_a_full_state_does_not_name_is_read_again() {
    let camp = Camp::new();
    let _link = camp.link();
    camp.run(false).await;
    camp.push(1, RoutePhase::Ready);
    drop(camp.admit().await.unwrap());
    camp.end(ReasonCode::Idle).await;
    camp.routes.doubt_unnamed(&[camp.id.clone()].into());
    assert!(camp.admit().await.is_ok(), "it was named");
    camp.routes.doubt_unnamed(&std::collections::HashSet::new());
    assert!(camp.admit().await.is_err());
}
