//! What the environment says of the cluster around this process.

use bivouac_service::Failpoints;

use crate::nomad_env::{self, Nomad};

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Consul's agent, from the variables of Consul's own tools.
pub(crate) fn consul() -> anyhow::Result<bivouac_consul::Config> {
    Ok(bivouac_consul::Config::from_variables(variable)?)
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
