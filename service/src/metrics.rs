//! What is counted. Labels are closed enumerations, all of them shown from the start: a session's id is never one, and
//! a rate has something to begin at. `docs/metrics.md` is the reference, and a test compares the two.
//!
//! What happens to a session is counted by the replica that wrote it into the record, so that sums over replicas are
//! right.

mod shown;

use bivouac_protocol::{ReasonCode, Record, Timeline};
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::session::Kind;
pub(crate) use shown::Shown;

/// Begins every name.
pub(crate) const PREFIX: &str = "bivouac";

/// Upper bounds of a start's phases, in seconds: from a registration's few milliseconds to a slow image's minutes.
const START_BUCKETS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];

/// The service's metrics.
#[derive(Debug)]
pub struct Metrics {
    /// Claims won by a spawn.
    pub(crate) spawns: Counter,
    /// Claims won by a request for an ended session.
    pub(crate) wakes: Counter,
    starts: Family<StartPhase, Histogram, fn() -> Histogram>,
    ended: Family<Ended, Counter>,
    attempts: Family<Attempted, Counter>,
    retries: Family<Retried, Counter>,
    requests: Family<Request, Counter>,
    /// Reports of the backend that broke off.
    pub(crate) stream_interruptions: Counter,
    /// Times that reports may have been missed, so that everything was listed again.
    pub(crate) stream_gaps: Counter,
    /// 1 while the backend's reports arrive.
    pub(crate) stream_up: Gauge,
    /// Logs that are being read.
    pub(crate) log_followers: Gauge,
    /// Links to proxies that are up.
    pub(crate) links: Gauge,
    /// Proxies whose evidence is needed.
    pub(crate) members: Gauge,
    /// Those of them that this replica does not hear.
    pub(crate) members_silent: Gauge,
    /// 1 on the replica that leads.
    pub(crate) leads: Gauge,
    /// 1 while this replica sees some replica hold the leader's lock.
    pub(crate) leader_known: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StartPhase {
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempted {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Retried {
    step: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    /// The path's pattern; never the path.
    route: String,
    /// The status, or the problem's code.
    code: String,
}

/// How an attempt to stop an idle session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopAttempt {
    /// The stop was committed.
    Committed,
    /// Something was open on a proxy after all.
    Busy,
    /// A request arrived behind the fence.
    Knock,
    /// A proxy did not answer within a second.
    Late,
    /// A proxy's link, or the leadership, was lost meanwhile.
    Lost,
    /// The ledger refused the commit: another leads, a proxy joined, or somebody touched the record.
    Refused,
}

impl StopAttempt {
    const ALL: [Self; 6] = [Self::Committed, Self::Busy, Self::Knock, Self::Late, Self::Lost, Self::Refused];

    fn label(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Busy => "busy",
            Self::Knock => "knock",
            Self::Late => "late",
            Self::Lost => "lost",
            Self::Refused => "refused",
        }
    }
}

impl Metrics {
    /// The metrics, registered.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::new();
        let registry = registry.sub_registry_with_prefix(PREFIX);
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", version);
        metrics.register_sessions(registry);
        metrics.register_surroundings(registry);
        metrics
    }

    fn new() -> Self {
        let metrics = Self {
            spawns: Counter::default(),
            wakes: Counter::default(),
            starts: Family::new_with_constructor(|| Histogram::new(START_BUCKETS)),
            ended: Family::default(),
            attempts: Family::default(),
            retries: Family::default(),
            requests: Family::default(),
            stream_interruptions: Counter::default(),
            stream_gaps: Counter::default(),
            stream_up: Gauge::default(),
            log_followers: Gauge::default(),
            links: Gauge::default(),
            members: Gauge::default(),
            members_silent: Gauge::default(),
            leads: Gauge::default(),
            leader_known: Gauge::default(),
        };
        for reason in ReasonCode::ALL.map(ReasonCode::as_str) {
            drop(metrics.ended.get_or_create(&Ended { reason }));
        }
        for outcome in StopAttempt::ALL.map(StopAttempt::label) {
            drop(metrics.attempts.get_or_create(&Attempted { outcome }));
        }
        for step in Kind::ALL.map(Kind::name) {
            drop(metrics.retries.get_or_create(&Retried { step }));
        }
        for (phase, ..) in phases(&Timeline::default()) {
            drop(metrics.starts.get_or_create(&StartPhase { phase }));
        }
        metrics
    }

    fn register_sessions(&self, registry: &mut Registry) {
        registry.register("spawns", "Claims won by a spawn", self.spawns.clone());
        registry.register("wakes", "Ended sessions that a request started again", self.wakes.clone());
        let help = "Time of each phase of the starts that succeeded";
        registry.register_with_unit("session_start_duration", help, Unit::Seconds, self.starts.clone());
        registry.register("sessions_ended", "Sessions that ended, by reason", self.ended.clone());
        registry.register(
            "idle_stop_attempts",
            "Attempts to stop an idle session, by outcome",
            self.attempts.clone(),
        );
        let help = "Steps of a session's life that failed and are tried again";
        registry.register("session_step_failures", help, self.retries.clone());
    }

    fn register_surroundings(&self, registry: &mut Registry) {
        registry.register("api_requests", "Requests of the API by route and code", self.requests.clone());
        registry.register(
            "event_stream_interruptions",
            "Times that the backend's reports broke off",
            self.stream_interruptions.clone(),
        );
        let help = "Times that reports may have been missed and everything was listed again";
        registry.register("event_stream_gaps", help, self.stream_gaps.clone());
        registry.register("event_stream_up", "1 while the backend's reports arrive", self.stream_up.clone());
        registry.register(
            "log_followers",
            "Logs of sessions that are being read",
            self.log_followers.clone(),
        );
        registry.register("links_up", "Links to proxies that are up", self.links.clone());
        registry.register(
            "members",
            "Proxies whose evidence is needed for an idle stop",
            self.members.clone(),
        );
        let help = "Members that this replica does not hear: until it does, nothing is stopped for idleness";
        registry.register("members_silent", help, self.members_silent.clone());
        registry.register("leader", "1 on the replica that leads", self.leads.clone());
        let help = "1 while this replica sees that some replica leads";
        registry.register("leader_known", help, self.leader_known.clone());
    }

    /// A session became ready, and this replica wrote so.
    pub(crate) fn started(&self, record: &Record) {
        for (phase, from, to) in phases(&record.timeline) {
            let (Some(from), Some(to)) = (from, to) else { continue };
            // Placement may be seen before the registration's answer.
            let seconds = to.duration_since(from).as_secs_f64().max(0.0);
            self.starts.get_or_create(&StartPhase { phase }).observe(seconds);
        }
    }

    /// A session ended, and this replica wrote so.
    pub(crate) fn ended(&self, record: &Record) {
        if let Some(reason) = &record.reason {
            self.ended.get_or_create(&Ended { reason: reason.code.as_str() }).inc();
        }
    }

    /// An attempt to stop an idle session is over.
    pub(crate) fn attempted(&self, outcome: StopAttempt) {
        self.attempts.get_or_create(&Attempted { outcome: outcome.label() }).inc();
    }

    /// A step failed and is tried again.
    pub(crate) fn step_failed(&self, step: Kind) {
        self.retries.get_or_create(&Retried { step: step.name() }).inc();
    }

    /// A request of the API was answered. Route and code are of closed lists.
    pub(crate) fn answered(&self, route: &str, code: &str) {
        let request = Request { route: route.to_owned(), code: code.to_owned() };
        self.requests.get_or_create(&request).inc();
    }
}

/// The phases of a start, each with its beginning and its end.
fn phases(timeline: &Timeline) -> [(&'static str, Option<Timestamp>, Option<Timestamp>); 5] {
    [
        ("register", timeline.claimed, timeline.registered),
        ("place", timeline.registered, timeline.placed),
        ("set_up", timeline.placed, timeline.port_open),
        ("get_ready", timeline.port_open, timeline.ready),
        ("total", timeline.claimed, timeline.ready),
    ]
}
