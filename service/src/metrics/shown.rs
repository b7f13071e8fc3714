//! Gauges that are looked up when somebody asks, rather than kept: how many sessions there are in each state, and how
//! many templates can be used.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};

use crate::session::Sessions;
use crate::session::view::{State, VerdictName};
use crate::spec::Templates;

/// Where it is looked up.
pub(crate) struct Shown {
    sessions: Sessions,
    templates: Arc<Templates>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WithVerdict {
    verdict: &'static str,
}

impl Shown {
    pub(crate) fn new(sessions: Sessions, templates: Arc<Templates>) -> Self {
        Self { sessions, templates }
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let states = Family::<InState, Gauge>::default();
        let verdicts = Family::<WithVerdict, Gauge>::default();
        // So that each has a line from the start.
        for state in State::ALL {
            drop(states.get_or_create(&InState { state: state.name() }));
        }
        for verdict in VerdictName::ALL {
            drop(verdicts.get_or_create(&WithVerdict { verdict: verdict.name() }));
        }
        for view in self.sessions.list() {
            states.get_or_create(&InState { state: view.state.name() }).inc();
            if let Some(alive) = &view.alive {
                verdicts.get_or_create(&WithVerdict { verdict: alive.verdict.name() }).inc();
            }
        }
        let help = "Sessions that this replica knows, by state; ended ones until their records are purged";
        states.encode(encoder.encode_descriptor("sessions", help, None, states.metric_type())?)?;
        let help = "Live sessions by what the proxies say of their use";
        verdicts.encode(encoder.encode_descriptor("live_sessions", help, None, verdicts.metric_type())?)?;
        let disabled = self.templates.iter().filter(|template| template.problem().is_some()).count();
        let disabled = ConstGauge::new(i64::try_from(disabled).unwrap_or(i64::MAX));
        let help = "Templates that cannot be spawned from";
        disabled.encode(encoder.encode_descriptor(
            "templates_disabled",
            help,
            None,
            disabled.metric_type(),
        )?)
    }
}
