use std::collections::BTreeMap;

use bivouac_nomad::{Allocation, Evaluation, Job, PlacementFailure};

use super::*;

const JOB: &str = "session-aaaaaaaaaaaaaaaaaaaa-1";

fn picture() -> Picture {
    Picture::new("us")
}

fn job(id: &str, cluster: &str, stop: bool, index: u64) -> Job {
    let meta = [("bivouac_cluster", cluster), ("bivouac_nonce", "n-1")];
    Job {
        id: id.into(),
        meta: meta.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        stop,
        modify_index: index,
        ..Job::default()
    }
}

fn news(picture: &mut Picture, job: &Job, purged: bool) -> Option<Observation> {
    picture.on_job(job, purged).and_then(|(_, news)| news)
}

fn allocation(status: &str, index: u64) -> Allocation {
    Allocation {
        id: "a-1".into(),
        job_id: JOB.into(),
        client_status: status.into(),
        modify_index: index,
        ..Allocation::default()
    }
}

fn is_told(told: Option<Observation>, expected: &Status) -> bool {
    matches!(told, Some(Observation::Allocation { allocated, .. }) if allocated.status == *expected)
}

fn shortage(index: u64) -> Evaluation {
    let failure = PlacementFailure {
        dimension_exhausted: BTreeMap::from([("memory".to_owned(), 2)]),
        ..PlacementFailure::default()
    };
    Evaluation {
        job_id: JOB.into(),
        status: "blocked".into(),
        failed_groups: BTreeMap::from([("g".to_owned(), failure)]),
        modify_index: index,
        ..Evaluation::default()
    }
}

#[test]
fn a_job_is_told_once_and_again_when_it_is_stopped() {
    let mut picture = picture();
    let first = news(&mut picture, &job(JOB, "us", false, 1), false);
    assert!(matches!(first, Some(Observation::Job { nonce: Some(_), stopped: false, .. })), "{first:?}");
    assert_eq!(news(&mut picture, &job(JOB, "us", false, 2), false), None);
    let stopped = news(&mut picture, &job(JOB, "us", true, 3), false);
    assert!(matches!(stopped, Some(Observation::Job { stopped: true, .. })));
    assert_eq!(news(&mut picture, &job(JOB, "us", false, 2), false), None, "older than what is known");
}

#[test]
fn jobs_of_others_are_no_news_and_nobodys_allocations_are_asked_about() {
    let mut picture = picture();
    assert_eq!(picture.owner(JOB), Owner::Unknown);
    assert_eq!(picture.owner("session-database"), Owner::Others);
    assert_eq!(news(&mut picture, &job(JOB, "them", false, 1), false), None);
    assert_eq!(picture.owner(JOB), Owner::Others);
    assert_eq!(picture.on_allocation(&allocation("running", 2)), None);
    assert_eq!(news(&mut picture, &job(JOB, "them", true, 3), true), None);
    assert_eq!(picture.owner(JOB), Owner::Unknown, "what is purged is forgotten");
}

#[test]
fn an_allocation_only_goes_forward() {
    let mut picture = picture();
    news(&mut picture, &job(JOB, "us", false, 1), false);
    assert!(is_told(picture.on_allocation(&allocation("pending", 2)), &Status::Pending));
    assert!(is_told(picture.on_allocation(&allocation("running", 5)), &Status::Running));
    assert_eq!(picture.on_allocation(&allocation("running", 6)), None, "nothing new");
    assert_eq!(picture.on_allocation(&allocation("pending", 3)), None, "older than what was told");
    assert!(is_told(picture.on_allocation(&allocation("unknown", 7)), &Status::Unreachable));
    assert!(is_told(picture.on_allocation(&allocation("running", 8)), &Status::Running));
}

#[test]
fn a_purged_job_is_heard_of_until_its_allocations_are_over() {
    let mut picture = picture();
    news(&mut picture, &job(JOB, "us", false, 1), false);
    picture.on_allocation(&allocation("running", 2));
    let purged = news(&mut picture, &job(JOB, "us", false, 1), true);
    assert!(matches!(purged, Some(Observation::Job { stopped: true, .. })));
    assert_eq!(picture.owner(JOB), Owner::Us);
    let mut relisted = picture.clone();
    relisted.forget_purged();
    assert_eq!(relisted.owner(JOB), Owner::Unknown);
    let over = picture.on_allocation(&allocation("complete", 4));
    assert!(
        matches!(over, Some(Observation::Allocation { allocated, .. }) if matches!(allocated.status, Status::Over(_)))
    );
    assert_eq!(picture.owner(JOB), Owner::Unknown);
}

#[test]
fn a_shortage_is_told_once_and_never_of_a_placed_or_stopped_job() {
    let mut picture = picture();
    assert_eq!(picture.on_evaluation(&shortage(1)), None, "nobody's job");
    news(&mut picture, &job(JOB, "us", false, 1), false);
    let told = picture.on_evaluation(&shortage(2));
    assert!(
        matches!(told, Some(Observation::Blocked { detail, .. }) if detail.starts_with("memory exhausted on 2 nodes:"))
    );
    assert_eq!(picture.on_evaluation(&shortage(3)), None);
    picture.on_allocation(&allocation("pending", 4));
    let mut another = shortage(5);
    another.failed_groups.clear();
    assert_eq!(picture.on_evaluation(&another), None);
}
