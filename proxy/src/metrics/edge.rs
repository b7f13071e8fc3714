//! What happens at the door: connections, certificates, single-use links, the access log.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;

/// At the door.
#[derive(Default)]
pub(super) struct Edge {
    connections: Family<Spoken, Gauge>,
    plain: Gauge,
    secure: Gauge,
    turned_away: Family<Cause, Counter>,
    certificate_expiry: Gauge,
    certificate_errors: Counter,
    tickets_unconfirmed: Counter,
    log_dropped: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Spoken {
    tls: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cause {
    cause: &'static str,
}

/// Why a connection was closed before it had a request, or with all that it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TurnedAway {
    /// There are as many as there may be.
    Full,
    /// There are as many of that client as there may be.
    Client,
    /// No PROXY header where there has to be one, or a broken one.
    ProxyHeader,
    /// The TLS handshake failed.
    Handshake,
    /// Nothing, or too little, came in time.
    Slow,
    /// Too many streams were taken back, or were malformed.
    Resets,
}

impl TurnedAway {
    const ALL: [Self; 6] =
        [Self::Full, Self::Client, Self::ProxyHeader, Self::Handshake, Self::Slow, Self::Resets];

    fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Client => "client",
            Self::ProxyHeader => "proxy_header",
            Self::Handshake => "handshake",
            Self::Slow => "slow",
            Self::Resets => "resets",
        }
    }
}

/// A client's connection that is open.
pub(crate) struct CountedConnection(Gauge);

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Edge {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let connections = Family::<Spoken, Gauge>::default();
        let [plain, secure] =
            ["false", "true"].map(|tls| Gauge::clone(&connections.get_or_create(&Spoken { tls })));
        let edge = Self { connections, plain, secure, ..Self::default() };
        for cause in TurnedAway::ALL {
            drop(edge.turned_away.get_or_create(&Cause { cause: cause.label() }));
        }
        registry.register("connections", "Connections of clients that are open", edge.connections.clone());
        let help = "Connections that were closed without an answer, by the cause";
        registry.register("connections_turned_away", help, edge.turned_away.clone());
        let help = "When the certificate ends, in Unix time; 0 without TLS";
        registry.register("certificate_expiry_timestamp_seconds", help, edge.certificate_expiry.clone());
        let help = "Times that new certificate files could not be used, and the earlier ones were kept";
        registry.register("certificate_errors", help, edge.certificate_errors.clone());
        let help = "Links whose one use could not be noted in the ledger, and was noted here alone";
        registry.register("tickets_unconfirmed", help, edge.tickets_unconfirmed.clone());
        let help = "Lines of the access log that were lost";
        registry.register("log_dropped", help, edge.log_dropped.clone());
        edge
    }
}

impl Metrics {
    /// Counts a client's connection for as long as the value lives.
    pub(crate) fn connection(&self, secure: bool) -> CountedConnection {
        let gauge = if secure { &self.0.edge.secure } else { &self.0.edge.plain };
        gauge.inc();
        CountedConnection(gauge.clone())
    }

    /// A connection was closed without an answer.
    pub(crate) fn turned_away(&self, why: TurnedAway) {
        self.0.edge.turned_away.get_or_create(&Cause { cause: why.label() }).inc();
    }

    /// A certificate is in use that ends at this Unix time.
    pub(crate) fn certificate_ends(&self, at: i64) {
        self.0.edge.certificate_expiry.set(at);
    }

    /// New certificate files could not be used.
    pub(crate) fn certificate_refused(&self) {
        self.0.edge.certificate_errors.inc();
    }

    /// A link was used whose one use is noted on this proxy alone.
    pub(crate) fn ticket_unconfirmed(&self) {
        self.0.edge.tickets_unconfirmed.inc();
    }

    /// Lines of the access log were lost.
    pub(crate) fn log_dropped(&self, lines: u64) {
        self.0.edge.log_dropped.inc_by(lines);
    }
}
