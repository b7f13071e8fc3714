//! The configuration of Nomad agents, and when they are ready.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::agent::Agent;
use super::ports::Ports;
use super::site::{STANDARD_NOMAD, Site};

/// What a client needs in order to find the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server {
    rpc: u16,
}

/// The server: one, which is its own majority, and runs no jobs.
pub(super) fn server(site: &Site<'_>, ports: &mut Ports, consul: &Agent) -> Result<(Agent, Server)> {
    let standard = site.standard_ports.then_some(STANDARD_NOMAD);
    let http = ports.preferably(standard.map(|ports| ports.http))?;
    let rpc = ports.preferably(standard.map(|ports| ports.rpc))?;
    let serf = ports.preferably(standard.map(|ports| ports.serf))?;
    let mut config = common(site, "nomad-server", consul);
    config["ports"] = json!({ "http": http, "rpc": rpc, "serf": serf });
    config["ui"] = json!({ "enabled": true, "consul": { "ui_url": format!("{}/ui", consul.url()) } });
    let heartbeat = format!("{}ms", site.heartbeat.as_millis());
    config["server"] = json!({
        "enabled": true,
        "bootstrap_expect": 1,
        "raft_multiplier": 1,
        // 100 by default: a burst of spawns runs past a reader of the event stream.
        "event_buffer_size": 10_000,
        "min_heartbeat_ttl": heartbeat,
        "heartbeat_grace": heartbeat
    });
    if let Some(locks) = site.locks {
        locks.of_nomad("nomad-server", &mut config, true)?;
    }
    let agent = agent(site, "nomad-server", http, &config, Vec::new())?;
    Ok((agent, Server { rpc }))
}

/// A client, with the Consul agent that is its alone.
pub(super) fn client(
    site: &Site<'_>,
    ports: &mut Ports,
    name: &str,
    server: Server,
    consul: &Agent,
    dynamic: &RangeInclusive<u16>,
) -> Result<Agent> {
    let (http, rpc, serf) = (ports.free()?, ports.free()?, ports.free()?);
    let mut config = common(site, name, consul);
    config["ports"] = json!({ "http": http, "rpc": rpc, "serf": serf });
    config["plugin"] = json!({ "raw_exec": { "config": { "enabled": true } } });
    config["client"] = json!({
        "enabled": true,
        "servers": [format!("127.0.0.1:{}", server.rpc)],
        "network_interface": "lo",
        "min_dynamic_port": dynamic.start(),
        "max_dynamic_port": dynamic.end(),
        // Jobs find their node's Consul agent through it: `${meta.consul_http_addr}`.
        "meta": { "consul_http_addr": consul.url() },
        "options": {
            // Each asks a metadata service that is not there, and the first can fail the whole start.
            "fingerprint.denylist": "env_aws,env_gce,env_azure,env_digitalocean",
            // The others look for what these tests do not use, some of them for seconds.
            "driver.allowlist": "raw_exec,mock_driver"
        },
        // Room for as many small sessions as a test likes, whatever this machine has.
        "cpu_total_compute": 400_000,
        "memory_total_mb": 400_000,
        // Keep what has ended until the test does: logs are read afterwards.
        "gc_max_allocs": 100_000,
        "gc_disk_usage_threshold": 99,
        "gc_inode_usage_threshold": 99,
        // 30 s by default, which would cut a proxy's drain short.
        "max_kill_timeout": "10m"
    });
    if let Some(docker) = site.docker {
        config["plugin"]["docker"] = docker.plugin();
        config["client"]["options"]["driver.allowlist"] = "raw_exec,mock_driver,docker".into();
    }
    if let Some(locks) = site.locks {
        locks.of_nomad(name, &mut config, false)?;
    }
    agent(site, name, http, &config, site.task_environment())
}

fn common(site: &Site<'_>, name: &str, consul: &Agent) -> Value {
    json!({
        "name": name,
        "region": "global",
        "datacenter": "dc1",
        "data_dir": site.dir.join(name),
        "bind_addr": "127.0.0.1",
        // Loopback is refused unless it is asked for.
        "advertise": { "http": "127.0.0.1", "rpc": "127.0.0.1", "serf": "127.0.0.1" },
        "consul": {
            "address": consul.http_addr(),
            // The addresses are in the configuration: no waiting for one to find the other.
            "server_auto_join": false,
            "client_auto_join": false
        },
        // 100 by default, which one busy test on one address exceeds.
        "limits": { "http_max_conns_per_client": 0, "rpc_max_conns_per_client": 0 },
        "leave_on_interrupt": false,
        "leave_on_terminate": false,
        "disable_update_check": true,
        "log_level": "INFO"
    })
}

fn agent(
    site: &Site<'_>,
    name: &str,
    http: u16,
    config: &Value,
    environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
) -> Result<Agent> {
    let config = site.write_config(name, config)?;
    let arguments = ["agent".into(), "-config".into(), config.into_os_string()].into();
    Ok(site.agent(name, site.nomad, arguments, environment, SocketAddr::from(([127, 0, 0, 1], http))))
}

/// Whether the server takes clients and jobs: it refuses both until it has a key to sign identities with.
pub(super) async fn server_ready(http: &reqwest::Client, server: &Agent) -> Result<()> {
    let keys = get(http, server, "/.well-known/jwks.json").await?;
    ensure!(keys["keys"].as_array().is_some_and(|keys| !keys.is_empty()), "Nomad has no signing key yet");
    Ok(())
}

/// Whether the server can place jobs on each of the clients.
pub(super) async fn clients_ready(http: &reqwest::Client, server: &Agent, clients: &[&Agent]) -> Result<()> {
    let found = get(http, server, "/v1/nodes").await?;
    let found = found.as_array().context("Nomad lists no nodes")?;
    for client in clients {
        // The server goes on calling a client ready for a while when it is not there.
        get(http, client, "/v1/agent/health?type=client").await?;
        let name = client.name();
        let node = found.iter().find(|node| node["Name"] == name && node["Status"] == "ready");
        let node = node.with_context(|| format!("node {name} is not ready"))?;
        ensure!(node["Drivers"]["raw_exec"]["Healthy"] == true, "the driver of {name} is not ready");
        let docker = &node["Drivers"]["docker"];
        ensure!(docker.is_null() || docker["Healthy"] == true, "the docker driver of {name} is not ready");
        // A group with a Consul service is only placed where Consul was seen.
        let id = node["ID"].as_str().unwrap_or_default();
        let node = get(http, server, &format!("/v1/node/{id}")).await?;
        ensure!(node["Attributes"]["consul.version"].is_string(), "{name} has not found Consul");
    }
    Ok(())
}

async fn get(http: &reqwest::Client, agent: &Agent, path: &str) -> Result<Value> {
    let url = format!("{}{path}", agent.url());
    Ok(http.get(url).send().await?.error_for_status()?.json().await?)
}
