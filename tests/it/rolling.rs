//! A new version, rolled out as operators do it: `nomad job run` of the two jobs, while sessions are used and spawned.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bivouac_tests::agents::{Agents, AgentsConfig};
use bivouac_tests::world::{GUEST_JOB, Socket, product};
use bivouac_tests::{elapse, eventually, guard, http_client};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
const TOKEN: &str = "the token of this scenario, which is long enough";

const TEMPLATE: &str = r#"access = "public"
idle_timeout = "10m"
[ports.http]
ready_path = "/healthz"
[params.text]
default = ""
[nomad]
jobspec = "job.nomad.hcl"
"#;

/// Agents with two replicas and a proxy, deployed with Nomad's own command line.
struct Deployed {
    agents: Agents,
    proxy_port: u16,
    http: reqwest::Client,
}

impl Deployed {
    async fn start() -> Self {
        let config = AgentsConfig { nomad_clients: 1, ..AgentsConfig::default() };
        let mut agents = Agents::start(config).await.unwrap();
        let proxy_port = agents.reserve_port(0).unwrap();
        let template = agents.dir().join("templates/guest");
        std::fs::create_dir_all(&template).unwrap();
        std::fs::create_dir_all(agents.dir().join("diary")).unwrap();
        std::fs::write(template.join("template.toml"), TEMPLATE).unwrap();
        std::fs::write(template.join("job.nomad.hcl"), GUEST_JOB).unwrap();
        std::fs::write(agents.dir().join("secret"), "a secret of this scenario, long enough").unwrap();
        std::fs::write(agents.dir().join("token"), TOKEN).unwrap();
        let deployed = Self { agents, proxy_port, http: http_client(SOON) };
        deployed.roll("service", "first").await;
        deployed.roll("proxy", "first").await;
        deployed
    }

    /// `nomad job run`, which ends when the new version is healthy.
    async fn roll(&self, job: &str, revision: &str) {
        let dir = |name: &str| self.agents.dir().join(name).display().to_string();
        let guest = guard::guest_binary();
        let variables = match job {
            "service" => vec![
                ("replicas", "2".to_owned()),
                ("session_url", format!("http://localhost:{}", self.proxy_port)),
                ("templates_dir", dir("templates")),
                ("cluster_secret_file", dir("secret")),
                ("ticket_secret_file", dir("secret")),
                ("token_file", dir("token")),
                (
                    "template_vars",
                    json!([
                        format!("guest.guest={}", guest.display()),
                        format!("guest.diary={}", dir("diary")),
                        format!("guest.owner={}", std::process::id())
                    ])
                    .to_string(),
                ),
            ],
            _ => vec![
                ("port", self.proxy_port.to_string()),
                ("data_dir", dir("proxy")),
                ("drain_timeout", "20".to_owned()),
            ],
        };
        let common = [
            ("binary_path", product().display().to_string()),
            ("consul_address", "${meta.consul_http_addr}".to_owned()),
            ("link_secret_file", dir("secret")),
            ("revision", revision.to_owned()),
        ];
        let mut command = self.agents.nomad_command();
        command.args(["job", "run"]);
        for (name, value) in variables.iter().chain(&common) {
            command.args(["-var", &format!("{name}={value}")]);
        }
        let jobspec = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../jobspecs/{job}.nomad.hcl"));
        command.arg(jobspec);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "the {job} was not deployed:\n{said}");
    }

    async fn get(&self, url: String) -> Result<Value, String> {
        let answer = self.http.get(url).send().await.map_err(|error| error.to_string())?;
        answer.json().await.map_err(|error| error.to_string())
    }

    /// The replicas that Consul's check holds to be ready: what a load balancer sees.
    async fn replicas(&self) -> Result<Vec<String>, String> {
        let url = format!("{}/v1/health/service/bivouac-service?passing", self.agents.consul().url());
        let found = self.get(url).await?;
        let place = |one: &Value| {
            format!("http://{}:{}", one["Service"]["Address"].as_str().unwrap(), one["Service"]["Port"])
        };
        Ok(found.as_array().into_iter().flatten().map(place).collect())
    }

    /// Spawns as an application does behind a load balancer: what was not answered is said again to another replica,
    /// with the same idempotency key.
    async fn spawn(&self, number: usize) -> String {
        let body = json!({ "template": "guest" });
        let turn = std::sync::atomic::AtomicUsize::new(number);
        eventually(format!("spawn {number} is answered"), SOON, async || {
            let replicas = self.replicas().await?;
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            let replica = replicas.get(turn % replicas.len().max(1)).ok_or("no replica is ready")?;
            let asked = self
                .http
                .post(format!("{replica}/v1/spawn?wait=ready"))
                .bearer_auth(TOKEN)
                .header("Idempotency-Key", format!("spawn-{number}"))
                .json(&body)
                .send();
            let answer = asked.await.map_err(|error| error.to_string())?;
            let status = answer.status();
            let session: Value = answer.json().await.map_err(|error| error.to_string())?;
            match session["url"].as_str() {
                Some(url) if status.is_success() => Ok(url.to_owned()),
                _ => Err(format!("{status} {session}")),
            }
        })
        .await
    }

    /// Ids of all jobs of sessions that are not stopped.
    async fn jobs(&self) -> Vec<String> {
        let url = format!("{}/v1/jobs?prefix=session-", self.agents.nomad().url());
        let jobs = self.get(url).await.unwrap();
        let live = jobs.as_array().unwrap().iter().filter(|job| job["Stop"] == false);
        live.map(|job| job["ID"].as_str().unwrap().to_owned()).collect()
    }
}

fn authority(url: &str) -> &str {
    url.trim_start_matches("http://").trim_end_matches('/')
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_version_cuts_nothing_and_loses_no_spawn() {
    let deployed = Deployed::start().await;
    let mut sockets = Vec::new();
    for number in 0..5 {
        let url = deployed.spawn(number).await;
        sockets.push((Socket::open(authority(&url), "/ws").await.unwrap(), url));
    }
    let rolled = AtomicBool::new(false);
    let spawning = async {
        let mut spawned = 5;
        while !rolled.load(Ordering::Relaxed) {
            let url = deployed.spawn(spawned).await;
            let used = deployed.http.get(&url).send().await.unwrap();
            assert!(used.status().is_success(), "{url} answers {}", used.status());
            spawned += 1;
            elapse(Duration::from_millis(300)).await;
        }
        spawned
    };
    let using = async {
        while !rolled.load(Ordering::Relaxed) {
            for (socket, _) in &mut sockets {
                socket.echoes("still there?").await;
            }
            elapse(Duration::from_millis(100)).await;
        }
    };
    let rolling = async {
        let before = deployed.replicas().await.unwrap();
        deployed.roll("service", "second").await;
        eventually("both replicas are new", SOON, async || {
            let now = deployed.replicas().await?;
            let new = now.len() == 2 && now.iter().all(|replica| !before.contains(replica));
            if new { Ok(()) } else { Err(format!("{before:?} {now:?}")) }
        })
        .await;
        rolled.store(true, Ordering::Relaxed);
    };
    let (spawned, (), ()) = tokio::join!(spawning, using, rolling);
    assert_eq!(deployed.jobs().await.len(), spawned, "each spawn made one session, and none was stopped");
    assert!(spawned > 10, "spawns went on meanwhile: {spawned}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_proxy_cuts_nothing_that_is_shorter_than_the_drain() {
    let deployed = Deployed::start().await;
    let url = deployed.spawn(0).await;
    let mut socket = Socket::open(authority(&url), "/ws").await.unwrap();
    let stream = deployed.http.get(format!("{url}stream?seconds=4")).send().await.unwrap();
    let rolling = deployed.roll("proxy", "second");
    let using = async {
        let text = stream.text().await.expect("the stream is not cut");
        assert_eq!(text.lines().count(), 40);
        socket.echoes("and I am still open").await;
        drop(socket);
    };
    tokio::join!(rolling, using);
    eventually("the new proxy serves the same session", SOON, async || {
        let answer = deployed.http.get(&url).send().await.map_err(|error| error.to_string())?;
        if answer.status().is_success() { Ok(()) } else { Err(answer.status().to_string()) }
    })
    .await;
    assert_eq!(deployed.jobs().await.len(), 1);
}
