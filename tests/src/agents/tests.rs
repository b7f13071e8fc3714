use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::sweeper::MARK;
use super::*;

/// The command lines of the processes that carry the mark of the group in `dir`, by their ids.
fn marked(dir: &Path) -> BTreeMap<String, String> {
    let mark = format!("{MARK}={}/", dir.display());
    let read = |process: &Path, file: &str| {
        std::fs::read(process.join(file)).map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    processes
        .filter(|process| read(process, "environ").is_ok_and(|environment| environment.contains(&mark)))
        .filter_map(|process| Some((process.display().to_string(), read(&process, "cmdline").ok()?)))
        .collect()
}

/// A job whose task sleeps, on every client. On a locked site only those of the sessions' namespace register services.
async fn register_sleepers(agents: &Agents) {
    let namespace = agents.locks().map_or("default", |_| SESSIONS);
    let group = json!({
        "Name": "sleep", "Count": agents.clients().len(),
        "Constraints": [{ "Operand": "distinct_hosts", "RTarget": "true" }],
        "Networks": [{ "DynamicPorts": [{ "Label": "http" }] }],
        "Services": [{ "Name": "session-sleeper", "PortLabel": "http", "Provider": "consul" }],
        "Tasks": [{
            "Name": "sleep", "Driver": "raw_exec",
            "Config": { "command": "sleep", "args": ["1000"] },
            "Resources": { "CPU": 20, "MemoryMB": 20 }
        }]
    });
    let job = json!({ "Job": {
        "ID": "sleeper", "Name": "sleeper", "Namespace": namespace, "Type": "service", "TaskGroups": [group]
    } });
    let url = format!("{}/v1/jobs?namespace={namespace}", agents.nomad().url());
    agents.http().post(url).json(&job).send().await.unwrap().error_for_status().unwrap();
}

async fn sleeping(agents: &Agents, wanted: usize) -> Result<()> {
    let url = format!("{}/v1/health/service/session-sleeper", agents.consul().url());
    let services: Value = agents.http().get(url).send().await?.json().await?;
    let found = services.as_array().map_or(0, Vec::len);
    anyhow::ensure!(found == wanted, "{found} of {wanted} in Consul");
    Ok(())
}

#[tokio::test]
async fn a_cluster_starts_runs_jobs_survives_its_agents_and_leaves_nothing() {
    let started = Instant::now();
    let agents = Agents::start(AgentsConfig::default()).await.unwrap();
    println!("started in {:?}", started.elapsed());
    let dir = agents.dir().to_owned();

    register_sleepers(&agents).await;
    let limit = Duration::from_secs(20);
    agents.until("both run", limit, async || sleeping(&agents, 2).await).await.unwrap();
    let tasks = || {
        let mut tasks = marked(&dir);
        tasks.retain(|_, command| command.ends_with("sleep 1000 "));
        tasks
    };
    let both = async || {
        anyhow::ensure!(tasks().len() == 2, "{:?}", tasks());
        Ok(())
    };
    agents.until("both tasks run", limit, both).await.unwrap();
    let before = tasks();

    // The agents of one host die and come back; its task did not notice.
    agents.client(0).nomad().kill9().unwrap();
    agents.client(0).consul().kill9().unwrap();
    assert!(!agents.client(0).nomad().is_running());
    agents.wait_ready(limit).await.unwrap();
    agents.client(0).consul().start().unwrap();
    agents.client(0).nomad().start().unwrap();
    agents.nomad().terminate().await.unwrap();
    agents.nomad().start().unwrap();
    agents.consul().restart().unwrap();
    agents.wait_ready(limit).await.unwrap();
    assert_eq!(tasks(), before);

    agents.client(1).nomad().freeze().unwrap();
    agents.client(1).nomad().thaw().unwrap();
    println!("restarted after {:?}", started.elapsed());

    drop(agents);
    assert_eq!(marked(&dir), BTreeMap::new());
    assert!(!dir.exists());
    println!("gone after {:?}", started.elapsed());
}

#[tokio::test]
async fn an_agent_that_does_not_start_is_shown_with_its_output() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("nomad-server"), "where its data folder should be").unwrap();
    let config =
        AgentsConfig { data_dir: Some(dir.path().to_owned()), nomad_clients: 0, ..AgentsConfig::default() };
    let error = format!("{:#}", Agents::start(config).await.err().unwrap());
    assert!(error.contains("nomad-server has ended"), "{error}");
    assert!(error.contains("not a directory"), "{error}");
}

#[tokio::test]
async fn a_locked_cluster_runs_jobs_that_log_in_to_consul() {
    let started = Instant::now();
    let config = AgentsConfig { nomad_clients: 1, locked: true, ..AgentsConfig::default() };
    let agents = Agents::start(config).await.unwrap();
    println!("started in {:?}", started.elapsed());
    let locks = agents.locks().unwrap();
    for agent in [agents.nomad(), agents.consul()] {
        let path = if agent.name() == "nomad-server" { "/v1/jobs" } else { "/v1/agent/self" };
        let reply = locks.call_as(None, reqwest::Method::GET, &format!("{}{path}", agent.url()), None).await;
        assert_eq!(reply.unwrap().status, 403, "{}", agent.name());
        assert!(
            agents.http.get(format!("{}{path}", agent.url())).send().await.is_err(),
            "without certificate"
        );
    }
    register_sleepers(&agents).await;
    let limit = Duration::from_secs(20);
    agents.until("it runs", limit, async || sleeping(&agents, 1).await).await.unwrap();
    println!("gone after {:?}", started.elapsed());
}
