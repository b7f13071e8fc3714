//! The stop protocol of idle and of quiet sessions, explored completely within bounds. What is explored is the product's own code:
//! [`Gate`] (a proxy's guard and fence) and [`Attempt`] (a leader's stop). Around them stands a model of the rest of
//! the world: the ledger with its transactions, links that break, replicas that are deposed and do not know it, answers
//! that are lost, a proxy that joins in the middle.
//!
//! Each rule of the protocol is left out in turn, and the checker must find what goes wrong: a model that finds nothing
//! when a rule is missing would prove nothing when it is there.
//!
//! [`Gate`]: bivouac_proxy::activity::gate::Gate
//! [`Attempt`]: bivouac_service::session::attempt::Attempt

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test: what it prints is shown where it fails"
)]

mod actions;
mod carriers;
mod world;

use std::io::Write as _;
use std::time::Instant;

use bivouac_protocol::FenceMode;
use stateright::{Checker, Model, Property};
use world::{Bounds, Fault, Phase, Request, World};

const NO_REQUEST_IS_CUT: &str =
    "no request is admitted, and no byte passed, to a generation that is stopped before it is done with";
const NO_CONNECTION_IS_IDLE: &str = "no session is stopped for idleness while a connection is open";
const STOPPED_FOR_SILENCE: &str = "a session is stopped under a silent connection";
const SAVED_BY_BYTES: &str = "bytes at the fence save a session";

/// The world within bounds, with one rule left out or none.
#[derive(Clone, Debug)]
struct Stops {
    bounds: Bounds,
    left_out: Option<Fault>,
}

impl Model for Stops {
    type State = World;
    type Action = actions::Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.bounds)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Self::Action>) {
        world.possible(self.left_out, actions);
    }

    fn next_state(&self, world: &World, action: Self::Action) -> Option<World> {
        let mut next = world.clone();
        next.perform(self.left_out, action);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NO_REQUEST_IS_CUT, |_, w: &World| !w.cuts_an_admitted_request()),
            Property::always(NO_CONNECTION_IS_IDLE, |_, w: &World| !w.cut_for_idleness),
            Property::always("a commit needs every member fenced in its attempt", |_, w: &World| {
                !w.unfenced_commit
            }),
            Property::always("once all is quiet nobody is kept waiting", |model, w: &World| {
                !w.is_quiet(model.left_out) || w.keeps_nobody_waiting()
            }),
            Property::always(
                "once all is quiet no fence is left on a running session",
                |model, w: &World| !w.is_quiet(model.left_out) || !w.fences_a_running_session(),
            ),
            Property::sometimes("an idle session is stopped", |_, w: &World| w.record.phase == Phase::Ended),
            Property::sometimes("a held request is served by the next generation", |_, w: &World| {
                w.record.generation.0 == 2 && w.requests().any(|request| request == Request::Answered)
            }),
            Property::sometimes("a knock saves a session", |_, w: &World| w.saved_by_a_knock),
            Property::sometimes(STOPPED_FOR_SILENCE, |_, w: &World| w.stopped_for_silence),
            Property::sometimes(SAVED_BY_BYTES, |_, w: &World| w.saved_by_bytes),
        ]
    }
}

/// Past the test harness, which shows the output of failed tests only: how much was explored is worth knowing.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "model: {line}");
}

fn explore(name: &str, bounds: Bounds, left_out: Option<Fault>) -> impl Checker<Stops> + use<> {
    let begun = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = Stops { bounds, left_out }.checker().threads(threads);
    let checker = match left_out {
        None => checker.spawn_bfs().join(),
        // The first counterexample is enough.
        Some(_) => checker.finish_when(stateright::HasDiscoveries::AnyFailures).spawn_bfs().join(),
    };
    say(&format!(
        "{name}: {} states, {} of them unique, to depth {}, in {:.1?}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        begun.elapsed()
    ));
    checker
}

fn holds(name: &str, bounds: Bounds) {
    let checker = explore(name, bounds, None);
    checker.assert_no_discovery(NO_REQUEST_IS_CUT);
    checker.assert_no_discovery(NO_CONNECTION_IS_IDLE);
    checker.assert_no_discovery("a commit needs every member fenced in its attempt");
    checker.assert_no_discovery("once all is quiet nobody is kept waiting");
    checker.assert_no_discovery("once all is quiet no fence is left on a running session");
    checker.assert_any_discovery("an idle session is stopped");
    checker.assert_any_discovery("a held request is served by the next generation");
    if bounds.modes.contains(&FenceMode::Quiet) {
        checker.assert_any_discovery(STOPPED_FOR_SILENCE);
        // Where there is one member alone, its word is the last one.
        if bounds.proxies > 1 {
            checker.assert_any_discovery(SAVED_BY_BYTES);
        }
    }
}

#[track_caller]
fn is_found(fault: Fault, bounds: Bounds) {
    let checker = explore(&format!("without {fault:?}"), bounds, Some(fault));
    let failed: Vec<_> = checker
        .discoveries()
        .into_iter()
        .filter(|(name, _)| checker.discovery_classification(name).to_string().contains("counterexample"))
        .map(|(name, path)| (name, path.into_actions()))
        .collect();
    for (name, actions) in &failed {
        say(&format!("  found in {} steps: \"{name}\" does not hold", actions.len()));
        println!("{actions:?}");
    }
    assert!(!failed.is_empty(), "leaving out {fault:?} must be found");
}

#[test]
fn one_proxy_and_two_replicas_with_every_fault() {
    holds("one proxy, two replicas", Bounds { proxies: 1, ..Bounds::SMALL });
}

#[test]
fn a_second_proxy_that_joins_in_the_middle() {
    holds("a proxy joins", Bounds { replicas: 1, depositions: 0, ..Bounds::SMALL });
}

#[test]
fn two_proxies_and_two_replicas() {
    // With patience lost as well it holds too, in 74 million states: too many for every run.
    let bounds = Bounds { lost_links: 0, lost_answers: 0, impatience: 0, ..Bounds::SMALL };
    holds("two proxies, two replicas", bounds);
}

const BOTH: &[FenceMode] = &[FenceMode::Idle, FenceMode::Quiet];

#[test]
fn silent_connections_with_one_proxy_and_two_replicas() {
    // With answers lost as well it holds too, in 7 million states.
    let bounds = Bounds { proxies: 1, lost_answers: 0, bytes: 1, ..Bounds::QUIET };
    holds("silence, one proxy, two replicas", bounds);
}

#[test]
fn silent_connections_and_a_second_proxy_that_joins_in_the_middle() {
    // With patience lost as well it holds too, in 18 million states.
    let bounds =
        Bounds { replicas: 1, depositions: 0, lost_answers: 0, impatience: 0, bytes: 1, ..Bounds::QUIET };
    holds("silence, a proxy joins", bounds);
}

#[test]
fn two_connections_and_stops_of_both_kinds() {
    let bounds = Bounds {
        proxies: 1,
        replicas: 1,
        requests: 2,
        modes: BOTH,
        depositions: 0,
        lost_answers: 0,
        ..Bounds::QUIET
    };
    holds("two connections, stops of both kinds", bounds);
}

#[test]
fn each_rule_that_is_left_out_is_found() {
    for fault in Fault::ALL {
        let bounds = match fault {
            // Seen only by a proxy whose first request was served by the generation that is stopped.
            Fault::UnfenceNamesItsGeneration => Bounds {
                proxies: 1,
                replicas: 1,
                requests: 2,
                depositions: 0,
                lost_answers: 0,
                impatience: 0,
                ..Bounds::SMALL
            },
            Fault::BytesAsk
            | Fault::CarriersInTheWord
            | Fault::BytesUntilTaken
            | Fault::HeldBytesAskAgain => Bounds::QUIET,
            Fault::ModeOfTheOrder => Bounds { modes: BOTH, ..Bounds::QUIET },
            // Seen only by a second request of a proxy whose first was admitted before the stop.
            Fault::ReadOnRefusal => Bounds {
                proxies: 1,
                replicas: 1,
                requests: 2,
                depositions: 0,
                lost_links: 0,
                ..Bounds::SMALL
            },
            _ => Bounds::SMALL,
        };
        is_found(fault, bounds);
    }
}
