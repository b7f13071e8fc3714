use proptest::prelude::*;
use std::collections::BTreeMap;

use super::*;

macro_rules! recorded {
    ($name:literal) => {
        serde_json::from_str(include_str!(concat!(
            "../../../../../crates/nomad/tests/fixtures/",
            $name,
            ".json"
        )))
        .unwrap()
    };
}

fn task(events: &[(&str, &[(&str, &str)])], failed: bool) -> TaskState {
    let events = events.iter().enumerate().map(|(n, (kind, details))| TaskEvent {
        kind: (*kind).to_owned(),
        time: i64::try_from(n).unwrap(),
        display_message: format!("{kind}!"),
        details: details.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    });
    TaskState { failed, events: events.collect(), ..TaskState::default() }
}

fn allocation(client: &str, desired: &str, tasks: Vec<TaskState>) -> Allocation {
    Allocation {
        id: "a-1".into(),
        client_status: client.into(),
        desired_status: desired.into(),
        task_states: tasks.into_iter().enumerate().map(|(n, task)| (n.to_string(), task)).collect(),
        ..Allocation::default()
    }
}

fn over(allocation: &Allocation) -> Outcome {
    match status(allocation) {
        Status::Over(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_exit_code_is_told_with_what_nomad_says_of_it() {
    let outcome = over(&recorded!("allocation_exited"));
    assert_eq!((outcome.exit_code, outcome.stopped), (Some(3), false));
    assert!(outcome.detail.unwrap().starts_with("Exit Code: 3"));
}

#[test]
fn a_driver_that_failed_is_quoted() {
    let outcome = over(&recorded!("allocation_failed"));
    assert_eq!((outcome.exit_code, outcome.stopped), (None, false));
    assert!(outcome.detail.unwrap().contains("/nowhere/to/be/found"));
}

#[test]
fn a_task_that_was_started_again_after_a_reboot_is_not_the_session() {
    let again = allocated(&recorded!("allocation_restarted")).unwrap();
    assert_eq!((again.restarted, again.status), (true, Status::Running));
}

#[test]
fn a_stopped_job_is_told_from_one_that_ended_by_itself() {
    let allocations: Vec<Allocation> = recorded!("job_allocations");
    let outcome = over(&allocations[0]);
    assert_eq!((outcome.exit_code, outcome.stopped), (Some(130), true));
    let clean = allocation(
        "complete",
        "run",
        vec![task(&[("Started", &[]), ("Terminated", &[("exit_code", "0")])], false)],
    );
    assert_eq!(over(&clean), Outcome { exit_code: Some(0), detail: None, stopped: false });
}

#[test]
fn the_address_is_known_by_label() {
    let allocations: Vec<Allocation> = recorded!("allocations");
    let known = allocated(&allocations[0]).unwrap();
    let port: PortLabel = "http".parse().unwrap();
    assert!(known.ports[&port].ip().is_loopback());
    assert_eq!(known.node.as_deref(), Some("recorder"));
}

#[test]
fn an_exhausted_memory_limit_is_said_in_words() {
    let details: &[(&str, &str)] = &[("exit_code", "137"), ("oom_killed", "true")];
    let killed = allocation("failed", "run", vec![task(&[("Started", &[]), ("Terminated", details)], true)]);
    assert!(over(&killed).detail.unwrap().contains("memory"));
}

#[test]
fn the_end_of_the_task_that_mattered_counts() {
    let helper = task(&[("Started", &[]), ("Terminated", &[("exit_code", "0")])], false);
    let mut main =
        task(&[("Started", &[]), ("Killing", &[]), ("Terminated", &[("exit_code", "143")])], false);
    let stopped = allocation("complete", "stop", vec![helper.clone(), main.clone()]);
    assert_eq!(over(&stopped).exit_code, Some(143));
    main = task(&[("Started", &[]), ("Started", &[]), ("Terminated", &[("exit_code", "7")])], true);
    let failed = allocation("failed", "run", vec![helper, main]);
    assert_eq!(over(&failed).exit_code, Some(7));
}

/// Desired transitions as Nomad 1.11 wrote them for a drained node and for `nomad alloc stop`.
#[test]
fn who_takes_an_allocation_away_is_told_apart() {
    let stopped = allocation("running", "stop", vec![]);
    assert_eq!(displacement(&stopped), None, "its job was stopped");
    assert_eq!(displacement(&allocation("running", "evict", vec![])), Some(Displacement::Preempted));
    let transition = |text: &str| Allocation {
        desired_transition: serde_json::from_str(text).unwrap(),
        ..stopped.clone()
    };
    let drained = transition(
        r#"{"Migrate":true,"Reschedule":null,"NoShutdownDelay":null,"MigrateDisablePlacement":true}"#,
    );
    assert_eq!(displacement(&drained), Some(Displacement::Drained));
    let then_stopped =
        transition(r#"{"Migrate":true,"NoShutdownDelay":true,"MigrateDisablePlacement":true}"#);
    assert_eq!(displacement(&then_stopped), Some(Displacement::Drained), "its job was stopped later");
    let by_hand = transition(
        r#"{"Migrate":true,"Reschedule":true,"NoShutdownDelay":false,"MigrateDisablePlacement":null}"#,
    );
    assert_eq!(displacement(&by_hand), Some(Displacement::Stopped));
    let asked = Allocation { desired_status: "run".into(), ..drained };
    assert_eq!(displacement(&asked), None, "asked for, not decided");
}

/// The events of a task that Nomad started again before it had reported the first start.
#[test]
fn a_second_start_is_seen_in_the_first_report() {
    let first_report =
        ["Received", "Task Setup", "Started", "Failed Restoring Task"].map(|kind| (kind, &[][..]));
    let seen = allocated(&allocation("pending", "run", vec![task(&first_report, false)])).unwrap();
    assert!(seen.restarted);
    let failed = allocated(&allocation("failed", "run", vec![task(&first_report, true)])).unwrap();
    assert!(failed.restarted && matches!(failed.status, Status::Over(_)));
    let once = allocated(&allocation("running", "run", vec![task(&first_report[..3], false)])).unwrap();
    assert!(!once.restarted);
}

proptest! {
    /// What the servers suppose, or what the scheduler wants, never ends a session: only its own client does.
    #[test]
    fn only_the_client_ends_an_allocation(
        client in prop::sample::select(vec!["pending", "running", "lost", "unknown", "", "new"]),
        desired in prop::sample::select(vec!["run", "stop", "evict"]),
        kinds in prop::collection::vec(prop::sample::select(vec!["Started", "Terminated", "Killed", "Driver Failure"]), 0..6),
        failed: bool,
    ) {
        let events: Vec<(&str, &[(&str, &str)])> = kinds.into_iter().map(|kind| (kind, &[][..])).collect();
        let status = status(&allocation(client, desired, vec![task(&events, failed)]));
        prop_assert!(!matches!(status, Status::Over(_)));
        prop_assert_eq!(matches!(client, "lost" | "unknown"), status == Status::Unreachable);
    }

    #[test]
    fn whatever_the_texts_are_the_end_is_read(
        texts in prop::collection::btree_map(".{0,8}", ".{0,8}", 0..4),
        kind in ".{0,12}",
        times in prop::collection::vec(0..i64::MAX, 0..4),
    ) {
        let events = times.iter().map(|time| TaskEvent {
            kind: kind.clone(),
            time: *time,
            details: texts.clone().into_iter().collect::<BTreeMap<_, _>>(),
            ..TaskEvent::default()
        });
        let task = TaskState { events: events.collect(), ..TaskState::default() };
        prop_assert!(matches!(status(&allocation("failed", "run", vec![task])), Status::Over(_)));
    }
}
