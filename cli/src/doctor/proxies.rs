//! A proxy, by its admin listener, and what it may connect to.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use reqwest::header::ACCEPT;
use serde_json::Value;
use url::Url;

use super::agents::{self, Heard};
use super::report::Finding;

/// Ports of Nomad and Consul agents, which a proxy must never connect users to.
const AGENTS: [u16; 8] = [4646, 4647, 4648, 8500, 8501, 8502, 8300, 8301];

/// Looks at one proxy. Returns the findings and, if it answered, one answer for the clocks.
pub(crate) async fn examine(http: &reqwest::Client, admin: &Url) -> (Vec<Finding>, Option<Heard>) {
    let url = match admin.join("readyz") {
        Ok(url) => url,
        Err(error) => {
            return (
                vec![Finding::error("proxy.reachable", error.to_string(), "Correct --proxy-admin.")],
                None,
            );
        }
    };
    let heard = match agents::ask(http.get(url).header(ACCEPT, "application/json")).await {
        Ok(heard) => heard,
        Err(silence) => {
            let found = format!("the proxy at {admin} does not answer: {}", silence.0);
            let fix = "Start it, or give the address of its admin listener with --proxy-admin.";
            return (vec![Finding::error("proxy.reachable", found, fix)], None);
        }
    };
    let mut findings = vec![Finding::ok("proxy.reachable", format!("the proxy answers at {admin}"))];
    findings.extend(checked(&heard.json()["checks"]));
    (findings, Some(heard))
}

/// What its `/readyz` says.
fn checked(checks: &Value) -> Vec<Finding> {
    let flag = |name: &str| checks[name].as_bool().unwrap_or(false);
    if flag("draining") {
        // Whoever drains leaves in the end, and is neither a member nor linked from then on.
        return vec![Finding::warning(
            "proxy.serving",
            "it drains, or is drained: it accepts nothing new",
            "Nothing, if somebody drains or stops it; else start it again.",
        )];
    }
    let serving = if flag("serving") {
        Finding::ok("proxy.serving", "it accepts session traffic")
    } else {
        Finding::error(
            "proxy.serving",
            "it does not accept session traffic yet: it waits for the ledger, to join the members",
            "Look why it cannot reach Consul, or is refused there: its log says so.",
        )
    };
    let member = if flag("member") {
        Finding::ok("proxy.member", "it is a member: its evidence counts")
    } else {
        Finding::error(
            "proxy.member",
            "it is no member: what it sees does not keep sessions alive",
            "Look why it cannot write its document in Consul: its log says so.",
        )
    };
    let links = match checks["links"].as_u64().unwrap_or(0) {
        0 => Finding::error(
            "proxy.links",
            "it is linked to no replica of the service: routes come late, and nothing is stopped for idleness",
            "Look whether a replica runs and is in Consul's catalogue, whether its internal listener is reached from \
             there, and whether both have the same link secret.",
        ),
        links => Finding::ok("proxy.links", format!("it is linked to {links} of the service's replicas")),
    };
    vec![serving, member, links]
}

/// What a proxy with these bounds could be made to connect users to.
pub(crate) fn backends(networks: &[IpNet], ports: &[RangeInclusive<u16>]) -> Vec<Finding> {
    let mut findings: Vec<_> = networks.iter().filter_map(network).collect();
    findings.extend(ports.iter().filter_map(port_range));
    if findings.is_empty() {
        findings.push(Finding::ok("proxy.backends", "backends may only be where sessions are"));
    }
    findings
}

fn network(network: &IpNet) -> Option<Finding> {
    const CHECK: &str = "proxy.backends";
    const METADATA: [u8; 4] = [169, 254, 169, 254];
    let fix = "Name the networks that Nomad's clients are in with --backend-network, and no others.";
    if network.prefix_len() == 0 {
        let found = format!("backends may be anywhere ({network}): a wrong registration leads users there");
        return Some(Finding::error(CHECK, found, fix));
    }
    let metadata = network.contains(&IpAddr::from(METADATA));
    let local = match network.network() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    (metadata || local).then(|| {
        let found = format!("{network} is or has link-local addresses, where clouds keep credentials");
        Finding::error(CHECK, found, fix)
    })
}

fn port_range(ports: &RangeInclusive<u16>) -> Option<Finding> {
    let within: Vec<_> = AGENTS.iter().filter(|port| ports.contains(port)).map(ToString::to_string).collect();
    (!within.is_empty()).then(|| {
        Finding::warning(
            "proxy.backends",
            format!("ports {}-{} include those of the cluster's own agents ({})", ports.start(), ports.end(), within.join(", ")),
            "Name the range that Nomad gives to allocations (min_dynamic_port to max_dynamic_port) with --backend-ports.",
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::report::Level;
    use super::*;

    fn worst(networks: &[&str], ports: &[RangeInclusive<u16>]) -> Option<Level> {
        let networks: Vec<IpNet> = networks.iter().map(|network| network.parse().unwrap()).collect();
        backends(&networks, ports).iter().map(|finding| finding.level).max()
    }

    #[test]
    fn a_proxy_that_is_drained_is_not_blamed_for_having_left() {
        let worst = |serving, draining, member, links: u64| {
            let checks = json!({"serving": serving, "draining": draining, "member": member, "links": links});
            checked(&checks).iter().map(|finding| finding.level).max()
        };
        assert_eq!(worst(true, false, true, 1), Some(Level::Ok));
        assert_eq!(worst(true, true, false, 0), Some(Level::Warning));
        for (serving, member, links) in [(false, true, 1), (true, false, 1), (true, true, 0)] {
            assert_eq!(worst(serving, false, member, links), Some(Level::Error));
        }
    }

    #[test]
    fn only_networks_and_ports_of_sessions_are_sane() {
        assert_eq!(worst(&["10.0.0.0/8", "fd00::/8"], &[20_000..=32_000]), Some(Level::Ok));
        assert_eq!(worst(&["10.0.0.0/8"], &[1..=65_535]), Some(Level::Warning));
        for network in ["0.0.0.0/0", "::/0", "169.254.0.0/16", "169.0.0.0/8", "fe80::/10"] {
            assert_eq!(worst(&[network], &[20_000..=32_000]), Some(Level::Error), "{network}");
        }
    }
}
