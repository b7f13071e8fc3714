//! Runs that somebody takes away, that nobody hears of, or that nobody remembers.

use super::*;
use crate::backend::Displacement;

#[test]
fn a_run_that_was_started_again_is_lost_however_it_fares() {
    let now = Instant::now();
    for status in [Status::Running, Status::Over(Outcome::default())] {
        let mut facts = facts_in(Phase::Running, now);
        facts.record.value.timeline.ready = Some(Timestamp::UNIX_EPOCH);
        let again = Allocated { restarted: true, ..allocated(status) };
        facts.on_allocation(again, now, Timestamp::UNIX_EPOCH);
        let effects = decide(&facts, &around(now)).effects;
        assert!(
            matches!(&effects[..], [Effect::BeginStop(reason) | Effect::End(reason)] if reason.code == ReasonCode::Lost),
            "{effects:?}"
        );
    }
}

#[test]
fn who_takes_a_session_away_is_why_it_ends() {
    let now = Instant::now();
    let displaced = [
        (Displacement::Drained, ReasonCode::Drained),
        (Displacement::Preempted, ReasonCode::Preempted),
        (Displacement::Stopped, ReasonCode::Operator),
    ];
    for (displacement, code) in displaced {
        for phase in [Phase::Claimed, Phase::Running] {
            let mut facts = facts_in(phase, now);
            let told = |status| Allocated { displaced: Some(displacement), ..allocated(status) };
            facts.on_allocation(told(Status::Running), now, Timestamp::UNIX_EPOCH);
            if phase == Phase::Running {
                let newcomer = Allocated { allocation: "a2".parse().unwrap(), ..allocated(Status::Pending) };
                facts.on_allocation(newcomer, now, Timestamp::UNIX_EPOCH);
                let effects = decide(&facts, &around(now)).effects;
                assert!(
                    matches!(&effects[..], [Effect::BeginStop(reason)] if reason.code == code),
                    "{effects:?}"
                );
            }
            facts.on_allocation(told(Status::Over(Outcome::default())), now, Timestamp::UNIX_EPOCH);
            let effects = decide(&facts, &around(now)).effects;
            assert!(matches!(&effects[..], [Effect::End(reason)] if reason.code == code), "{effects:?}");
        }
    }
}

#[test]
fn a_run_of_which_nothing_remembers_anything_but_that_it_is_over_ends() {
    let now = Instant::now();
    let mut facts = facts_in(Phase::Stopping, now);
    facts.record.value.allocation = Some("a1".parse().unwrap());
    (facts.job, facts.deleted_at) = (Job::Stopped, Some(now));
    assert_eq!(decide(&facts, &around(now)).effects, [], "it may live");
    facts.forgotten = true;
    assert!(matches!(&decide(&facts, &around(now)).effects[..], [Effect::End(_)]));
}

#[test]
fn a_run_that_was_given_up_is_kept_from_oblivion_until_its_node_is_back() {
    let now = Instant::now();
    let mut facts = facts_in(Phase::Ended, now);
    facts.record.value.timeline.ended = Some(Timestamp::UNIX_EPOCH);
    facts.job = Job::Stopped;
    see(&mut facts, Status::Unreachable, now);
    assert_eq!(decide(&facts, &around(now)).effects, []);
    see(&mut facts, Status::Over(Outcome::default()), now);
    assert_eq!(decide(&facts, &around(now)).effects, [Effect::RemoveJob(Generation(1)), Effect::Purge]);
}

#[test]
fn a_successor_has_its_predecessors_job_deleted_if_nobody_did() {
    let now = Instant::now();
    let mut facts = facts_in(Phase::Ended, now);
    facts.job = Job::Registered;
    let mut next = facts.record.clone();
    (next.value.phase, next.value.generation, next.index) = (Phase::Claimed, Generation(2), 11);
    facts.on_record(next, now);
    assert_eq!(decide(&facts, &around(now)).effects, [Effect::Delete(Generation(1), Grace::Template)]);
    facts.on_job(Generation(1), false, true);
    assert_eq!(decide(&facts, &around(now)).effects, []);
    facts.on_stale_allocation(Generation(1), &allocated(Status::Unreachable));
    assert_eq!(decide(&facts, &around(now)).effects, [], "it is not heard from");
    facts.on_stale_allocation(Generation(1), &allocated(Status::Running));
    assert_eq!(decide(&facts, &around(now)).effects, [Effect::Delete(Generation(1), Grace::Template)]);
}

proptest! {
    /// A run is given up only by the leader, only where its template permits it, and only after its node was away for
    /// that long without a break, as this replica saw it.
    #[test]
    fn nothing_is_given_up_without_permission_or_early(
        reports in prop::collection::vec((0u8..4, 1u64..40), 1..8), pause in 0u64..60, phase in 0u8..4,
        overlap_after in prop::option::of(1u64..60), leads: bool, stopped: bool
    ) {
        let mut now = Instant::now();
        let phase = [Phase::Claimed, Phase::Running, Phase::Stopping, Phase::Ended][usize::from(phase)];
        let mut facts = facts_in(phase, now);
        facts.record.value.allocation = Some("a1".parse().unwrap());
        facts.record.value.policy.overlap_after = overlap_after.map(Span::seconds);
        facts.record.value.policy.startup_timeout = Span::seconds(100_000);
        facts.record.value.policy.max_lifetime = None;
        if stopped {
            (facts.job, facts.deleted_at) = (Job::Stopped, Some(now));
        }
        let mut away_since = None;
        for (report, later) in reports {
            let status = [Status::Pending, Status::Running, Status::Unreachable, Status::Unreachable][usize::from(report)].clone();
            away_since = if status == Status::Unreachable { away_since.or(Some(now)) } else { None };
            see(&mut facts, status, now);
            now += Duration::from_secs(later);
        }
        now += Duration::from_secs(pause);
        let decision = decide(&facts, &Surroundings { leads, ..around(now) });
        let due = away_since.zip(overlap_after).map(|(since, after)| since + Duration::from_secs(after));
        let pinned = matches!(phase, Phase::Running | Phase::Stopping);
        // A job that somebody stopped is stopped first; then the same holds.
        let permitted = pinned && leads && due.is_some_and(|due| due <= now);
        prop_assert_eq!(decision.effects.contains(&Effect::Abandon), permitted);
        if let Some(due) = due.filter(|due| *due > now && leads && pinned) {
            prop_assert!(decision.again_at.is_some_and(|at| at <= due), "it is looked at again in time");
        }
    }
}

#[test]
fn what_is_left_of_a_run_that_was_given_up_is_removed_once_it_is_over() {
    let now = Instant::now();
    let mut facts = facts_in(Phase::Ended, now);
    facts.job = Job::Stopped;
    facts.record.value.reason = Some(ReasonCode::Abandoned.into());
    let mut next = facts.record.clone();
    (next.value.phase, next.value.generation, next.index) = (Phase::Claimed, Generation(2), 11);
    facts.on_record(next, now);
    facts.on_stale_allocation(Generation(1), &allocated(Status::Unreachable));
    assert_eq!(decide(&facts, &around(now)).effects, []);
    facts.on_stale_allocation(Generation(1), &allocated(Status::Over(Outcome::default())));
    assert_eq!(decide(&facts, &around(now)).effects, [Effect::RemoveJob(Generation(1))]);
    assert_eq!(decide(&facts, &Surroundings { leads: false, ..around(now) }).effects, []);
}
