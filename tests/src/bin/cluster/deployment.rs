//! The service and the proxy as Nomad jobs.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bivouac_nomad::{Client, Config, Stop};
use bivouac_tests::agents::Agents;
use rand::Rng;

use crate::say;

/// How long the jobs may take to be of use, and to end.
const START_LIMIT: Duration = Duration::from_secs(60);
const END_LIMIT: Duration = Duration::from_secs(20);

const NAMESPACE: &str = "default";

/// What runs on the agents.
pub(crate) struct Deployment {
    nomad: Client,
    api: String,
    proxy_port: u16,
    token: String,
    token_file: PathBuf,
    binary: PathBuf,
    templates: PathBuf,
}

impl Deployment {
    /// Registers both jobs and waits until the service is ready and the proxy listens.
    pub(crate) async fn run(
        agents: &mut Agents,
        jobspecs: &Path,
        binary: &Path,
        templates: &Path,
    ) -> Result<Self> {
        let secrets = Secrets::create(&agents.dir().join("secrets"))?;
        let (api_port, proxy_port) = (agents.reserve_port(7070)?, agents.reserve_port(7080)?);
        let nomad = Client::new(Config::new(agents.nomad().url().parse()?))?;
        let common = [
            ("binary_path", binary.display().to_string()),
            ("consul_address", "${meta.consul_http_addr}".to_owned()),
            ("link_secret_file", secrets.link.display().to_string()),
        ];
        let service = [
            ("api_port", api_port.to_string()),
            ("session_url", format!("http://localhost:{proxy_port}")),
            ("templates_dir", templates.display().to_string()),
            ("cluster_secret_file", secrets.cluster.display().to_string()),
            ("ticket_secret_file", secrets.ticket.display().to_string()),
            ("token_file", secrets.token_file.display().to_string()),
        ];
        let proxy = [
            ("port", proxy_port.to_string()),
            ("data_dir", agents.dir().join("proxy").display().to_string()),
            // Whoever presses Ctrl-C is waiting.
            ("drain_timeout", "5".to_owned()),
        ];
        for (name, own) in [("service", service.as_slice()), ("proxy", proxy.as_slice())] {
            let variables = common.iter().chain(own).map(|(name, value)| ((*name).to_owned(), value.clone()));
            register(&nomad, &jobspecs.join(format!("{name}.nomad.hcl")), &variables.collect()).await?;
        }
        let deployment = Self {
            nomad,
            api: format!("http://127.0.0.1:{api_port}"),
            proxy_port,
            token: secrets.token,
            token_file: secrets.token_file,
            binary: binary.to_owned(),
            templates: templates.to_owned(),
        };
        deployment.wait_ready().await.map_err(|error| error.context(task_logs(agents)))?;
        Ok(deployment)
    }

    /// Where the API is.
    pub(crate) fn api(&self) -> &str {
        &self.api
    }

    /// The port of session traffic.
    pub(crate) fn proxy_port(&self) -> u16 {
        self.proxy_port
    }

    /// The API's token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// The file that holds it.
    pub(crate) fn token_file(&self) -> &Path {
        &self.token_file
    }

    /// A command that spawns a session of a template that is there.
    pub(crate) fn example(&self) -> String {
        let folders = fs::read_dir(&self.templates).into_iter().flatten().flatten();
        let known = folders.filter(|folder| folder.path().join("template.toml").is_file());
        let template = known.map(|folder| folder.file_name().to_string_lossy().into_owned()).min();
        let here = std::env::current_dir().unwrap_or_default();
        let binary = self.binary.strip_prefix(here).unwrap_or(&self.binary);
        format!("{} spawn {} --key doc-1", binary.display(), template.as_deref().unwrap_or("TEMPLATE"))
    }

    async fn wait_ready(&self) -> Result<()> {
        let http = bivouac_tests::http_client(Duration::from_secs(5));
        until(START_LIMIT, async || {
            let answer = http
                .get(format!("{}/readyz", self.api))
                .send()
                .await
                .context("the service does not answer")?;
            let status = answer.status();
            ensure!(status.is_success(), "the service is not ready ({status}): {}", answer.text().await?);
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.proxy_port))
                .context("the proxy does not listen")?;
            Ok(())
        })
        .await
    }

    /// Stops and purges the service, the proxy and every session, and waits until none of their processes runs.
    pub(crate) async fn end(&self) -> Result<()> {
        let mut ended = Vec::new();
        // The service first: it would start a session anew for a request that arrives meanwhile.
        for prefix in ["bivouac-", "session-"] {
            for job in self.nomad.jobs(prefix, NAMESPACE).await?.items {
                let stop = Stop { purge: true, no_shutdown_delay: true, ..Stop::default() };
                self.nomad.stop(&job.id, NAMESPACE, stop).await?;
                ended.push(job.id);
            }
        }
        until(END_LIMIT, async || {
            for job in &ended {
                let allocations = self.nomad.job_allocations(job, NAMESPACE).await?;
                let running =
                    allocations.iter().any(|one| matches!(&*one.client_status, "pending" | "running"));
                ensure!(!running, "{job} still runs");
            }
            Ok(())
        })
        .await
    }
}

async fn register(nomad: &Client, file: &Path, variables: &BTreeMap<String, String>) -> Result<()> {
    let hcl = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let job = nomad
        .parse(&hcl, variables, NAMESPACE)
        .await
        .with_context(|| format!("parsing {}", file.display()))?;
    nomad.register_new(&job, NAMESPACE).await.with_context(|| format!("registering {}", file.display()))?;
    say(&format!("registered {}", file.display()));
    Ok(())
}

/// What the jobs must know and nobody else.
struct Secrets {
    cluster: PathBuf,
    link: PathBuf,
    ticket: PathBuf,
    token: String,
    token_file: PathBuf,
}

impl Secrets {
    fn create(dir: &Path) -> Result<Self> {
        fs::DirBuilder::new().mode(0o700).recursive(true).create(dir)?;
        let token = random_text();
        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let file = dir.join(name);
            let mut options = fs::OpenOptions::new();
            let mut opened = options.write(true).create(true).truncate(true).mode(0o600).open(&file)?;
            std::io::Write::write_all(&mut opened, text.as_bytes())?;
            Ok(file)
        };
        Ok(Self {
            cluster: write("cluster", &random_text())?,
            link: write("link", &random_text())?,
            ticket: write("ticket", &random_text())?,
            token_file: write("token", &token)?,
            token,
        })
    }
}

/// 256 bits as text.
fn random_text() -> String {
    let bytes: [u8; 32] = rand::rng().random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Asks every 100 ms until it is so.
async fn until(limit: Duration, ask: impl AsyncFn() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + limit;
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        match ask().await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => bail!("after {limit:?}: {error:#}"),
            Err(_) => {}
        }
    }
}

/// The last words of every task, for a start that failed.
fn task_logs(agents: &Agents) -> String {
    let mut text = String::from("the jobs do not come up");
    for client in agents.clients() {
        let allocations = agents.dir().join(client.nomad().name()).join("alloc");
        for allocation in fs::read_dir(allocations).into_iter().flatten().flatten() {
            let logs = allocation.path().join("alloc").join("logs");
            for log in fs::read_dir(logs).into_iter().flatten().flatten() {
                if !log.file_name().to_string_lossy().contains(".stderr.") {
                    continue;
                }
                let content = fs::read_to_string(log.path()).unwrap_or_default();
                let lines = content.lines().collect::<Vec<_>>();
                let tail = lines[lines.len().saturating_sub(20)..].join("\n");
                text.push_str(&format!("\n--- the end of {}:\n{tail}\n", log.path().display()));
            }
        }
    }
    text
}
