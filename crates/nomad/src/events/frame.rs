//! One line of the stream.

use serde::Deserialize;

use crate::decode::nullable;
use crate::{Allocation, Error, Evaluation, Job};

/// What an event is about. Others exist; they are neither asked for nor told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A job.
    Job,
    /// An allocation.
    Allocation,
    /// An evaluation.
    Evaluation,
}

impl Topic {
    /// All that this client understands.
    pub const ALL: [Self; 3] = [Self::Job, Self::Allocation, Self::Evaluation];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Job => "Job",
            Self::Allocation => "Allocation",
            Self::Evaluation => "Evaluation",
        }
    }
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Raft index of the transaction that made it.
    pub index: u64,
    /// What it is about.
    pub topic: Topic,
    /// What happened: `JobRegistered`, `PlanResult`, `AllocationUpdated`, …
    pub kind: String,
    /// Id of the object.
    pub key: String,
    /// The object's Nomad namespace.
    pub namespace: String,
    /// The object as it is now.
    pub payload: Payload,
}

/// The object of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// A job.
    Job {
        /// As it is now, or was last.
        job: Box<Job>,
        /// Whether it was purged.
        deleted: bool,
    },
    /// An allocation, with its resources.
    Allocation(Box<Allocation>),
    /// An evaluation.
    Evaluation(Box<Evaluation>),
}

/// A decoded line: an index with events, or a sign of life.
pub(super) struct Frame {
    pub(super) index: Option<u64>,
    pub(super) events: Vec<Event>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct WireFrame {
    index: Option<u64>,
    #[serde(deserialize_with = "nullable")]
    events: Vec<WireEvent>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct WireEvent {
    #[serde(rename = "Type", deserialize_with = "nullable")]
    kind: String,
    #[serde(deserialize_with = "nullable")]
    key: String,
    #[serde(deserialize_with = "nullable")]
    namespace: String,
    #[serde(deserialize_with = "nullable")]
    payload: WirePayload,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct WirePayload {
    job: Option<Box<Job>>,
    allocation: Option<Box<Allocation>>,
    evaluation: Option<Box<Evaluation>>,
    #[serde(deserialize_with = "nullable")]
    deleted: bool,
}

/// Reads one line. What is of no topic of ours is left out.
pub(super) fn decode(line: &str) -> Result<Frame, Error> {
    let frame: WireFrame = serde_json::from_str(line).map_err(|error| Error::Foreign(error.to_string()))?;
    let index = frame.index.unwrap_or_default();
    let events = frame.events.into_iter().filter_map(|event| event.read(index)).collect();
    Ok(Frame { index: frame.index, events })
}

impl WireEvent {
    fn read(self, index: u64) -> Option<Event> {
        let WireEvent { kind, key, namespace, payload } = self;
        let (topic, payload) = match payload {
            WirePayload { job: Some(job), deleted, .. } => (Topic::Job, Payload::Job { job, deleted }),
            WirePayload { allocation: Some(allocation), .. } => {
                (Topic::Allocation, Payload::Allocation(allocation))
            }
            WirePayload { evaluation: Some(evaluation), .. } => {
                (Topic::Evaluation, Payload::Evaluation(evaluation))
            }
            _ => return None,
        };
        Some(Event { index, topic, kind, key, namespace, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = include_str!("../../tests/fixtures/stream.ndjson");

    fn recorded() -> Vec<Event> {
        RECORDED.lines().flat_map(|line| decode(line).unwrap().events).collect()
    }

    #[test]
    fn the_first_line_is_a_sign_of_life() {
        let first = decode(RECORDED.lines().next().unwrap()).unwrap();
        assert_eq!((first.index, first.events.len()), (None, 0));
    }

    #[test]
    fn a_whole_life_is_read() {
        let events = recorded();
        assert!(events.is_sorted_by_key(|event| event.index));
        let Payload::Job { job, deleted: false } = &events[0].payload else { panic!("{:?}", events[0]) };
        assert_eq!((job.meta["bivouac_nonce"].as_str(), job.stop), ("n-1", false));

        let allocations: Vec<&Allocation> = events
            .iter()
            .filter_map(|event| match &event.payload {
                Payload::Allocation(allocation) => Some(&**allocation),
                _ => None,
            })
            .collect();
        let port = &allocations[0].allocated_resources.shared.ports[0];
        assert_eq!((port.label.as_str(), port.host_ip.as_str()), ("http", "127.0.0.1"));
        assert_ne!(port.value, 0, "the address is known with the first event of an allocation");
        let statuses: Vec<&str> = allocations.iter().map(|a| a.client_status.as_str()).collect();
        assert_eq!((statuses.first(), statuses.last()), (Some(&"pending"), Some(&"complete")));

        let Payload::Job { job, deleted: true } =
            &events.iter().rfind(|event| event.topic == Topic::Job).unwrap().payload
        else {
            panic!("the last event of the job is its purge")
        };
        assert!(job.stop);
    }

    #[test]
    fn unknown_topics_and_fields_are_left_out() {
        let line = r#"{"Index":7,"Events":[{"Topic":"Node","Type":"NodeEvent","Key":"k","New":1,"Payload":{"Node":{}}},
            {"Topic":"Operator","Payload":null}]}"#;
        let frame = decode(line).unwrap();
        assert_eq!((frame.index, frame.events.len()), (Some(7), 0));
        assert!(decode("<html>").is_err());
    }
}
