use bivouac_protocol::Term;
use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const GENERATION: Generation = Generation(1);

fn order(attempt: u64) -> Fenced {
    Fenced { tag: FenceTag { term: Term(1), attempt }, generation: GENERATION }
}

/// With one carrier on which nothing moves, at no time.
fn carrying() -> Gate {
    let mut gate = Gate::default();
    assert_eq!(gate.enter(), Entry::Entered);
    gate.hush(Duration::ZERO);
    gate
}

#[test]
fn a_carrier_is_in_the_way_of_an_idle_fence_and_not_of_a_quiet_one() {
    let mut gate = carrying();
    assert_eq!(gate.fence(order(1), FenceMode::Idle, SECOND, 9 * SECOND), FenceAnswer::Busy);
    assert_eq!(gate.fence(order(2), FenceMode::Quiet, 10 * SECOND, 9 * SECOND), FenceAnswer::Busy);
    assert_eq!(gate.fence(order(3), FenceMode::Quiet, SECOND, 9 * SECOND), FenceAnswer::Fenced);
    assert_eq!(gate.raise(GENERATION, 9 * SECOND), Raised::Held(order(3)));
}

#[test]
fn an_idle_order_does_not_take_a_quiet_fence_over_while_a_carrier_is_open() {
    let mut gate = carrying();
    assert_eq!(gate.fence(order(1), FenceMode::Quiet, SECOND, 9 * SECOND), FenceAnswer::Fenced);
    assert_eq!(gate.fence(order(2), FenceMode::Idle, SECOND, 9 * SECOND), FenceAnswer::Busy);
    assert_eq!(gate.fenced(), Some(order(1)), "the one that was installed stays");
    gate.leave_carrier(9 * SECOND);
    assert_eq!(gate.fence(order(3), FenceMode::Idle, SECOND, 9 * SECOND), FenceAnswer::Busy, "just left");
    assert_eq!(gate.fence(order(4), FenceMode::Idle, SECOND, 10 * SECOND), FenceAnswer::Fenced);
}

#[test]
fn bytes_that_were_passed_and_not_taken_are_in_the_way_of_every_fence() {
    let mut gate = carrying();
    assert_eq!(gate.raise(GENERATION, SECOND), Raised::Passed);
    assert_eq!(gate.fence(order(1), FenceMode::Quiet, Duration::ZERO, 9 * SECOND), FenceAnswer::Busy);
    gate.hush(9 * SECOND);
    assert_eq!(gate.fence(order(2), FenceMode::Quiet, Duration::ZERO, 9 * SECOND), FenceAnswer::Fenced);
}

#[test]
fn bytes_that_wait_stand_against_the_next_fence_and_pass_once_it_is_lifted() {
    let mut gate = carrying();
    assert_eq!(gate.fence(order(1), FenceMode::Quiet, SECOND, 9 * SECOND), FenceAnswer::Fenced);
    assert_eq!(gate.raise(GENERATION, 9 * SECOND), Raised::Held(order(1)));
    assert_eq!(gate.fence(order(2), FenceMode::Quiet, SECOND, 9 * SECOND), FenceAnswer::Busy);
    gate.unfence(order(2));
    gate.stop_waiting();
    assert_eq!(gate.raise(GENERATION, 9 * SECOND), Raised::Passed);
}

#[test]
fn nothing_passes_to_a_generation_that_is_over() {
    let mut gate = carrying();
    assert_eq!(gate.fence(order(1), FenceMode::Quiet, SECOND, 9 * SECOND), FenceAnswer::Fenced);
    gate.retract(GENERATION);
    assert_eq!(gate.raise(GENERATION, 9 * SECOND), Raised::Over);
    assert_eq!(gate.raise(Generation(2), 9 * SECOND), Raised::Passed);
}

#[test]
fn an_attempt_says_that_earlier_generations_are_over() {
    let mut gate = carrying();
    assert_eq!(gate.fence(order(1), FenceMode::Quiet, SECOND, 9 * SECOND), FenceAnswer::Fenced);
    assert_eq!(gate.raise(GENERATION, 9 * SECOND), Raised::Held(order(1)));
    let of_the_next = Fenced { generation: Generation(2), ..order(2) };
    let [mut fenced, mut unfenced] = [gate.clone(), gate];
    fenced.fence(of_the_next, FenceMode::Quiet, 20 * SECOND, 9 * SECOND);
    unfenced.unfence(of_the_next);
    for mut gate in [fenced, unfenced] {
        assert_eq!(gate.fenced(), None, "the fence has done its work");
        gate.stop_waiting();
        assert_eq!(gate.raise(GENERATION, 9 * SECOND), Raised::Over);
    }
}

#[test]
fn the_end_of_a_carrier_is_a_use_and_no_noise() {
    let mut gate = carrying();
    gate.leave_carrier(5 * SECOND);
    assert_eq!(gate.idle_for(9 * SECOND), Some(4 * SECOND));
    assert_eq!(gate.quiet_for(9 * SECOND), Some(9 * SECOND));
}

/// What one of the uses in the property below does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Use {
    Plain,
    Carrier,
    Ignored,
    Raised,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Enter,
    Carry(usize),
    Ignore(usize),
    Raise(usize),
    Leave(usize),
    Fence(FenceMode, u64),
    Unfence,
}

fn acts() -> impl Strategy<Value = Vec<(Act, u64)>> {
    let act = prop_oneof![
        Just(Act::Enter),
        any::<usize>().prop_map(Act::Carry),
        any::<usize>().prop_map(Act::Ignore),
        any::<usize>().prop_map(Act::Raise),
        any::<usize>().prop_map(Act::Leave),
        (prop_oneof![Just(FenceMode::Idle), Just(FenceMode::Quiet)], 0u64..4)
            .prop_map(|(mode, least)| Act::Fence(mode, least)),
        Just(Act::Unfence),
    ];
    prop::collection::vec((act, 0u64..3), 0..60)
}

proptest! {
    #[test]
    fn a_fence_stands_only_where_nothing_happens_that_it_regards(acts in acts()) {
        let (mut gate, mut uses, mut now) = (Gate::default(), Vec::<Use>::new(), Duration::ZERO);
        let (mut noise, mut attempts) = (None, 0);
        for (act, later) in acts {
            now += Duration::from_secs(later);
            let chosen = |n: usize| n.checked_rem(uses.len());
            match act {
                Act::Enter => match gate.enter() {
                    Entry::Entered => uses.push(Use::Plain),
                    Entry::Held(_) => gate.stop_waiting(),
                },
                Act::Carry(n) => {
                    if let Some(n) = chosen(n).filter(|n| matches!(uses[*n], Use::Plain | Use::Raised)) {
                        gate.hush(now);
                        (uses[n], noise) = (Use::Carrier, Some(now));
                    }
                }
                Act::Ignore(n) => {
                    if let Some(n) = chosen(n).filter(|n| uses[*n] == Use::Plain) {
                        gate.ignore();
                        uses[n] = Use::Ignored;
                    }
                }
                Act::Raise(n) => {
                    if let Some(n) = chosen(n).filter(|n| uses[*n] == Use::Carrier) {
                        match gate.raise(GENERATION, now) {
                            Raised::Passed => {
                                prop_assert_eq!(gate.fenced(), None);
                                (uses[n], noise) = (Use::Raised, Some(now));
                            }
                            Raised::Held(_) => {
                                prop_assert!(gate.fenced().is_some());
                                gate.stop_waiting();
                            }
                            Raised::Over => prop_assert!(false, "nothing is over"),
                        }
                    }
                }
                Act::Leave(n) => {
                    if let Some(n) = chosen(n) {
                        match uses.swap_remove(n) {
                            Use::Plain | Use::Raised => {
                                gate.leave(now);
                                noise = Some(now);
                            }
                            Use::Carrier | Use::Ignored => gate.leave_carrier(now),
                        }
                    }
                }
                Act::Fence(mode, least) => {
                    attempts += 1;
                    let answer = gate.fence(order(attempts), mode, Duration::from_secs(least), now);
                    if answer == FenceAnswer::Fenced {
                        let loud = uses.iter().any(|used| matches!(used, Use::Plain | Use::Raised));
                        prop_assert!(!loud);
                        if mode == FenceMode::Idle {
                            prop_assert!(uses.is_empty());
                        }
                        prop_assert!(noise.is_none_or(|at| now - at >= Duration::from_secs(least)));
                    }
                }
                Act::Unfence => {
                    gate.unfence(order(attempts));
                }
            }
            let silent = uses.iter().filter(|used| matches!(used, Use::Carrier | Use::Ignored)).count();
            prop_assert_eq!((gate.open() as usize, gate.carriers() as usize), (uses.len(), silent));
            let expected = if silent < uses.len() { Some(Duration::ZERO) } else { noise.map(|at| now - at) };
            prop_assert_eq!(gate.quiet_for(now), expected);
        }
    }
}
