//! The supervisor over a ledger in memory: what it is told, and what it makes of it.

use bivouac_ledger::directory::MemoryDirectory;
use bivouac_ledger::memory::MemoryLedger;
use bivouac_ledger::records::{Claim, claimed};
use bivouac_protocol::{AllocationId, Nonce, Phase, Policy, Protocol, Span, StoredRequest};
use prometheus_client::registry::Registry;

use super::*;
use crate::backend::process::{ProcessBackend, Settings as ProcessSettings};
use crate::backend::{Allocated, Status};
use crate::session::decide::Kind;
use crate::session::facts::Job;
use crate::session::{SessionService, Settings};

fn supervisor() -> (Supervisor, tempfile::TempDir) {
    static PROVIDER: std::sync::Once = std::sync::Once::new();
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let state = tempfile::tempdir().unwrap();
    let settings = ProcessSettings { guard: Vec::new(), state_dir: state.path().join("runs") };
    let backend = ProcessBackend::new(settings, Arc::new(MemoryDirectory::default())).unwrap();
    let service = SessionService::new(
        Arc::new(MemoryLedger::new()),
        Arc::new(backend),
        Arc::default(),
        Settings {
            session_url: "http://localhost:7080".parse().unwrap(),
            claim_timeout: Duration::from_secs(5),
            retention: (jiff::SignedDuration::from_hours(1), jiff::SignedDuration::from_hours(1)),
            presume_dead_after: None,
            failpoints: crate::Failpoints::default(),
        },
        Arc::new(crate::Metrics::register(&mut Registry::default())),
        reqwest::Client::new(),
        "replica".to_owned(),
    );
    (Supervisor::new(Arc::clone(&service.outside)), state)
}

fn allocation() -> AllocationId {
    "a1".parse().unwrap()
}

/// A session that runs, in this generation, as the ledger's revision `index` has it.
fn running(generation: u64, index: Index) -> Versioned<Record> {
    let policy = Policy {
        idle_timeout: Span::seconds(30),
        max_lifetime: None,
        startup_timeout: Span::seconds(60),
        max_lease: Policy::default_max_lease(),
        stop_grace: Span::seconds(5),
        wake: true,
        overlap_after: None,
        port: "http".parse().unwrap(),
        protocol: Protocol::Http,
        ready_path: None,
    };
    let claim = Claim {
        namespace: Default::default(),
        key: Some("doc".parse().unwrap()),
        template: "demo".parse().unwrap(),
        hash: "h".into(),
        request: StoredRequest::default(),
        policy,
        nonce: Nonce::random(),
        at: Timestamp::UNIX_EPOCH,
    };
    let first = claimed(None, Generation(generation - 1), &claim);
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
