//! What the environment says of the cluster around this process.

use std::time::Duration;

use bivouac_service::Failpoints;

use crate::nomad_env::{self, Nomad};

/// Major and minor number of the oldest Consul that this is made for.
pub(crate) const OLDEST_CONSUL: (u32, u32) = (1, 16);

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Consul's agent, from the variables of Consul's own tools.
pub(crate) fn consul() -> anyhow::Result<bivouac_consul::Config> {
    Ok(bivouac_consul::Config::from_variables(variable)?)
}

/// Says so if Consul is older than what this is made for. A policy need not permit that question: then it stays open.
pub(crate) async fn compare_consuls_version(consul: bivouac_consul::Client) {
    let (major, minor) = OLDEST_CONSUL;
    let agent = loop {
        match consul.agent().await {
            Ok(agent) => break agent,
            Err(bivouac_consul::Error::Unavailable(_)) => tokio::time::sleep(Duration::from_secs(5)).await,
            Err(why) => {
                tracing::debug!(%why, "Consul does not tell its version; {major}.{minor} or later is assumed.");
                return;
            }
        }
    };
    if agent.release().is_some_and(|release| release < OLDEST_CONSUL) {
        tracing::warn!(
            consul.version = agent.version,
            "Consul is older than {major}.{minor}, the oldest that this is made for: upgrade it."
        );
    }
}

/// Nomad, from the variables of Nomad's own tools.
pub(crate) fn nomad() -> anyhow::Result<Nomad> {
    nomad_env::read(variable)
}

/// Our own allocation, where we run as a Nomad job.
pub(crate) fn allocation() -> Option<String> {
    variable("NOMAD_ALLOC_ID")
}

/// Where a test wants this process to stop. A release build knows none.
pub(crate) fn failpoints() -> Failpoints {
    variable("BIVOUAC_FAILPOINTS").map(|setting| Failpoints::parse(&setting)).unwrap_or_default()
}
