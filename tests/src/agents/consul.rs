//! The configuration of Consul agents, and when one is ready.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::agent::Agent;
use super::ports::Ports;
use super::site::{STANDARD_CONSUL, Site};

/// What a client needs in order to join.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server {
    serf: u16,
}

/// The server: one, which is its own majority.
pub(super) fn server(site: &Site<'_>, ports: &mut Ports) -> Result<(Agent, Server)> {
    let standard = site.standard_ports.then_some(STANDARD_CONSUL);
    let http = ports.preferably(standard.map(|ports| ports.http))?;
    let serf = ports.preferably(standard.map(|ports| ports.serf))?;
    let rpc = ports.preferably(standard.map(|ports| ports.rpc))?;
    let mut config = common(site, "consul-server", http, serf, rpc);
    config["server"] = json!(true);
    config["bootstrap_expect"] = json!(1);
    config["ui_config"] = json!({ "enabled": true });
    // As eager as a cluster of one can be.
    config["performance"] = json!({ "raft_multiplier": 1 });
    if let Some(locks) = site.locks {
        locks.of_consul("consul-server", &mut config, http, true)?;
    }
    let agent = agent(site, "consul-server", http, &config)?;
    Ok((agent, Server { serf }))
}

/// A client, which joins the server.
pub(super) fn client(site: &Site<'_>, ports: &mut Ports, name: &str, server: Server) -> Result<Agent> {
    let (http, serf, rpc) = (ports.free()?, ports.free()?, ports.free()?);
    let mut config = common(site, name, http, serf, rpc);
    config["retry_join"] = json!([format!("127.0.0.1:{}", server.serf)]);
    // The default is 30 s, and the first try usually comes before the server listens.
    config["retry_interval"] = json!("1s");
    if let Some(locks) = site.locks {
        locks.of_consul(name, &mut config, http, false)?;
    }
    agent(site, name, http, &config)
}

fn common(site: &Site<'_>, name: &str, http: u16, serf: u16, rpc: u16) -> Value {
    json!({
        "node_name": name,
        "datacenter": "dc1",
        "data_dir": site.dir.join(name),
        "bind_addr": "127.0.0.1",
        "client_addr": "127.0.0.1",
        "ports": { "http": http, "server": rpc, "serf_lan": serf, "serf_wan": -1, "dns": -1, "grpc": -1, "grpc_tls": -1 },
        // 200 by default, which one busy test on one address exceeds.
        "limits": { "http_max_conns_per_client": 0, "rpc_max_conns_per_client": 10_000 },
        "connect": { "enabled": false },
        "peering": { "enabled": false },
        // A stopped agent comes back with what it knew; it does not take leave of the cluster.
        "leave_on_terminate": false,
        "skip_leave_on_interrupt": true,
        "disable_update_check": true,
        "log_level": "INFO"
    })
}

fn agent(site: &Site<'_>, name: &str, http: u16, config: &Value) -> Result<Agent> {
    let config = site.write_config(name, config)?;
    let arguments = ["agent".into(), "-config-file".into(), config.into_os_string()].into();
    Ok(site.agent(name, site.consul, arguments, Vec::new(), SocketAddr::from(([127, 0, 0, 1], http))))
}

/// Whether the agent answers, and its cluster has a leader and `nodes` members that are alive.
pub(super) async fn ready(http: &reqwest::Client, agent: &Agent, nodes: usize) -> Result<()> {
    let get = async |path: &str| -> Result<Value> {
        let url = format!("{}{path}", agent.url());
        Ok(http.get(url).send().await?.error_for_status()?.json().await?)
    };
    let leader = get("/v1/status/leader").await?;
    ensure!(leader.as_str().is_some_and(|leader| !leader.is_empty()), "Consul has no leader");
    let found = get("/v1/catalog/nodes").await?.as_array().map_or(0, Vec::len);
    ensure!(found >= nodes, "{} knows {found} of {nodes} nodes", agent.name());
    Ok(())
}
