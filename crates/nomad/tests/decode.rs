//! What a real agent sent (see `record.sh`) is read as it was meant.

use std::collections::BTreeSet;

use bivouac_nomad::{Allocation, Evaluation, Job};

macro_rules! recorded {
    ($name:literal) => {
        serde_json::from_str(include_str!(concat!("fixtures/", $name, ".json"))).unwrap()
    };
}

fn kinds(allocation: &Allocation) -> Vec<&str> {
    allocation.task_states["backend"].events.iter().map(|event| event.kind.as_str()).collect()
}

#[test]
fn jobs_are_read_alone_and_in_lists() {
    let job: Job = recorded!("job");
    assert_eq!((job.id.as_str(), job.namespace.as_str()), ("session-aaaaaaaaaaaaaaaaaaaa-1", "default"));
    assert_eq!(job.meta["bivouac_nonce"], "n-1");
    assert!(!job.stop && job.modify_index >= job.job_modify_index && job.job_modify_index > 0);

    let jobs: Vec<Job> = recorded!("jobs");
    assert!(jobs.iter().all(|job| job.meta["bivouac_cluster"] == "recorded"), "{jobs:?}");
}

#[test]
fn a_parsed_job_is_left_as_it_came() {
    let tree: serde_json::Value = recorded!("parsed");
    assert_eq!(tree["TaskGroups"][0]["Networks"][0]["DynamicPorts"][0]["Label"], "http");
    let job: Job = serde_json::from_value(tree).unwrap();
    assert_eq!((job.namespace.as_str(), job.version), ("", 0), "null is read as empty");
}

#[test]
fn a_list_of_one_job_has_no_resources_and_the_list_of_all_has() {
    let of_job: Vec<Allocation> = recorded!("job_allocations");
    let [allocation] = of_job.as_slice() else { panic!("{of_job:?}") };
    assert_eq!((allocation.desired_status.as_str(), allocation.client_status.as_str()), ("stop", "complete"));
    assert!(allocation.allocated_resources.shared.ports.is_empty());
    assert!(kinds(allocation).ends_with(&["Killing", "Terminated", "Killed"]));

    let all: Vec<Allocation> = recorded!("allocations");
    assert!(!all.is_empty());
    for allocation in all {
        let ports = &allocation.allocated_resources.shared.ports;
        assert!(ports.iter().any(|port| port.label == "http" && port.value > 0), "{allocation:?}");
        assert!(allocation.modify_index >= allocation.create_index && allocation.create_index > 0);
    }
}

#[test]
fn the_ends_of_allocations_are_read() {
    let exited: Allocation = recorded!("allocation_exited");
    let task = &exited.task_states["backend"];
    let terminated = task.events.iter().find(|event| event.kind == "Terminated").unwrap();
    assert_eq!((exited.client_status.as_str(), task.failed), ("failed", true));
    assert_eq!(terminated.details["exit_code"], "3");

    let failed: Allocation = recorded!("allocation_failed");
    assert!(kinds(&failed).contains(&"Driver Failure"));

    let restarted: Allocation = recorded!("allocation_restarted");
    assert_eq!(restarted.task_states["backend"].restarts, 0, "only the events tell of the second start");
    assert!(kinds(&restarted).ends_with(&["Started", "Failed Restoring Task", "Started"]));
}

#[test]
fn a_shortage_reads_as_a_sentence() {
    let evaluations: Vec<Evaluation> = recorded!("evaluations");
    let blocked = evaluations.iter().find(|evaluation| evaluation.status == "blocked").unwrap();
    let drivers = BTreeSet::default();
    let shortage = blocked.shortage(&drivers).unwrap();
    assert!(shortage.starts_with("memory exhausted on 1 node: add nodes"), "{shortage}");
    let placed = Evaluation { status: "complete".into(), ..Evaluation::default() };
    assert_eq!(placed.shortage(&drivers), None);
}
