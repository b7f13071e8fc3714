//! The registry that everybody looks things up in: the catalogue, and the same with health.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::Deserialize;

use crate::transport::LIST_TIMEOUT;
use crate::{Client, Error};

/// One registered instance of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Name of the node that it is registered on.
    pub node: String,
    /// Its id, unique on its node.
    pub id: String,
    /// Its own address, or else its node's. A name or an IP address.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Searchable marks.
    pub tags: Vec<String>,
    /// Further facts.
    pub meta: BTreeMap<String, String>,
    /// The worst state of its checks and its node's; the catalogue alone does not know it.
    pub status: Option<CheckStatus>,
}

/// State of a check. The worst is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// Well.
    Passing,
    /// Well enough.
    Warning,
    /// Not well.
    Critical,
    /// Any state that this client does not know.
    #[serde(other)]
    Unknown,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CatalogEntry {
    node: String,
    address: String,
    #[serde(rename = "ServiceID")]
    service_id: String,
    service_address: String,
    service_port: u16,
    service_tags: Option<Vec<String>>,
    service_meta: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthEntry {
    node: HealthNode,
    service: HealthService,
    checks: Option<Vec<HealthCheck>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthNode {
    node: String,
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthService {
    #[serde(rename = "ID")]
    id: String,
    address: String,
    port: u16,
    tags: Option<Vec<String>>,
    meta: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthCheck {
    status: CheckStatus,
}

impl From<CatalogEntry> for Instance {
    fn from(entry: CatalogEntry) -> Self {
        Self {
            node: entry.node,
            id: entry.service_id,
            address: own_or_nodes(entry.service_address, entry.address),
            port: entry.service_port,
            tags: entry.service_tags.unwrap_or_default(),
            meta: entry.service_meta.unwrap_or_default(),
            status: None,
        }
    }
}

impl From<HealthEntry> for Instance {
    fn from(entry: HealthEntry) -> Self {
        let checks = entry.checks.unwrap_or_default();
        Self {
            node: entry.node.node,
            id: entry.service.id,
            address: own_or_nodes(entry.service.address, entry.node.address),
            port: entry.service.port,
            tags: entry.service.tags.unwrap_or_default(),
            meta: entry.service.meta.unwrap_or_default(),
            status: Some(checks.iter().map(|check| check.status).max().unwrap_or(CheckStatus::Passing)),
        }
    }
}

fn own_or_nodes(own: String, nodes: String) -> String {
    if own.is_empty() { nodes } else { own }
}

impl Client {
    /// The instances of a service that the token may read, whatever their health. An unknown service has none.
    ///
    /// # Errors
    /// When Consul does not answer.
    pub async fn catalog_service(&self, name: &str) -> Result<Vec<Instance>, Error> {
        let request = self.transport.request(Method::GET, ["catalog", "service", name], LIST_TIMEOUT);
        let entries: Vec<CatalogEntry> = self.transport.send(request).await?.or_missing()?.json()?;
        Ok(entries.into_iter().map(Instance::from).collect())
    }

    /// The instances of a service with their health; with `passing`, only those that are well.
    ///
    /// # Errors
    /// When Consul does not answer.
    pub async fn health_service(&self, name: &str, passing: bool) -> Result<Vec<Instance>, Error> {
        let mut request = self.transport.request(Method::GET, ["health", "service", name], LIST_TIMEOUT);
        if passing {
            request = request.query(&[("passing", "true")]);
        }
        let entries: Vec<HealthEntry> = self.transport.send(request).await?.or_missing()?.json()?;
        Ok(entries.into_iter().map(Instance::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalogue_entry_without_an_address_has_its_nodes() {
        let entries: Vec<CatalogEntry> = serde_json::from_str(include_str!("wire/catalog.json")).unwrap();
        let instances: Vec<Instance> = entries.into_iter().map(Instance::from).collect();
        assert_eq!(
            (instances[0].id.as_str(), instances[0].address.as_str(), instances[0].port),
            ("a", "127.0.0.1", 8080)
        );
        assert_eq!((instances[1].id.as_str(), instances[1].address.as_str()), ("b", "127.0.0.2"));
        assert_eq!(instances[0].meta["bivouac_generation"], "1");
        assert_eq!(instances[0].tags, ["bivouac-session"]);
    }

    #[test]
    fn an_instance_is_as_well_as_its_worst_check() {
        let entries: Vec<HealthEntry> = serde_json::from_str(include_str!("wire/health.json")).unwrap();
        let status: Vec<_> = entries.into_iter().map(Instance::from).map(|i| (i.id, i.status)).collect();
        let expected = [("a", CheckStatus::Critical), ("b", CheckStatus::Passing)];
        assert_eq!(status, expected.map(|(id, status)| (id.to_owned(), Some(status))));
    }
}
