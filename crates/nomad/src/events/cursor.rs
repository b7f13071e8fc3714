//! How far a stream was read.

use std::collections::HashSet;

use super::{Event, Topic};

/// A place in the event stream: the index of the last frame, and what was already told of that index. One transaction
/// can come as several frames with the same index, and a resumed stream tells all of them again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor {
    index: u64,
    told: HashSet<(Topic, String, String)>,
}

impl Cursor {
    /// Raft index of the last frame; 0 before the first.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Moves on to a frame and returns the events of it that were not told before. An index below the present one
    /// is taken as it is: a cluster that was built anew counts from the beginning.
    pub(super) fn admit(&mut self, index: u64, events: Vec<Event>) -> Vec<Event> {
        if index != self.index {
            self.index = index;
            self.told.clear();
        }
        let mut admitted = events;
        admitted.retain(|event| self.told.insert((event.topic, event.key.clone(), event.kind.clone())));
        admitted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Evaluation, Payload};

    fn event(index: u64, key: &str) -> Event {
        Event {
            index,
            topic: Topic::Evaluation,
            kind: "EvaluationUpdated".into(),
            key: key.into(),
            namespace: "default".into(),
            payload: Payload::Evaluation(Box::<Evaluation>::default()),
        }
    }

    fn log(steps: &[(u8, u8)]) -> Vec<(u64, Vec<Event>)> {
        let mut index = 1;
        let mut frames = Vec::new();
        for (n, (step, count)) in steps.iter().enumerate() {
            index += u64::from(*step);
            let events = (0..*count).map(|k| event(index, &format!("{n}-{k}"))).collect();
            frames.push((index, events));
        }
        frames
    }

    proptest! {
        /// Wherever a connection breaks, a stream that is replayed from the cursor's index tells each event once.
        #[test]
        fn a_resumed_stream_tells_each_event_once(
            steps in prop::collection::vec((0u8..3, 1u8..3), 1..20),
            cut in any::<prop::sample::Index>(),
        ) {
            let frames = log(&steps);
            let cut = cut.index(frames.len()) + 1;
            let mut cursor = Cursor::default();
            let mut told = Vec::new();
            for (index, events) in &frames[..cut] {
                told.extend(cursor.admit(*index, events.clone()));
            }
            let from = cursor.index();
            for (index, events) in frames.iter().filter(|(index, _)| *index >= from) {
                told.extend(cursor.admit(*index, events.clone()));
            }
            let all: Vec<Event> = frames.into_iter().flat_map(|(_, events)| events).collect();
            prop_assert_eq!(told, all);
        }
    }

    #[test]
    fn a_cluster_that_counts_from_the_beginning_is_heard() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.admit(900, vec![event(900, "a")]).len(), 1);
        assert_eq!(cursor.admit(3, vec![event(3, "a")]).len(), 1);
        assert_eq!(cursor.index(), 3);
    }
}
