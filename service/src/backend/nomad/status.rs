//! How an allocation fares, read from what Nomad tells of it. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use bivouac_nomad::{Allocation, TaskEvent, TaskState};
use bivouac_protocol::PortLabel;

use crate::backend::{Allocated, Displacement, Outcome, Status};

/// The allocation in our words; `None` if its id is none of Nomad's.
pub(super) fn allocated(allocation: &Allocation) -> Option<Allocated> {
    let node = [&allocation.node_name, &allocation.node_id].into_iter().find(|name| !name.is_empty());
    Some(Allocated {
        allocation: allocation.id.parse().ok()?,
        ports: ports(allocation),
        node: node.cloned(),
        status: status(allocation),
        restarted: allocation.task_states.values().any(is_second_start),
        displaced: displacement(allocation),
    })
}

/// Whether its own client said that it is over.
pub(super) fn is_over(allocation: &Allocation) -> bool {
    matches!(allocation.client_status.as_str(), "complete" | "failed")
}

/// Whether its client has said nothing of it yet.
pub(super) fn is_pending(allocation: &Allocation) -> bool {
    allocation.client_status == "pending"
}

fn ports(allocation: &Allocation) -> BTreeMap<PortLabel, SocketAddr> {
    let ports = &allocation.allocated_resources.shared.ports;
    ports
        .iter()
        .filter_map(|port| {
            let host: IpAddr = port.host_ip.parse().ok()?;
            Some((port.label.parse().ok()?, SocketAddr::new(host, port.value)))
        })
        .collect()
}

fn status(allocation: &Allocation) -> Status {
    match allocation.client_status.as_str() {
        "complete" | "failed" => Status::Over(outcome(allocation)),
        // The servers' guess while the client is away. What runs there may well go on running.
        "lost" | "unknown" => Status::Unreachable,
        "running" => Status::Running,
        _ if allocation.task_states.values().any(|task| count(task, "Started") > 0) => Status::Running,
        _ => Status::Pending,
    }
}

/// After a reboot of its host Nomad starts a task again on the same allocation and counts that as no restart: only
/// the events tell. Every report carries the last ten of them, the first report too, and the client keeps them on its
/// disk: so a second start is seen even if nothing was ever reported of the first. (Save for one that was cut off before
/// the client wrote down that it had happened, some milliseconds after the process began: of that nobody knows.)
fn is_second_start(task: &TaskState) -> bool {
    task.restarts > 0 || count(task, "Started") > 1 || count(task, "Failed Restoring Task") > 0
}

fn count(task: &TaskState, kind: &str) -> usize {
    task.events.iter().filter(|event| event.kind == kind).count()
}

fn outcome(allocation: &Allocation) -> Outcome {
    let task = deciding_task(allocation);
    Outcome {
        exit_code: task.and_then(exit_code),
        detail: task
            .and_then(detail)
            .or_else(|| Some(allocation.client_description.clone()).filter(|text| is_telling(text))),
        stopped: is_stopped(allocation),
    }
}

/// The task whose end is the allocation's. The first one that failed took the others along; without a failure it is the
/// last one that ended as the allocation did, by itself or because it was told to: helpers end before, or otherwise.
fn deciding_task(allocation: &Allocation) -> Option<&TaskState> {
    let stopped = is_stopped(allocation);
    allocation.task_states.values().min_by_key(|task| {
        let ended_at = last(task, "Terminated").map_or(0, |event| event.time);
        let rank = if task.failed { ended_at } else { -ended_at };
        (!task.failed, (count(task, "Killing") > 0) != stopped, rank)
    })
}

/// Whether somebody asked for the end. The job's own flag would not tell: a job is also stopped after its backend has
/// ended by itself.
fn is_stopped(allocation: &Allocation) -> bool {
    matches!(allocation.desired_status.as_str(), "stop" | "evict")
}

fn last<'a>(task: &'a TaskState, kind: &str) -> Option<&'a TaskEvent> {
    task.events.iter().rev().find(|event| event.kind == kind)
}

fn exit_code(task: &TaskState) -> Option<i32> {
    last(task, "Terminated")?.details.get("exit_code")?.parse().ok()
}

/// Why the scheduler takes it away, where it is not the job that is stopped.
fn displacement(allocation: &Allocation) -> Option<Displacement> {
    if allocation.desired_status == "evict" || !allocation.preempted_by_allocation.is_empty() {
        return Some(Displacement::Preempted);
    }
    // Asked for and not carried out yet is not decided: of a drain with a deadline, batch jobs are asked at its end.
    if !allocation.desired_transition.migrate || !is_stopped(allocation) {
        return None;
    }
    let by_hand = allocation.desired_transition.is_by_hand();
    Some(if by_hand { Displacement::Stopped } else { Displacement::Drained })
}

fn detail(task: &TaskState) -> Option<String> {
    task.events.iter().rev().find_map(|event| match event.kind.as_str() {
        "Terminated" => termination(event),
        // What Nomad does in any case, before and after what matters.
        "Received"
        | "Task Setup"
        | "Started"
        | "Killing"
        | "Killed"
        | "Not Restarting"
        | "Restarting"
        | "Signaling"
        | "Downloading Artifacts"
        | "Reconnected"
        | "Leader Task Dead"
        | "Main Tasks Dead" => None,
        _ => Some(event.display_message.clone()).filter(|text| !text.is_empty()),
    })
}

fn termination(event: &TaskEvent) -> Option<String> {
    if event.details.get("oom_killed").is_some_and(|killed| killed == "true") {
        return Some("it was killed because it used more memory than it may".to_owned());
    }
    let clean = event.details.get("exit_code").is_some_and(|code| code == "0");
    Some(event.display_message.clone()).filter(|text| !clean && !text.is_empty())
}

/// Nomad's standard phrases say no more than the status does.
fn is_telling(description: &str) -> bool {
    !matches!(description, "" | "All tasks have completed" | "Failed tasks" | "Tasks are running")
}

#[cfg(test)]
mod tests;
