//! A run's ports: where they are, which of them have answered, and how the others are asked.

use std::collections::BTreeMap;

use bivouac_protocol::{Endpoint, Phase, PortLabel, Route, RoutePhase};

use super::Facts;
use crate::session::probe::Place;

impl Facts {
    /// The route to the pinned allocation, while the session runs and its address is known.
    pub(crate) fn route(&self) -> Option<Route> {
        let record = &self.record.value;
        let allocated =
            self.allocated.as_ref().filter(|_| record.phase == Phase::Running && !self.supplanted)?;
        let pinned = record.allocation.clone().filter(|pinned| *pinned == allocated.allocation)?;
        let policy = &record.policy;
        let endpoint = |label: &PortLabel, protocol| {
            let phase = if self.is_open(label) { RoutePhase::Ready } else { RoutePhase::Starting };
            Some(Endpoint { address: *allocated.ports.get(label)?, protocol, phase })
        };
        let further = policy.further.iter();
        let further =
            further.filter_map(|(label, port)| Some((label.clone(), endpoint(label, port.protocol)?)));
        Some(Route {
            further: further.collect(),
            quiet: policy.quiet_timeout.is_some(),
            rules: policy.rules.clone(),
            ..Route::new(
                self.id.clone(),
                record.generation,
                pinned,
                policy.port.clone(),
                endpoint(&policy.port, policy.protocol)?,
            )
        })
    }

    /// Whether the session's backend has answered a probe on its default port, of this replica or of one before it.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_open(&self.record.value.policy.port)
    }

    /// Whether its backend has answered on this port. Of the default port the record remembers it.
    fn is_open(&self, label: &PortLabel) -> bool {
        let record = &self.record.value;
        self.open.contains(label) || (*label == record.policy.port && record.timeline.ready.is_some())
    }

    /// Whether there is a route to a port that has yet to answer.
    pub(crate) fn has_silent_port(&self) -> bool {
        let policy = &self.record.value.policy;
        let silent = !self.is_ready() || policy.further.keys().any(|label| !self.is_open(label));
        silent && self.route().is_some() && !self.silent_ports().is_empty()
    }

    /// The ports of the pinned allocation that have yet to answer, and how they are asked.
    pub(crate) fn silent_ports(&self) -> BTreeMap<PortLabel, Place> {
        let policy = &self.record.value.policy;
        let labels = policy.further.keys().chain([&policy.port]).filter(|label| !self.is_open(label));
        labels.filter_map(|label| Some((label.clone(), self.place(label)?))).collect()
    }

    /// How the default port is asked.
    pub(crate) fn default_place(&self) -> Option<Place> {
        self.place(&self.record.value.policy.port)
    }

    fn place(&self, label: &PortLabel) -> Option<Place> {
        let policy = &self.record.value.policy;
        let (protocol, ready_path) = match policy.further.get(label) {
            Some(port) => (port.protocol, &port.ready_path),
            None => (policy.protocol, &policy.ready_path),
        };
        let address = *self.allocated.as_ref()?.ports.get(label)?;
        Some(Place { address, protocol, ready_path: ready_path.clone() })
    }
}
