//! What the proxy counts. The registry is a value, so that tests and two proxies in one process keep apart. Labels are
//! closed enumerations; `docs/metrics.md` is the reference, and a test compares the two.

mod edge;

use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::Ledger;
use bivouac_ledger::measured::Measured;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::activity::gate::FenceAnswer;
use crate::refusal::Refusal;
use edge::Edge;
pub(crate) use edge::{CountedConnection, TurnedAway};

/// Begins every name.
const PREFIX: &str = "bivouac_proxy";

/// The proxy's metrics. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    member: Gauge,
    links_up: Gauge,
    open: Gauge,
    tunnels: Gauge,
    holds: Gauge,
    holds_refused: Family<Bounded, Counter>,
    hold_duration: Histogram,
    requests: Family<Answer, Counter>,
    /// Those of backends, by the first digit of their status: looked up once, counted with each request.
    answers: [Counter; 5],
    to_backend: Counter,
    to_client: Counter,
    served_unconfirmed: Counter,
    fences: Family<Fences, Counter>,
    knocks: Counter,
    resolutions: Family<Resolutions, Counter>,
    /// Counted with each request, like the answers.
    hits: Counter,
    edge: Edge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    /// Class of a backend's status ("2xx"; "1xx" is an upgrade), or the code of our refusal.
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Bounded {
    bound: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Direction {
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Fences {
    answer: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Resolutions {
    result: &'static str,
}

/// Seconds that a request waits: a start takes a fraction of one, a queue for resources minutes.
const HOLDS: [f64; 8] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Which bound a request that wants to wait has met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// So many wait for its session already.
    Session,
    /// So many wait on this proxy.
    Total,
}

impl Metrics {
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self::with(Registry::with_prefix(PREFIX))
    }

    /// The metrics, and the ledger with its calls among them.
    pub(crate) fn measuring(ledger: Arc<dyn Ledger>) -> (Self, Arc<dyn Ledger>) {
        let mut registry = Registry::with_prefix(PREFIX);
        ledger.access().into_iter().for_each(|access| access.register(&mut registry));
        let ledger = Measured::register(ledger, &mut registry);
        (Self::with(registry), ledger)
    }

    fn with(mut registry: Registry) -> Self {
        let requests = Family::<Answer, Counter>::default();
        let answers = CLASSES.map(|code| Counter::clone(&requests.get_or_create(&Answer { code })));
        let bytes = Family::<Direction, Counter>::default();
        let carried = |direction| Counter::clone(&bytes.get_or_create(&Direction { direction }));
        let resolutions = Family::<Resolutions, Counter>::default();
        let [hits, ..] = ["hit", "miss", "unreachable"]
            .map(|result| Counter::clone(&resolutions.get_or_create(&Resolutions { result })));
        let mut inner = Inner {
            member: Gauge::default(),
            links_up: Gauge::default(),
            open: Gauge::default(),
            tunnels: Gauge::default(),
            holds: Gauge::default(),
            holds_refused: Family::default(),
            hold_duration: Histogram::new(HOLDS),
            requests,
            answers,
            to_backend: carried("to_backend"),
            to_client: carried("to_client"),
            served_unconfirmed: Counter::default(),
            fences: Family::default(),
            knocks: Counter::default(),
            resolutions,
            hits,
            edge: Edge::register(&mut registry),
            registry: Registry::default(),
        };
        for code in Refusal::CODES {
            drop(inner.requests.get_or_create(&Answer { code }));
        }
        for bound in [Bound::Session, Bound::Total] {
            drop(inner.holds_refused.get_or_create(&Bounded { bound: bound.label() }));
        }
        for answer in [FenceAnswer::Fenced, FenceAnswer::Busy, FenceAnswer::Stale] {
            drop(inner.fences.get_or_create(&Fences { answer: label(answer) }));
        }
        inner.register_use(&mut registry, bytes);
        inner.register_standing(&mut registry);
        inner.registry = registry;
        Self(Arc::new(inner))
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
        self.0.holds.inc();
    }

    /// It waits no longer, however that ended.
    pub(crate) fn released(&self, waited: Duration) {
        self.0.holds.dec();
        self.0.hold_duration.observe(waited.as_secs_f64());
    }

    /// A request that would have to wait met a bound.
    pub(crate) fn not_held(&self, bound: Bound) {
        self.0.holds_refused.get_or_create(&Bounded { bound: bound.label() }).inc();
    }

    /// Counts a tunnel for as long as the value lives.
    pub(crate) fn tunnel(&self) -> CountedTunnel {
        self.0.tunnels.inc();
        CountedTunnel(self.clone())
    }

    /// Bytes of bodies and tunnels that were carried on.
    pub(crate) fn carried(&self, to_backend: u64, to_client: u64) {
        if to_backend > 0 {
            self.0.to_backend.inc_by(to_backend);
        }
        if to_client > 0 {
            self.0.to_client.inc_by(to_client);
        }
    }

    pub(crate) fn links_up(&self, links: usize) {
        self.0.links_up.set(i64::try_from(links).unwrap_or(i64::MAX));
    }

    /// Whether this proxy is a member.
    pub(crate) fn member(&self, member: bool) {
        self.0.member.set(member.into());
    }

    /// A backend's answer went to the client, with this status.
    pub(crate) fn answered(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        if let Some(answers) = self.0.answers.get(class) {
            answers.inc();
        }
    }

    /// The proxy itself refused the request.
    pub(crate) fn refused(&self, refusal: &Refusal) {
        self.0.requests.get_or_create(&Answer { code: refusal.code() }).inc();
    }

    pub(crate) fn served_unconfirmed(&self) {
        self.0.served_unconfirmed.inc();
    }

    pub(crate) fn fenced(&self, answer: FenceAnswer) {
        self.0.fences.get_or_create(&Fences { answer: label(answer) }).inc();
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
        let result = if answered { "miss" } else { "unreachable" };
        self.0.resolutions.get_or_create(&Resolutions { result }).inc();
    }
}

impl Inner {
    /// What users do.
    fn register_use(&self, registry: &mut Registry, bytes: Family<Direction, Counter>) {
        let help = "Requests, by class of the backend's status or by the code of our refusal";
        registry.register("requests", help, self.requests.clone());
        let help = "Requests and connections that are open or held";
        registry.register("open", help, self.open.clone());
        registry.register("tunnels", "Upgraded connections that are open", self.tunnels.clone());
        registry.register("holds", "Requests that wait for a session", self.holds.clone());
        let help = "Requests that were refused because too many wait, by the bound they met";
        registry.register("holds_refused", help, self.holds_refused.clone());
        let help = "Time that requests waited for a session, however that ended";
        registry.register_with_unit("hold_duration", help, Unit::Seconds, self.hold_duration.clone());
        let help = "Bytes of bodies and tunnels that were carried";
        registry.register_with_unit("carried", help, Unit::Bytes, bytes);
    }

    /// How the proxy stands with service and ledger.
    fn register_standing(&self, registry: &mut Registry) {
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", version);
        let help = "1 while this proxy is a member: its evidence counts before a session is stopped";
        registry.register("member", help, self.member.clone());
        let help = "Replicas of the service whose full state is known";
        registry.register("links_up", help, self.links_up.clone());
        let help = "Requests that were served without confirming the route, because nobody could be asked";
        registry.register("served_unconfirmed", help, self.served_unconfirmed.clone());
        let help = "Orders to fence a session by their answer";
        registry.register("fences", help, self.fences.clone());
        registry.register("knocks", "Requests that arrived at a fence and knocked", self.knocks.clone());
        let help = "Look-ups of a session: the known route was good, the record was read, or could not be";
        registry.register("resolutions", help, self.resolutions.clone());
    }
}

impl Bound {
    fn label(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Total => "total",
        }
    }
}

fn label(answer: FenceAnswer) -> &'static str {
    match answer {
        FenceAnswer::Fenced => "fenced",
        FenceAnswer::Busy => "busy",
        FenceAnswer::Stale => "stale",
    }
}

/// A tunnel that is open.
pub(crate) struct CountedTunnel(Metrics);

impl CountedTunnel {
    /// See [`Metrics::carried`].
    pub(crate) fn carried(&self, to_backend: u64, to_client: u64) {
        self.0.carried(to_backend, to_client);
    }
}

impl Drop for CountedTunnel {
    fn drop(&mut self) {
        self.0.0.tunnels.dec();
    }
}
