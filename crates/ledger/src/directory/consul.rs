//! Consul's catalogue as the directory.

use std::net::{IpAddr, SocketAddr};

use bivouac_consul::{Client, Instance};
use bivouac_protocol::{Endpoint, Generation, Protocol, Route, RoutePhase, SessionId};

use super::{Directory, Replica};
use crate::Error;
use crate::consul::failed;

/// Name of the service under which an installation's processes register in this role ("service", "link", "proxy"). It
/// begins with the ledger's prefix: two installations that share a Consul do not dial each other.
#[must_use]
pub fn service_name(prefix: &str, role: &str) -> String {
    format!("{}-{role}", prefix.trim_matches('/').replace('/', "-"))
}

/// Looks things up in Consul's catalogue, where Nomad registers sessions and replicas are registered.
#[derive(Debug, Clone)]
pub struct ConsulDirectory {
    client: Client,
    link_service: String,
}

impl ConsulDirectory {
    /// The catalogue that this client reads, with the replicas of the installation whose ledger has this prefix.
    #[must_use]
    pub fn new(client: Client, prefix: &str) -> Self {
        Self { client, link_service: service_name(prefix, "link") }
    }
}

#[async_trait::async_trait]
impl Directory for ConsulDirectory {
    async fn locate(&self, session: &SessionId, generation: Generation) -> Result<Option<Route>, Error> {
        let instances = self.client.catalog_service(&session.service_name()).await.map_err(failed)?;
        Ok(whole_route(&instances, session, generation))
    }

    async fn replicas(&self) -> Result<Vec<Replica>, Error> {
        // Whatever their checks say: a replica that is not well fails to connect, and one that is well need not be
        // known to be.
        let instances = self.client.health_service(&self.link_service, false).await.map_err(failed)?;
        let replicas = instances.into_iter().filter_map(|instance| {
            let address = address(&instance)?;
            // An id is unique on its node only.
            Some(Replica { id: format!("{}/{}", instance.node, instance.id), address })
        });
        Ok(replicas.collect())
    }
}

/// The route to a generation: its default port, which is the one that is marked so, else the first by its label, and
/// whatever else its allocation has registered.
fn whole_route(instances: &[Instance], session: &SessionId, generation: Generation) -> Option<Route> {
    let mut routes: Vec<_> = instances
        .iter()
        .filter_map(|instance| Some((!is_marked(instance), route(instance, session)?)))
        .filter(|(_, route)| route.generation == generation)
        .collect();
    routes.sort_by(|(unmarked, route), (other_unmarked, other)| {
        (unmarked, &route.port).cmp(&(other_unmarked, &other.port))
    });
    let mut routes = routes.into_iter().map(|(_, route)| route);
    let mut default = routes.next()?;
    for further in routes.filter(|further| further.allocation == default.allocation) {
        if further.port != default.port {
            let endpoint = further.default_endpoint();
            default.further.entry(further.port).or_insert(endpoint);
        }
    }
    Some(default)
}

fn is_marked(instance: &Instance) -> bool {
    instance.meta.get("bivouac_default_port").is_some_and(|value| value == "true")
}

/// `None` for whatever a template's author registered under the same name for other purposes.
fn route(instance: &Instance, session: &SessionId) -> Option<Route> {
    let meta = |name: &str| instance.meta.get(name).map(String::as_str);
    if meta("bivouac_session") != Some(session.as_str()) {
        return None;
    }
    Some(Route::new(
        session.clone(),
        meta("bivouac_generation")?.parse().ok()?,
        meta("bivouac_allocation")?.parse().ok()?,
        meta("bivouac_port")?.parse().ok()?,
        Endpoint {
            address: address(instance)?,
            protocol: protocol(meta("bivouac_protocol"))?,
            phase: RoutePhase::Ready,
        },
    ))
}

fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text {
        None | Some("http") => Some(Protocol::Http),
        Some("h2c") => Some(Protocol::H2c),
        Some(_) => None,
    }
}

/// Only literal addresses: a name would have to be resolved on every connection, by whatever answers DNS here.
fn address(instance: &Instance) -> Option<SocketAddr> {
    let ip: Option<IpAddr> = instance.address.parse().ok();
    if ip.is_none() {
        tracing::warn!(
            service.id = instance.id,
            service.address = instance.address,
            "A registration in Consul is left out: its address is not an IP address."
        );
    }
    ip.map(|ip| SocketAddr::new(ip, instance.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "abcdefghijklmnopqrst";

    #[test]
    fn installations_have_names_of_their_own() {
        assert_eq!(service_name("bivouac", "link"), "bivouac-link");
        assert_eq!(service_name("/apps/bivouac/", "proxy"), "apps-bivouac-proxy");
    }

    fn instance(generation: &str, label: &str, address: &str) -> Instance {
        let meta = [
            ("bivouac_session", SESSION),
            ("bivouac_generation", generation),
            ("bivouac_allocation", "0b57f2a6-7f2e-4a8c-9d5b-0f3f7f0f5a11"),
            ("bivouac_port", label),
            ("bivouac_protocol", "http"),
        ];
        Instance {
            node: "n".to_owned(),
            id: format!("{generation}-{label}"),
            address: address.to_owned(),
            port: 20_000,
            tags: Vec::new(),
            meta: meta.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            status: None,
        }
    }

    fn located(instances: &[Instance], generation: u64) -> Option<Route> {
        whole_route(instances, &SESSION.parse().unwrap(), Generation(generation))
    }

    #[test]
    fn a_generation_finds_its_own_registration_only() {
        let instances = [instance("1", "http", "127.0.0.1"), instance("2", "http", "::1")];
        assert_eq!(located(&instances, 1).unwrap().address, "127.0.0.1:20000".parse().unwrap());
        assert_eq!(located(&instances, 2).unwrap().address, "[::1]:20000".parse().unwrap());
        assert_eq!(located(&instances, 3), None);
    }

    #[test]
    fn the_marked_port_is_chosen_and_else_the_first() {
        let mut instances = [instance("1", "web", "127.0.0.1"), instance("1", "admin", "127.0.0.1")];
        assert_eq!(located(&instances, 1).unwrap().port.as_str(), "admin");
        instances[0].meta.insert("bivouac_default_port".to_owned(), "true".to_owned());
        assert_eq!(located(&instances, 1).unwrap().port.as_str(), "web");
    }

    #[test]
    fn further_ports_are_those_of_the_same_allocation() {
        let mut instances = [
            instance("1", "admin", "127.0.0.1"),
            instance("1", "web", "127.0.0.1"),
            instance("1", "api", "127.0.0.2"),
            instance("1", "stray", "127.0.0.1"),
            instance("2", "late", "127.0.0.1"),
        ];
        instances[1].meta.insert("bivouac_default_port".to_owned(), "true".to_owned());
        instances[2].meta.insert("bivouac_protocol".to_owned(), "h2c".to_owned());
        instances[3].meta.insert("bivouac_allocation".to_owned(), "another".to_owned());
        let route = located(&instances, 1).unwrap();
        assert_eq!(route.port.as_str(), "web");
        let labels: Vec<_> = route.further.keys().map(|label| label.as_str()).collect();
        assert_eq!(labels, ["admin", "api"]);
        let api = route.endpoint(Some(&"api".parse().unwrap())).unwrap();
        assert_eq!((api.address, api.protocol), ("127.0.0.2:20000".parse().unwrap(), Protocol::H2c));
    }

    #[test]
    fn registrations_that_are_not_ours_or_cannot_be_used_are_left_out() {
        let mut foreign = instance("1", "http", "127.0.0.1");
        foreign.meta.insert("bivouac_session".to_owned(), "zbcdefghijklmnopqrst".to_owned());
        let mut unknown = instance("1", "http", "127.0.0.1");
        unknown.meta.insert("bivouac_protocol".to_owned(), "gopher".to_owned());
        let named = instance("1", "http", "host.example");
        let zeroth = instance("01", "http", "127.0.0.1");
        assert_eq!(located(&[foreign, unknown, named, zeroth], 1), None);
    }
}
