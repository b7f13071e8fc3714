//! Each port of a session is probed, and routed, by itself.

use bivouac_protocol::{PortLabel, PortPolicy, Protocol, RoutePhase};

use super::*;

fn label(text: &str) -> PortLabel {
    text.parse().unwrap()
}

/// A running session with a further port, of which nothing has answered yet.
fn two_ports(now: Instant) -> Facts {
    let mut facts = facts_in(Phase::Running, now);
    let admin = PortPolicy { protocol: Protocol::H2c, ready_path: Some("/up".to_owned()) };
    facts.record.value.policy.further.insert(label("admin"), admin);
    let mut seen = allocated(Status::Running);
    seen.ports.insert(label("admin"), "127.0.0.1:20001".parse().unwrap());
    facts.on_allocation(seen, now, Timestamp::from_second(START).unwrap());
    facts
}

fn phases(facts: &Facts) -> (RoutePhase, RoutePhase) {
    let route = facts.route().unwrap();
    (route.phase, route.further[&label("admin")].phase)
}

#[test]
fn a_session_is_ready_with_its_default_port_and_its_further_ones_are_asked_on() {
    let now = Instant::now();
    let mut facts = two_ports(now);
    assert_eq!(phases(&facts), (RoutePhase::Starting, RoutePhase::Starting));
    assert_eq!(decide(&facts, &around(now)).effects, [Effect::Probe]);
    let silent = facts.silent_ports();
    assert_eq!(silent.keys().map(PortLabel::as_str).collect::<Vec<_>>(), ["admin", "http"]);
    let admin = &silent[&label("admin")];
    assert_eq!((admin.protocol, admin.ready_path.as_deref()), (Protocol::H2c, Some("/up")));
    facts.open.insert(label("http"));
    assert!(facts.is_ready());
    assert_eq!(phases(&facts), (RoutePhase::Ready, RoutePhase::Starting));
    assert_eq!(decide(&facts, &around(now)).effects, [Effect::MarkReady, Effect::Probe]);
    facts.open.insert(label("admin"));
    assert_eq!(phases(&facts), (RoutePhase::Ready, RoutePhase::Ready));
    assert_eq!(decide(&facts, &around(now)).effects, [Effect::MarkReady]);
}

#[test]
fn a_further_port_that_answers_first_is_routed_and_makes_no_session_ready() {
    let now = Instant::now();
    let mut facts = two_ports(now);
    facts.open.insert(label("admin"));
    assert_eq!(phases(&facts), (RoutePhase::Starting, RoutePhase::Ready));
    let late = around(now + Duration::from_secs(60));
    let effects = decide(&facts, &late).effects;
    assert!(
        matches!(&effects[..], [Effect::BeginStop(reason)] if reason.code == ReasonCode::StartupTimeout),
        "{effects:?}"
    );
}

#[test]
fn a_replica_that_comes_later_asks_the_further_ports_again() {
    let now = Instant::now();
    let mut facts = two_ports(now);
    facts.record.value.timeline.ready = Some(Timestamp::UNIX_EPOCH);
    assert_eq!(phases(&facts), (RoutePhase::Ready, RoutePhase::Starting));
    assert_eq!(decide(&facts, &around(now)).effects, [Effect::Probe]);
    assert_eq!(facts.silent_ports().len(), 1, "of the default port the record remembers it");
}

#[test]
fn a_port_that_its_job_does_not_have_is_neither_routed_nor_asked() {
    let now = Instant::now();
    let mut facts = facts_in(Phase::Running, now);
    see(&mut facts, Status::Running, now);
    facts
        .record
        .value
        .policy
        .further
        .insert(label("gone"), PortPolicy { protocol: Protocol::Http, ready_path: None });
    facts.record.value.timeline.ready = Some(Timestamp::UNIX_EPOCH);
    assert!(facts.route().unwrap().further.is_empty());
    assert_eq!(decide(&facts, &around(now)).effects, []);
}
