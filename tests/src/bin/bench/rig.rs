//! What is measured: agents, a service and a proxy, with the bundled template and two whose backends cost next to nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bivouac_client::{Session, SpawnRequest, State, Stop, Wait};
use bivouac_nomad::Allocation;
use bivouac_protocol::{AllocationId, SessionId};
use bivouac_tests::agents::{Agents, AgentsConfig, Authority, Certified, Validity};
use rand::distr::{Alphanumeric, SampleString};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::backend::{self, Files};
use crate::bed::Subject;
use crate::load::tls::{self, Trust};
use crate::process::Process;
use crate::say;

/// How long anything may take that takes a fraction of a second when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const NOMAD_NAMESPACE: &str = "default";

/// The template that the product bundles.
pub(crate) const WHITEBOARD: &str = "whiteboard";
const WHITEBOARD_RULES: &str = include_str!("../../../../templates/whiteboard/template.toml");
const WHITEBOARD_JOB: &str = include_str!("../../../../templates/whiteboard/job.nomad.hcl");

/// Everything that runs. Dropping it ends it.
pub(crate) struct Rig {
    // Dropped in this order: whoever uses the agents ends before them.
    proxy: Process,
    service: Process,
    pub(crate) agents: Agents,
    pub(crate) folder: PathBuf,
    pub(crate) binary: PathBuf,
    pub(crate) nomad: bivouac_nomad::Client,
    pub(crate) api: bivouac_client::Client,
    pub(crate) http: reqwest::Client,
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) certificate: Certificate,
    pub(crate) trust: Trust,
}

/// Where every process is.
pub(crate) struct Binaries<'a> {
    pub(crate) bivouac: &'a Path,
    pub(crate) guest: &'a Path,
    pub(crate) nginx: &'a Path,
}

/// A certificate for everybody who speaks TLS.
pub(crate) struct Certificate(Certified);

/// A proxy besides the one that everything else uses.
pub(crate) struct FurtherProxy {
    pub(crate) process: Process,
    pub(crate) plain: SocketAddr,
}

/// What a process says once it serves.
#[derive(Deserialize)]
struct Ready {
    api: Option<String>,
    proxy: Option<String>,
    proxy_tls: Option<String>,
}

impl Certificate {
    fn issue(authority: &Authority, folder: &Path) -> Result<Self> {
        let certified =
            Certified { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") };
        authority.issue(&certified, &[tls::NAME], Validity::Good)?;
        let both = [fs::read(&certified.certificate)?, fs::read(&certified.key)?].concat();
        let certificate = Self(certified);
        write_secret(&certificate.both(), &String::from_utf8(both)?)?;
        Ok(certificate)
    }

    /// The file that has certificate and key.
    pub(crate) fn both(&self) -> PathBuf {
        self.0.certificate.with_file_name("both.pem")
    }
}

impl Rig {
    /// Starts everything and waits until a session could be spawned.
    pub(crate) async fn start(binaries: &Binaries<'_>, data_dir: Option<PathBuf>) -> Result<Self> {
        let started = Instant::now();
        say("starting a Consul server, a Nomad server and a client, a service and a proxy");
        let agents =
            Agents::start(AgentsConfig { nomad_clients: 1, data_dir, ..AgentsConfig::default() }).await?;
        let folder = agents.dir().join("bench");
        let templates = folder.join("templates");
        write_template(&templates.join(WHITEBOARD), WHITEBOARD_RULES, WHITEBOARD_JOB)?;
        for (name, files) in [
            (backend::SMALL, backend::small(binaries.nginx, &folder)?),
            (backend::GUEST, backend::guest(binaries.guest)),
        ] {
            let Files { rules, job } = files;
            write_template(&templates.join(name), &rules, &job)?;
        }
        let authority = Authority::new("bench")?;
        let certificate = Certificate::issue(&authority, &folder)?;
        let binary = binaries.bivouac;
        let token = random();
        let secrets =
            [("cluster", random()), ("link", random()), ("ticket", random()), ("token", token.clone())];
        for (name, secret) in secrets {
            write_secret(&folder.join(name), &secret)?;
        }
        let consul = agents.client(0).consul_addr().to_string();

        // The proxy first: the service has to know its port.
        let mut command = proxy_command(binary, &consul, "proxy");
        command.args(["--listen-tls", "127.0.0.1:0"]);
        command.arg("--tls-cert").arg(&certificate.0.certificate).arg("--tls-key").arg(&certificate.0.key);
        let mut proxy = Process::start(&agents, "proxy", &folder, command)?;
        let bound = proxy.until(async || ready(&folder.join("proxy.json"))).await?;
        let (plain, tls) = (port(bound.proxy.as_deref())?, port(bound.proxy_tls.as_deref())?);

        let mut command = Command::new(binary);
        command.args(["service", "--api", "127.0.0.1:0", "--internal", "127.0.0.1:0"]);
        command.args(["--cluster-secret-file", "cluster", "--link-secret-file", "link"]);
        command.args(["--ticket-secret-file", "ticket"]);
        command.args(["--token-file", "token", "--templates", "templates", "--ready-file", "service.json"]);
        command.arg("--template-var").arg(format!("{WHITEBOARD}.binary={}", binary.display()));
        command.arg("--session-url").arg(format!("http://localhost:{}", plain.port()));
        command.env("CONSUL_HTTP_ADDR", &consul).env("NOMAD_ADDR", agents.nomad().url());
        let mut service = Process::start(&agents, "service", &folder, command)?;
        let api = service.until(async || ready(&folder.join("service.json"))).await?.api;
        let api: Url = api.context("the service does not say where it listens")?.parse()?;
        let http = bivouac_tests::http_client(PATIENCE);
        let readyz = api.join("/readyz")?;
        service.until(async || Ok(http.get(readyz.clone()).send().await?.error_for_status()?)).await?;

        say(&format!("all is up after {:.1} s", started.elapsed().as_secs_f64()));
        Ok(Self {
            proxy,
            service,
            nomad: bivouac_nomad::Client::new(bivouac_nomad::Config::new(agents.nomad().url().parse()?))?,
            agents,
            folder,
            binary: binary.to_owned(),
            api: bivouac_client::Client::new(api, token.into())?,
            http,
            plain,
            tls,
            certificate,
            trust: Trust::new(&authority.pem())?,
        })
    }

    /// What the proxy is called in tables.
    pub(crate) const NAME: &str = "bivouac proxy";

    /// The proxy, to be asked.
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject { name: Self::NAME, process: Some(&self.proxy), plain: self.plain, tls: self.tls }
    }

    /// Starts another proxy, with these flags more.
    pub(crate) async fn further_proxy(&self, name: &str, flags: &[&str]) -> Result<FurtherProxy> {
        let consul = self.agents.client(0).consul_addr().to_string();
        let mut command = proxy_command(&self.binary, &consul, name);
        command.args(flags);
        let mut process = Process::start(&self.agents, name, &self.folder, command)?;
        let bound = process.until(async || ready(&self.folder.join(format!("{name}.json")))).await?;
        Ok(FurtherProxy { process, plain: port(bound.proxy.as_deref())? })
    }

    /// Spawns a session and returns at once.
    pub(crate) async fn spawn(&self, template: &str) -> Result<Session> {
        self.spawn_as(&SpawnRequest::new(template)).await
    }

    /// The same, as it is asked for.
    pub(crate) async fn spawn_as(&self, request: &SpawnRequest) -> Result<Session> {
        Ok(self.api.spawn(request, Wait::Claimed).await?.value.session)
    }

    /// Waits until a session is ready.
    pub(crate) async fn until_ready(&self, id: &SessionId) -> Result<Session> {
        until("the session is ready", async || {
            let session = self.api.session(id).await?.value;
            ensure!(session.state == State::Ready, "it is {}", session.state);
            Ok(session)
        })
        .await
    }

    /// Stops a session and waits until Nomad is done with it.
    pub(crate) async fn end(&self, id: &SessionId) -> Result<Session> {
        self.api.stop(id, Stop::Graceful).await?;
        let session = until("the session has ended", async || {
            let session = self.api.session(id).await?.value;
            ensure!(session.state == State::Ended, "it is {}", session.state);
            Ok(session)
        })
        .await?;
        if let Some(allocation) = &session.allocation {
            self.allocation_ended(allocation.as_str()).await?;
        }
        Ok(session)
    }

    /// Waits until nothing of an allocation runs.
    pub(crate) async fn allocation_ended(&self, id: &str) -> Result<()> {
        until("the allocation has ended", async || {
            let found = self.nomad.allocation(id).await?;
            let status = found.map_or_else(String::new, |found| found.client_status);
            ensure!(!matches!(&*status, "pending" | "running"), "it is {status}");
            Ok(())
        })
        .await
    }

    /// Where an allocation listens.
    pub(crate) async fn address(&self, id: &AllocationId) -> Result<SocketAddr> {
        let allocation = self.nomad.allocation(id.as_str()).await?.context("the allocation is gone")?;
        address(&allocation).context("the allocation has no port")
    }

    /// The bundled template's job, as Nomad reads it, without what is not needed to listen on a port.
    pub(crate) async fn bare_job(&self) -> Result<Value> {
        let variables = BTreeMap::from([("binary".to_owned(), self.binary.display().to_string())]);
        let mut job = self.nomad.parse(WHITEBOARD_JOB, &variables, "default").await?;
        let group = job.pointer_mut("/TaskGroups/0").context("the bundled job has no group")?;
        group["Services"] = Value::Null;
        group["RestartPolicy"] = json!({ "Attempts": 0, "Mode": "fail" });
        group["ReschedulePolicy"] = json!({ "Attempts": 0, "Unlimited": false });
        Ok(job)
    }

    /// The ends of both logs, for a run that failed.
    pub(crate) fn logs(&self) -> String {
        format!("{}\n{}", self.service.log_tail(), self.proxy.log_tail())
    }
}

/// Where an allocation listens, once it is placed.
pub(crate) fn address(allocation: &Allocation) -> Option<SocketAddr> {
    let port = allocation.allocated_resources.shared.ports.first()?;
    Some(SocketAddr::new(port.host_ip.parse::<IpAddr>().ok()?, port.value))
}

/// Asks every 20 ms until it is so.
async fn until<T>(what: &str, ask: impl AsyncFn() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    loop {
        ticks.tick().await;
        match ask().await {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("waited {PATIENCE:?} until {what}")));
            }
            Err(_) => {}
        }
    }
}

/// A proxy in the run's folder, with a data directory and a ready file of its own.
fn proxy_command(binary: &Path, consul: &str, name: &str) -> Command {
    let mut command = Command::new(binary);
    command.args(["proxy", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir", name]);
    command.args(["--link-secret-file", "link", "--ready-file", &format!("{name}.json")]);
    command.env("CONSUL_HTTP_ADDR", consul);
    command
}

/// The address behind a URL of a ready file.
fn port(url: Option<&str>) -> Result<SocketAddr> {
    let url: Url = url.context("the proxy does not say where it listens")?.parse()?;
    let port = url.port_or_known_default().context("the proxy's URL has no port")?;
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn ready(file: &Path) -> Result<Ready> {
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}

fn write_template(folder: &Path, rules: &str, job: &str) -> Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("template.toml"), rules)?;
    fs::write(folder.join("job.nomad.hcl"), job)?;
    Ok(())
}

fn random() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), 40)
}

/// Where only its owner reads it.
fn write_secret(file: &Path, secret: &str) -> Result<()> {
    let mut opened = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    Ok(opened.write_all(secret.as_bytes())?)
}
