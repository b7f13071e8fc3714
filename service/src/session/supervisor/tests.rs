//! The supervisor over a ledger in memory: what it is told, and what it makes of it.

use bivouac_ledger::records::claimed;
use bivouac_protocol::link::Activity;
use bivouac_protocol::{AllocationId, Nonce, Phase};

use super::*;
use crate::backend::{Allocated, Status};
use crate::session::claiming::Claimed;
use crate::session::decide::Kind;
use crate::session::facts::Job;
use crate::session::idle::Verdict;
use crate::session::samples;

fn supervisor() -> (Supervisor, tempfile::TempDir) {
    let (service, state) = samples::service();
    (Supervisor::new(service.outside), state)
}

fn allocation() -> AllocationId {
    "a1".parse().unwrap()
}

/// A session that somebody has claimed, in this generation, as the ledger's revision `index` has it.
fn claimed_by_somebody(generation: u64, index: Index) -> Versioned<Record> {
    let claim = samples::claim(samples::policy(), Timestamp::UNIX_EPOCH);
    Versioned { value: claimed(None, Generation(generation - 1), &claim), index }
}

/// The same that runs.
fn running(generation: u64, index: Index) -> Versioned<Record> {
    let first = claimed_by_somebody(generation, index).value;
    let value = Record { phase: Phase::Running, allocation: Some(allocation()), revision: index, ..first };
    Versioned { value, index }
}

/// Takes the record in, and sees its run, without anything that follows from it.
fn knows(supervisor: &mut Supervisor, id: &SessionId, record: Versioned<Record>) {
    assert!(supervisor.take_in(id, record, false));
    let facts = &mut supervisor.sessions.get_mut(id).unwrap().facts;
    facts.job = Job::Registered;
    let ports = [("http".parse().unwrap(), "127.0.0.1:9".parse().unwrap())].into();
    let allocated = Allocated {
        allocation: allocation(),
        ports,
        node: None,
        status: Status::Running,
        restarted: false,
        displaced: None,
    };
    facts.on_allocation(allocated, Instant::now(), Timestamp::UNIX_EPOCH);
}

#[tokio::test]
async fn a_write_after_a_restore_does_not_hide_that_a_later_run_was_forgotten() {
    let ((mut supervisor, _state), id) = (supervisor(), SessionId::random());
    knows(&mut supervisor, &id, running(5, 100));
    assert!(supervisor.take_in(&id, running(3, 120), false));
    let facts = &supervisor.sessions[&id].facts;
    assert_eq!((facts.generation(), facts.job), (Generation(3), Job::Unseen));
    assert!(facts.allocated.is_none(), "what was seen is of the run that was forgotten");
    assert_eq!(facts.route(), None);
}

#[tokio::test]
async fn what_was_seen_of_a_run_outlives_its_record() {
    let ((mut supervisor, _state), id) = (supervisor(), SessionId::random());
    let known = running(5, 100);
    knows(&mut supervisor, &id, known.clone());
    let mut again = known;
    again.index = 120;
    (again.value.phase, again.value.allocation, again.value.revision) = (Phase::Claimed, None, 1);
    assert!(supervisor.take_in(&id, again, true));
    let facts = &supervisor.sessions[&id].facts;
    assert_eq!((facts.phase(), facts.job, facts.owned), (Phase::Claimed, Job::Registered, true));
    assert_eq!(facts.allocated.as_ref().map(|it| &it.allocation), Some(&allocation()));
    assert!(facts.in_flight.contains(&Kind::Pin), "it is pinned again at once");
}

#[tokio::test]
async fn the_removal_of_an_earlier_job_says_nothing_of_the_run() {
    let ((mut supervisor, _state), id) = (supervisor(), SessionId::random());
    knows(&mut supervisor, &id, running(5, 100));
    supervisor.on_answer(&id, Generation(5), Answer::JobRemoved(Generation(4), Ok(())));
    assert_eq!(supervisor.sessions[&id].facts.job, Job::Registered);
    supervisor.on_answer(&id, Generation(5), Answer::JobRemoved(Generation(5), Ok(())));
    assert_eq!(supervisor.sessions[&id].facts.job, Job::Absent);
}

#[tokio::test]
async fn an_idle_stop_without_a_list_of_members_is_prepared_again_later() {
    let ((mut supervisor, _state), id) = (supervisor(), SessionId::random());
    knows(&mut supervisor, &id, running(5, 100));
    supervisor.on_answer(&id, Generation(5), Answer::Prepared(Ok((None, Some(running(5, 100))))));
    assert!(supervisor.sessions[&id].facts.retry_at(Kind::Prepare).is_some());
}

#[tokio::test]
async fn a_list_of_members_that_is_older_than_the_known_one_commits_nothing() {
    let ((mut supervisor, _state), id) = (supervisor(), SessionId::random());
    knows(&mut supervisor, &id, running(5, 100));
    let none = Members { nonce: Nonce::random(), boots: Default::default(), removed: None };
    let list = |index| Versioned { value: none.clone(), index };
    supervisor.on_members(list(90));
    let before = supervisor.sessions[&id].facts.attempt_after;
    supervisor.on_prepared(&id, Some(list(80)), running(5, 100));
    let facts = &supervisor.sessions[&id].facts;
    assert!(facts.attempt.is_none() && facts.attempt_after > before);
}

#[tokio::test]
async fn a_takeover_that_another_replica_won_is_not_carried_out_here() {
    let ((mut supervisor, _state), id) = (supervisor(), SessionId::random());
    supervisor.take_in(&id, claimed_by_somebody(1, 100), false);
    let lost = Claimed::Lost(Some(claimed_by_somebody(2, 110)));
    supervisor.on_answer(&id, Generation(1), Answer::TakenOver(Some(lost)));
    let facts = &supervisor.sessions[&id].facts;
    assert_eq!((facts.generation(), facts.owned), (Generation(2), false));
    assert!(!facts.in_flight.contains(&Kind::Register), "who won it registers its job");
    let won = Claimed::Won(claimed_by_somebody(3, 120));
    supervisor.on_answer(&id, Generation(2), Answer::TakenOver(Some(won)));
    let facts = &supervisor.sessions[&id].facts;
    assert_eq!((facts.generation(), facts.owned), (Generation(3), true));
    assert!(facts.in_flight.contains(&Kind::Register));
}

#[tokio::test]
async fn a_claim_is_carried_out_though_a_later_revision_of_it_was_read_before_its_answer() {
    let ((mut supervisor, _state), id) = (supervisor(), SessionId::random());
    supervisor.take_in(&id, claimed_by_somebody(1, 100), false);
    let won = claimed_by_somebody(2, 110);
    let joined = Versioned { index: 120, ..won.clone() };
    supervisor.take_in(&id, joined, false);
    assert!(!supervisor.sessions[&id].facts.owned);
    supervisor.on_answer(&id, Generation(1), Answer::TakenOver(Some(Claimed::Won(won))));
    let facts = &supervisor.sessions[&id].facts;
    assert_eq!((facts.record.index, facts.owned), (120, true));
    assert!(facts.in_flight.contains(&Kind::Register));
}

#[tokio::test]
async fn who_uses_a_session_is_known_after_its_record_was_lost_and_written_again() {
    let ((mut supervisor, _state), id) = (supervisor(), SessionId::random());
    let (boot, link) = (BootId::random(), LinkId(1));
    let boots = [boot.clone()].into();
    supervisor
        .on_members(Versioned { value: Members { nonce: Nonce::random(), boots, removed: None }, index: 1 });
    supervisor.evidence.linked(boot.clone(), link);
    supervisor.evidence.complete(&boot, link);
    let open = |session: &SessionId| Activity {
        seq: 1,
        session: session.clone(),
        generation: Some(Generation(5)),
        open: 1,
        idle_ms: 0,
        carriers: 0,
        quiet_ms: None,
    };
    supervisor.evidence.activity(&boot, link, &open(&id), Instant::now());
    knows(&mut supervisor, &id, running(5, 100));
    let verdict = |supervisor: &Supervisor| supervisor.verdict(&supervisor.sessions[&id].facts);
    assert_eq!(verdict(&supervisor), Some(Verdict::Busy { silent_since: None }));
    supervisor.on_gone(&id);
    assert!(!supervisor.sessions.contains_key(&id));
    knows(&mut supervisor, &id, running(5, 120));
    assert_eq!(
        verdict(&supervisor),
        Some(Verdict::Busy { silent_since: None }),
        "the proxy does not say again what has not changed"
    );
}
