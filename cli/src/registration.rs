//! Registration of the service and the proxy with the Consul agent beside them, where Nomad does not do it: proxies
//! find replicas in the catalogue, and operators see what runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use bivouac_consul::{Check, Client, Probe, ServiceDefinition};
use bivouac_ledger::directory::consul::service_name;
use bivouac_protocol::Nonce;
use tokio_util::sync::CancellationToken;

use crate::environment;

/// How often the agent looks at `/livez`.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// An agent forgets what was registered if it is started anew without its data folder.
const REPEAT_INTERVAL: Duration = Duration::from_secs(30);
/// A process that was killed is removed by the agent after this long; Consul's shortest.
const DEREGISTER_AFTER: Duration = Duration::from_secs(60);

/// One listener to register.
pub(crate) struct Listener {
    /// What it is for: the last part of the service's name in Consul.
    pub(crate) role: &'static str,
    /// Where others reach it.
    pub(crate) address: SocketAddr,
    /// Answers `/livez`.
    pub(crate) health: SocketAddr,
}

/// What is registered, and with whom.
pub(crate) struct Registration {
    client: Client,
    services: Vec<ServiceDefinition>,
}

/// Whether this process runs as a Nomad job, whose jobspec registers it.
pub(crate) fn is_nomads_business() -> bool {
    environment::allocation().is_some()
}

impl Registration {
    /// Prepares the registration of these listeners, under names that begin with the ledger's prefix.
    pub(crate) fn new(client: Client, prefix: &str, listeners: &[Listener]) -> Self {
        let life = Nonce::random();
        let services = listeners
            .iter()
            .map(|listener| (service_name(prefix, listener.role), listener))
            .map(|(name, listener)| ServiceDefinition {
                id: format!("{name}-{life}"),
                address: listener.address,
                tags: vec!["bivouac".to_owned()],
                meta: BTreeMap::from([
                    ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
                    // Where Prometheus finds the metrics of a proxy, as in its jobspec.
                    ("admin_port".to_owned(), listener.health.port().to_string()),
                ]),
                check: Some(Check {
                    name: format!("{name} answers"),
                    probe: Probe::Http {
                        url: format!("http://{}/livez", listener.health),
                        interval: CHECK_INTERVAL,
                    },
                    deregister_after: Some(DEREGISTER_AFTER),
                }),
                name,
            })
            .collect();
        Self { client, services }
    }

    /// Registers until the shutdown, then deregisters. An agent that is away is tried again: the listeners serve
    /// meanwhile.
    pub(crate) async fn keep(self, shutdown: CancellationToken) {
        let mut repeat = tokio::time::interval(REPEAT_INTERVAL);
        repeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut known = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = repeat.tick() => {}
            }
            match self.register().await {
                Ok(()) => known = true,
                Err(error) if known => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "The registration with Consul could not be renewed; trying again."
                    );
                    known = false;
                }
                Err(error) => tracing::warn!(
                    error = format!("{error:#}"),
                    "Not registered with Consul yet; trying again."
                ),
            }
            if !known {
                repeat.reset_after(Duration::from_secs(1));
            }
        }
        self.deregister().await;
    }

    async fn register(&self) -> anyhow::Result<()> {
        for service in &self.services {
            self.client.register_service(service).await.with_context(|| service.name.clone())?;
        }
        Ok(())
    }

    async fn deregister(&self) {
        for service in &self.services {
            if let Err(error) = self.client.deregister_service(&service.id).await {
                tracing::warn!(%error, service = service.name, "Not deregistered from Consul; its agent will do it.");
            }
        }
    }
}

/// The address to register: readers of the catalogue cannot connect to "all addresses".
pub(crate) fn advertised(bound: SocketAddr, advertise: Option<IpAddr>) -> anyhow::Result<SocketAddr> {
    let ip = advertise.unwrap_or(bound.ip());
    anyhow::ensure!(
        !ip.is_unspecified(),
        "{bound} listens on all addresses: say with --advertise under which one others reach this host"
    );
    Ok(SocketAddr::new(ip, bound.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_nobodys_address() {
        let all: SocketAddr = "0.0.0.0:7071".parse().unwrap();
        assert!(advertised(all, None).unwrap_err().to_string().contains("--advertise"));
        let told = advertised(all, Some("10.1.2.3".parse().unwrap())).unwrap();
        assert_eq!(told.to_string(), "10.1.2.3:7071");
    }
}
