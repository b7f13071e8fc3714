mod away;
mod ports;

use bivouac_ledger::records::{self, Versioned};
use bivouac_protocol::{Policy, Record, SessionId, Span};
use proptest::prelude::*;

use super::*;
use crate::backend::Allocated;
use crate::session::samples;

const START: i64 = 1_000_000;

fn record() -> Record {
    let policy = Policy { max_lifetime: Some(Span::seconds(3_600)), ..samples::policy() };
    let claim = samples::claim(policy, Timestamp::from_second(START).unwrap());
    records::claimed(None, Generation(0), &claim)
}

fn facts_in(phase: Phase, now: Instant) -> Facts {
    let mut value = record();
    value.phase = phase;
    if phase == Phase::Running {
        value.allocation = Some("a1".parse().unwrap());
    }
    Facts::new(SessionId::random(), Versioned { value, index: 10 }, now)
}

fn around(now: Instant) -> Surroundings {
    Surroundings {
        now,
        wall: Timestamp::from_second(START).unwrap(),
        leads: true,
        verdict: None,
        claim_timeout: Duration::from_secs(5),
        stop_retry: Duration::from_secs(5),
        retention: (SignedDuration::from_hours(168), SignedDuration::from_hours(24)),
    }
}

fn allocated(status: Status) -> Allocated {
    Allocated {
        allocation: "a1".parse().unwrap(),
        ports: [("http".parse().unwrap(), "127.0.0.1:20000".parse().unwrap())].into(),
        node: None,
        status,
        restarted: false,
        displaced: None,
    }
}

fn see(facts: &mut Facts, status: Status, now: Instant) {
    facts.on_allocation(allocated(status), now, Timestamp::from_second(START).unwrap());
}

#[test]
fn who_won_the_claim_registers_and_anybody_else_waits_looks_and_only_then_takes_over() {
    let now = Instant::now();
    let mut facts = facts_in(Phase::Claimed, now);
    let later = around(now + Duration::from_secs(6));
    assert_eq!(decide(&facts, &around(now)).effects, []);
    assert_eq!(decide(&facts, &later).effects, [Effect::Inspect]);
    facts.job = Job::Absent;
    assert_eq!(decide(&facts, &later).effects, [Effect::TakeOver]);
    facts.job = Job::Registered;
    assert_eq!(
        decide(&facts, &later).effects,
        [Effect::Inspect],
        "it exists: was it placed, and nobody told?"
    );
    facts.waiting_for = Some("memory".to_owned());
    assert_eq!(decide(&facts, &later).effects, [], "it waits for room");
    facts.waiting_for = None;
    facts.owned = true;
    assert_eq!(decide(&facts, &later).effects, [Effect::Inspect], "also for who registered it");
    facts.owned = false;
    facts.job = Job::Unseen;
    facts.owned = true;
    assert_eq!(decide(&facts, &around(now)).effects, [Effect::Register]);
}

#[test]
fn the_first_allocation_is_pinned_and_a_second_one_is_the_end_of_the_session() {
    let now = Instant::now();
    let mut facts = facts_in(Phase::Claimed, now);
    facts.owned = true;
    see(&mut facts, Status::Pending, now);
    assert_eq!(decide(&facts, &around(now)).effects, [Effect::Pin("a1".parse().unwrap())]);

    let mut facts = facts_in(Phase::Running, now);
    see(&mut facts, Status::Running, now);
    assert_eq!(decide(&facts, &around(now)).effects, [Effect::Probe]);
    let newcomer = Allocated { allocation: "a2".parse().unwrap(), ..allocated(Status::Running) };
    facts.on_allocation(newcomer, now, Timestamp::UNIX_EPOCH);
    assert_eq!(
        decide(&facts, &around(now)).effects,
        [Effect::Inspect],
        "why it was replaced is asked for first"
    );
    facts.inspected_at = Some(now);
    let effects = decide(&facts, &around(now)).effects;
    assert!(
        matches!(&effects[..], [Effect::BeginStop(reason)] if reason.code == ReasonCode::Lost),
        "{effects:?}"
    );
    assert_eq!(facts.route(), None, "the newcomer is never routed, and neither is who it replaced");
}

#[test]
fn an_idle_stop_needs_the_lead_the_verdict_and_the_whole_timeout() {
    let now = Instant::now();
    let mut facts = facts_in(Phase::Running, now);
    see(&mut facts, Status::Running, now);
    facts.open.insert("http".parse().unwrap());
    facts.record.value.timeline.ready = Some(Timestamp::UNIX_EPOCH);
    let idle = Some(Verdict::Idle { since: now });
    let at = |seconds| Surroundings { verdict: idle.clone(), ..around(now + Duration::from_secs(seconds)) };
    assert_eq!(decide(&facts, &at(30)).effects, [Effect::Prepare]);
    let early = decide(&facts, &at(29));
    assert_eq!(
        (early.effects, early.again_at.map(|at| at <= now + Duration::from_secs(30))),
        (vec![], Some(true))
    );
    assert_eq!(decide(&facts, &Surroundings { leads: false, ..at(30) }).effects, []);
    let silent = Verdict::Unknown { silent: vec![] };
    assert_eq!(decide(&facts, &Surroundings { verdict: Some(silent), ..at(300) }).effects, []);
    assert_eq!(
        decide(&facts, &Surroundings { verdict: Some(Verdict::Busy { silent_since: None }), ..at(300) })
            .effects,
        []
    );
    assert_eq!(
        decide(&facts, &Surroundings { verdict: None, ..at(300) }).effects,
        [],
        "no members were read"
    );
}

#[test]
fn a_lease_keeps_what_is_idle_and_its_end_is_looked_at() {
    let now = Instant::now();
    let mut facts = facts_in(Phase::Running, now);
    see(&mut facts, Status::Running, now);
    facts.record.value.timeline.ready = Some(Timestamp::UNIX_EPOCH);
    let until = now + Duration::from_secs(500);
    let leased = |seconds| Surroundings {
        verdict: Some(Verdict::Leased { until }),
        ..around(now + Duration::from_secs(seconds))
    };
    let decision = decide(&facts, &leased(300));
    assert_eq!((decision.effects, decision.again_at), (vec![], Some(until)));
    let elsewhere = decide(&facts, &Surroundings { leads: false, ..leased(300) });
    assert_eq!(elsewhere.again_at, Some(until), "every replica shows its end");
    let over = Some(Verdict::Idle { since: until });
    let after = |seconds: u64| Surroundings {
        verdict: over.clone(),
        ..around(now + Duration::from_secs(500 + seconds))
    };
    assert_eq!(decide(&facts, &after(29)).effects, [], "its idle timeout begins with its end");
    assert_eq!(decide(&facts, &after(30)).effects, [Effect::Prepare]);
}

#[test]
fn silent_connections_end_a_session_only_if_its_template_says_so() {
    let now = Instant::now();
    let mut facts = facts_in(Phase::Running, now);
    see(&mut facts, Status::Running, now);
    facts.record.value.timeline.ready = Some(Timestamp::UNIX_EPOCH);
    let silent = |seconds| Surroundings {
        verdict: Some(Verdict::Busy { silent_since: Some(now) }),
        ..around(now + Duration::from_secs(seconds))
    };
    assert_eq!(decide(&facts, &silent(3_000)).effects, [], "no quiet_timeout");
    facts.record.value.policy.quiet_timeout = Some(bivouac_protocol::Span::seconds(10));
    let early = decide(&facts, &silent(9));
    assert_eq!((early.effects, early.again_at), (vec![], Some(now + Duration::from_secs(10))));
    assert_eq!(decide(&facts, &silent(10)).effects, [Effect::Prepare]);
    assert_eq!(decide(&facts, &Surroundings { leads: false, ..silent(10) }).effects, []);
    let moving = Some(Verdict::Busy { silent_since: None });
    assert_eq!(decide(&facts, &Surroundings { verdict: moving, ..silent(3_000) }).effects, []);
    facts.attempt_after = now + Duration::from_secs(11);
    assert_eq!(decide(&facts, &silent(10)).effects, [], "the last attempt was a moment ago");
}

#[test]
fn a_lifetime_ends_by_the_wall_clock_and_only_by_the_leader() {
    let now = Instant::now();
    let mut facts = facts_in(Phase::Running, now);
    see(&mut facts, Status::Running, now);
    facts.record.value.timeline.ready = Some(Timestamp::UNIX_EPOCH);
    let later = Surroundings { wall: Timestamp::from_second(START + 3_600).unwrap(), ..around(now) };
    let effects = decide(&facts, &later).effects;
    assert!(matches!(&effects[..], [Effect::BeginStop(reason)] if reason.code == ReasonCode::Lifetime));
    assert_eq!(decide(&facts, &Surroundings { leads: false, ..later }).effects, []);
}

#[test]
fn a_stop_is_asked_for_until_the_run_is_known_to_be_over() {
    let now = Instant::now();
    let mut facts = facts_in(Phase::Stopping, now);
    facts.record.value.allocation = Some("a1".parse().unwrap());
    assert_eq!(decide(&facts, &around(now)).effects, [Effect::Delete(Generation(1), Grace::Template)]);
    facts.deleted_at = Some(now);
    assert_eq!(decide(&facts, &around(now)).effects, []);
    let again = decide(&facts, &around(now + Duration::from_secs(5))).effects;
    assert_eq!(again, [Effect::Delete(Generation(1), Grace::Template), Effect::Inspect]);
    see(&mut facts, Status::Unreachable, now);
    assert!(
        !decide(&facts, &around(now)).effects.iter().any(|e| matches!(e, Effect::End(_))),
        "lost is not over"
    );
    see(&mut facts, Status::Over(Outcome::default()), now);
    assert!(matches!(&decide(&facts, &around(now)).effects[..], [Effect::End(_)]));
}

#[test]
fn a_failed_effect_is_tried_again_later_and_never_twice_at_once() {
    let now = Instant::now();
    let mut facts = facts_in(Phase::Claimed, now);
    facts.owned = true;
    facts.in_flight.insert(Kind::Register);
    assert_eq!(decide(&facts, &around(now)).effects, []);
    facts.on_answer(Kind::Register, true, now);
    let waiting = decide(&facts, &around(now));
    assert_eq!(waiting.effects, []);
    let again_at = waiting.again_at.unwrap();
    assert_eq!(decide(&facts, &around(again_at)).effects, [Effect::Register]);
    facts.in_flight.insert(Kind::Register);
    let in_flight_again = decide(&facts, &around(again_at + Duration::from_secs(1)));
    assert_eq!(in_flight_again.effects, []);
    let far = again_at + Duration::from_secs(1);
    assert!(in_flight_again.again_at.is_none_or(|at| at > far), "a time that is past would spin");
}

#[test]
fn a_look_that_found_no_job_is_forgotten_when_the_session_is_pinned_after_all() {
    let now = Instant::now();
    let mut facts = facts_in(Phase::Claimed, now);
    facts.job = Job::Absent;
    let mut running = facts.record.clone();
    running.value.phase = Phase::Running;
    running.value.allocation = Some("a1".parse().unwrap());
    running.index += 1;
    facts.on_record(running, now);
    assert_eq!(decide(&facts, &around(now)).effects, [], "it is not over: the pin is younger than the look");
}

#[test]
fn a_look_that_found_nothing_counts_only_in_the_phase_in_which_it_was_begun() {
    let now = Instant::now();
    let mut facts = facts_in(Phase::Running, now);
    assert!(!facts.on_absent(Phase::Claimed), "registered and pinned meanwhile");
    assert_eq!(decide(&facts, &around(now)).effects, []);
    assert!(facts.on_absent(Phase::Running));
    assert!(matches!(&decide(&facts, &around(now)).effects[..], [Effect::End(_)]));
    let mut facts = facts_in(Phase::Claimed, now);
    facts.job = Job::Registered;
    assert!(!facts.on_absent(Phase::Claimed), "registered meanwhile");
}

#[test]
fn a_later_write_that_stands_on_less_undoes_what_is_known() {
    let now = Instant::now();
    let mut facts = facts_in(Phase::Running, now);
    (facts.record.value.generation, facts.record.value.revision) = (Generation(5), 7);
    let later = |generation, phase, revision| {
        let mut record = facts.record.clone();
        record.index += 1;
        record.value = Record { generation: Generation(generation), phase, revision, ..record.value };
        record
    };
    assert!(facts.is_undone_by(&later(3, Phase::Running, 9)), "a join after a restore");
    assert!(facts.is_undone_by(&later(5, Phase::Claimed, 1)), "written again from its job");
    assert!(facts.is_undone_by(&later(5, Phase::Claimed, 8)));
    assert!(facts.is_undone_by(&later(5, Phase::Running, 6)));
    assert!(!facts.is_undone_by(&later(5, Phase::Running, 8)), "a join");
    assert!(!facts.is_undone_by(&later(5, Phase::Ended, 8)));
    assert!(!facts.is_undone_by(&later(6, Phase::Claimed, 1)), "a successor, its predecessor purged");
    let older = Versioned { index: facts.record.index, ..later(3, Phase::Running, 2) };
    assert!(!facts.is_undone_by(&older), "that is doubted, and read again");
}

#[test]
fn a_session_written_again_from_its_job_has_its_whole_time_to_start() {
    let before = Instant::now();
    let now = before + Duration::from_secs(3_600);
    let mut known = facts_in(Phase::Running, before);
    known.job = Job::Registered;
    see(&mut known, Status::Running, before);
    let mut record = known.record.clone();
    record.index += 1;
    (record.value.phase, record.value.allocation, record.value.revision) = (Phase::Claimed, None, 1);
    let mut facts = Facts::new(known.id.clone(), record, now);
    facts.observed_before(known);
    assert_eq!(decide(&facts, &around(now)).effects, [Effect::Pin("a1".parse().unwrap())]);
}

#[test]
fn only_who_can_see_judges_that_a_start_is_late() {
    let now = Instant::now();
    let mut facts = facts_in(Phase::Running, now);
    see(&mut facts, Status::Running, now);
    facts.in_flight.insert(Kind::Probe);
    let late = Surroundings { leads: false, ..around(now + Duration::from_secs(61)) };
    assert_eq!(decide(&facts, &late).effects, []);
    facts.owned = true;
    assert!(matches!(&decide(&facts, &late).effects[..], [Effect::BeginStop(_)]));
}

/// Any facts whatever.
fn any_facts() -> impl Strategy<Value = (u8, bool, u8, u8, bool, bool, bool, bool)> {
    (0u8..4, any::<bool>(), 0u8..4, 0u8..6, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>())
}

proptest! {
    #[test]
    fn whatever_the_facts_nothing_is_stopped_or_ended_without_cause(
        (phase, owned, job, status, ready, deleted, leads, inspected) in any_facts(), age in 0u64..10_000
    ) {
        let begun = Instant::now();
        let now = begun + Duration::from_secs(age);
        let phase = [Phase::Claimed, Phase::Running, Phase::Stopping, Phase::Ended][usize::from(phase)];
        let mut facts = facts_in(phase, begun);
        facts.owned = owned;
        facts.job = [Job::Unseen, Job::Registered, Job::Stopped, Job::Absent][usize::from(job)];
        let status = [None, Some(Status::Pending), Some(Status::Running), Some(Status::Unreachable),
            None, Some(Status::Over(Outcome::default()))][usize::from(status)].clone();
        if let Some(status) = status.clone() {
            see(&mut facts, status, begun);
        }
        facts.deleted_at = deleted.then_some(begun);
        facts.inspected_at = inspected.then_some(begun);
        if ready {
            facts.record.value.timeline.ready = Some(Timestamp::UNIX_EPOCH);
        }
        let surroundings = Surroundings { leads, ..around(now) };
        let decision = decide(&facts, &surroundings);
        let over = matches!(status, Some(Status::Over(_)));
        for effect in &decision.effects {
            match effect {
                Effect::Delete(generation, _) => {
                    prop_assert_eq!(*generation, Generation(1));
                    prop_assert!(phase >= Phase::Stopping, "a job is deleted only after a decision");
                }
                Effect::End(_) => prop_assert!(
                    phase != Phase::Ended && (over || facts.job == Job::Absent || facts.job == Job::Stopped),
                    "ended only on a positive report"
                ),
                Effect::Abandon => prop_assert!(false, "nobody permitted an overlap"),
                Effect::Prepare => prop_assert!(false, "no verdict, no idle stop"),
                Effect::TakeOver => prop_assert!(!owned && facts.job == Job::Absent && age >= 5),
                Effect::Register => prop_assert!(owned && phase == Phase::Claimed),
                Effect::Purge => prop_assert!(leads && phase == Phase::Ended),
                _ => {}
            }
        }
        let kinds: std::collections::HashSet<_> = decision.effects.iter().map(Effect::kind).collect();
        prop_assert_eq!(kinds.len(), decision.effects.len(), "one of a kind");
        if let Some(again_at) = decision.again_at {
            prop_assert!(again_at > now, "a time that is past would spin");
        }
    }

    #[test]
    fn whatever_the_facts_what_is_leased_is_never_stopped_for_idleness(
        (_, owned, job, status, ready, deleted, leads, inspected) in any_facts(), age in 0u64..10_000, left in 1u64..10_000
    ) {
        let begun = Instant::now();
        let now = begun + Duration::from_secs(age);
        let mut facts = facts_in(Phase::Running, begun);
        facts.owned = owned;
        facts.job = [Job::Unseen, Job::Registered, Job::Stopped, Job::Absent][usize::from(job)];
        if status > 2 {
            see(&mut facts, Status::Running, begun);
        }
        facts.deleted_at = deleted.then_some(begun);
        facts.inspected_at = inspected.then_some(begun);
        if ready {
            facts.record.value.timeline.ready = Some(Timestamp::UNIX_EPOCH);
        }
        let verdict = Some(Verdict::Leased { until: now + Duration::from_secs(left) });
        let decision = decide(&facts, &Surroundings { leads, verdict, ..around(now) });
        prop_assert!(!decision.effects.contains(&Effect::Prepare));
        let idle = |effect: &Effect| matches!(effect, Effect::BeginStop(reason) if reason.code == ReasonCode::Idle);
        prop_assert!(!decision.effects.iter().any(idle));
    }
}
