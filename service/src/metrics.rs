//! What is counted. Labels are closed enumerations: a session's id is never one.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The service's metrics.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Claims won by a spawn.
    pub(crate) spawns: Counter,
    /// Claims won by a request for an ended session.
    pub(crate) wakes: Counter,
    /// Idle stops that were given up: a request came, or a proxy did not answer.
    pub(crate) stops_given_up: Counter,
    /// Links to proxies that are up.
    pub(crate) links: Gauge,
    /// Proxies whose evidence is needed.
    pub(crate) members: Gauge,
    /// 1 on the replica that leads.
    pub(crate) leads: Gauge,
}

impl Metrics {
    /// The metrics, registered.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let Self { spawns, wakes, stops_given_up, links, members, leads } = &metrics;
        registry.register("bivouac_spawns", "Claims won by a spawn", spawns.clone());
        registry.register("bivouac_wakes", "Claims won by a request for an ended session", wakes.clone());
        registry.register(
            "bivouac_idle_stops_given_up",
            "Idle stops that were given up",
            stops_given_up.clone(),
        );
        registry.register("bivouac_links", "Links to proxies that are up", links.clone());
        registry.register(
            "bivouac_members",
            "Proxies whose evidence is needed for an idle stop",
            members.clone(),
        );
        registry.register("bivouac_leads", "1 on the replica that leads", leads.clone());
        metrics
    }
}
