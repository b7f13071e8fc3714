//! What the proxy counts. The registry is a value, so that tests and two proxies in one process keep apart.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::activity::gate::FenceAnswer;
use crate::refusal::Refusal;

/// The proxy's metrics. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    open: Gauge,
    held: Gauge,
    links_up: Gauge,
    answers: Family<Answer, Counter>,
    refusals: Family<Refused, Counter>,
    served_unconfirmed: Counter,
    fences: Family<Fences, Counter>,
    knocks: Counter,
    /// The only one that is counted with each request: looked up once.
    hits: Counter,
    resolutions: Family<Resolutions, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    /// Class of the status ("2xx"); "1xx" is an upgrade.
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    /// The refusal's stable code.
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Fences {
    answer: FenceLabel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum FenceLabel {
    Fenced,
    Busy,
    Stale,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Resolutions {
    result: Resolution,
}

/// How a look-up that asked record or directory ended; a route that was known already is a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Resolution {
    /// The known route was good.
    Hit,
    /// The record was read.
    Miss,
    /// The record could not be read.
    Unreachable,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("bivouac_proxy");
        let open = Gauge::<i64>::default();
        registry.register("open", "Requests and connections that are open or held", open.clone());
        let held = Gauge::<i64>::default();
        registry.register("held", "Requests that wait for a session", held.clone());
        let links_up = Gauge::<i64>::default();
        registry.register("links_up", "Replicas of the service whose full state is known", links_up.clone());
        let answers = Family::<Answer, Counter>::default();
        registry.register("answers", "Answers of backends by class of status", answers.clone());
        let refusals = Family::<Refused, Counter>::default();
        registry.register("refusals", "Requests that the proxy refused, by code", refusals.clone());
        let served_unconfirmed = Counter::<u64, AtomicU64>::default();
        let help = "Requests that were served without confirming the route, because nobody could be asked";
        registry.register("served_unconfirmed", help, served_unconfirmed.clone());
        let fences = Family::<Fences, Counter>::default();
        registry.register("fences", "Orders to fence a session by their answer", fences.clone());
        let knocks = Counter::<u64, AtomicU64>::default();
        registry.register("knocks", "Requests that arrived at a fence and knocked", knocks.clone());
        let resolutions = Family::<Resolutions, Counter>::default();
        registry.register("resolutions", "Look-ups of a session by their result", resolutions.clone());
        let hits = Counter::clone(&resolutions.get_or_create(&Resolutions { result: Resolution::Hit }));
        Self(Arc::new(Inner {
            registry,
            open,
            held,
            links_up,
            answers,
            refusals,
            served_unconfirmed,
            fences,
            knocks,
            hits,
            resolutions,
        }))
    }

    /// All of it, in the text format of OpenMetrics.
    pub(crate) fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }

    pub(crate) fn opened(&self) {
        self.0.open.inc();
    }

    pub(crate) fn closed(&self) {
        self.0.open.dec();
    }

    pub(crate) fn held(&self) {
        self.0.held.inc();
    }

    pub(crate) fn released(&self) {
        self.0.held.dec();
    }

    pub(crate) fn links_up(&self, links: usize) {
        self.0.links_up.set(i64::try_from(links).unwrap_or(i64::MAX));
    }

    /// A backend's answer went to the client, with this status.
    pub(crate) fn answered(&self, status: u16) {
        let class = match status {
            0..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.0.answers.get_or_create(&Answer { class }).inc();
    }

    /// The proxy itself refused the request.
    pub(crate) fn refused(&self, refusal: &Refusal) {
        self.0.refusals.get_or_create(&Refused { code: refusal.code() }).inc();
    }

    pub(crate) fn served_unconfirmed(&self) {
        self.0.served_unconfirmed.inc();
    }

    pub(crate) fn fenced(&self, answer: FenceAnswer) {
        let answer = match answer {
            FenceAnswer::Fenced => FenceLabel::Fenced,
            FenceAnswer::Busy => FenceLabel::Busy,
            FenceAnswer::Stale => FenceLabel::Stale,
        };
        self.0.fences.get_or_create(&Fences { answer }).inc();
    }

    pub(crate) fn knocked(&self) {
        self.0.knocks.inc();
    }

    /// The known route was good.
    pub(crate) fn hit(&self) {
        self.0.hits.inc();
    }

    /// The record was read, or could not be.
    pub(crate) fn looked_up(&self, answered: bool) {
        let result = if answered { Resolution::Miss } else { Resolution::Unreachable };
        self.0.resolutions.get_or_create(&Resolutions { result }).inc();
    }
}
