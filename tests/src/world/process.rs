//! One process of a world: started, watched through its ready file and its log, and killed in every way there is.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use crate::{eventually, guard};

/// Longest time from a start to the ready file. Generous: debug builds, two cores, many tests at once.
const START: Duration = Duration::from_secs(30);
/// What is logged, unless `BIVOUAC_TEST_LOG` says otherwise: everything but each call and each attempt to link.
const LOG: &str = "info,bivouac=debug,bivouac_proxy::link=info,bivouac_service::api=info";
/// Longest time from SIGTERM to the end.
const END: Duration = Duration::from_secs(20);

/// What a process wrote into its ready file.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Ready {
    /// URL of the public API.
    pub api: Option<String>,
    /// URL of the internal listener.
    pub internal: Option<String>,
    /// URL of the session traffic.
    pub proxy: Option<String>,
    /// URL of the session traffic with TLS.
    pub proxy_tls: Option<String>,
    /// URL of the proxy's own health and metrics.
    pub admin: Option<String>,
    /// API token.
    pub token: Option<String>,
}

/// How to start it.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
}

/// A process; restarted under the same name it goes on in the same log.
#[derive(Debug)]
pub struct Process {
    plan: Mutex<Plan>,
    ready_file: PathBuf,
    log: PathBuf,
    child: Mutex<Option<Child>>,
    /// What it bound last: known also while it is being restarted.
    bound: Mutex<Option<Ready>>,
}

impl Process {
    pub(super) fn new(plan: Plan) -> Self {
        let ready_file = plan.folder.join(format!("{}.ready.json", plan.name));
        let log = plan.folder.join(format!("{}.log", plan.name));
        Self { plan: Mutex::new(plan), ready_file, log, child: Mutex::default(), bound: Mutex::default() }
    }

    /// Starts it and does not wait.
    ///
    /// # Panics
    /// When it runs already, or cannot be started.
    pub fn launch(&self) {
        let mut child = self.child.lock();
        assert!(child.is_none(), "{} runs already", self.name());
        let _ = std::fs::remove_file(&self.ready_file);
        *child = Some(guard::spawn(self.command()));
    }

    fn command(&self) -> Command {
        let plan = self.plan.lock();
        let log = File::options().create(true).append(true).open(&self.log).expect("its log");
        let mut command = guard::command(super::product());
        for name in settings_of_the_person() {
            command.env_remove(name);
        }
        command
            .args(&plan.args)
            .arg("--ready-file")
            .arg(&self.ready_file)
            .current_dir(&plan.folder)
            .env("XDG_STATE_HOME", plan.folder.join("state"))
            .env("RUST_LOG", std::env::var("BIVOUAC_TEST_LOG").unwrap_or_else(|_| LOG.into()))
            .envs(plan.env.iter().map(|(name, value)| (name, value)))
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().expect("its log"))
            .stderr(log);
        command
    }

    /// Starts it and waits until it serves.
    ///
    /// # Panics
    /// When it ends, or does not get ready in time.
    pub async fn start(&self) {
        self.launch();
        self.serves().await;
    }

    /// Waits until it serves.
    ///
    /// # Panics
    /// When it ends, or does not get ready in time.
    pub async fn serves(&self) {
        eventually(format!("{} is ready", self.name()), START, async || {
            if let Some(status) = self.exited() {
                panic!("{} ended with {status}; its log:\n{}", self.name(), self.log_tail(60));
            }
            self.ready_file.exists().then_some(()).ok_or_else(|| "no ready file".to_owned())
        })
        .await;
        let _ = self.ready();
    }

    /// What it bound; while it is being restarted, what it bound before.
    ///
    /// # Panics
    /// When it was never ready.
    #[must_use]
    pub fn ready(&self) -> Ready {
        let mut bound = self.bound.lock();
        if let Ok(text) = std::fs::read_to_string(&self.ready_file) {
            *bound = Some(serde_json::from_str(&text).expect("the ready file is JSON"));
        }
        bound.clone().unwrap_or_else(|| panic!("{} has no ready file", self.name()))
    }

    /// The ports that it bound at its last start.
    pub(super) fn ports(&self) -> Vec<u16> {
        let ready = self.bound.lock().clone().unwrap_or_default();
        let urls =
            [ready.api, ready.internal, ready.proxy, ready.proxy_tls, ready.admin].into_iter().flatten();
        urls.filter_map(|url| url.parse::<url::Url>().ok()?.port()).collect()
    }

    /// The name under which its log is shown.
    #[must_use]
    pub fn name(&self) -> String {
        self.plan.lock().name.clone()
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.plan.lock().folder.clone()
    }

    /// What it is started with.
    pub(super) fn args(&self) -> Vec<String> {
        self.plan.lock().args.clone()
    }

    /// How many descriptors it has open.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        let pid = self.pid().unwrap_or_else(|| panic!("{} does not run", self.name()));
        std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count()
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.lock().as_ref().map(Child::id)
    }

    /// Changes its environment from the next start on; an empty value removes the variable.
    pub fn set_env(&self, name: &str, value: &str) {
        let mut plan = self.plan.lock();
        plan.env.retain(|(known, _)| known != name);
        if !value.is_empty() {
            plan.env.push((name.to_owned(), value.to_owned()));
        }
    }

    /// `kill -9`.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.lock().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and its exit status.
    ///
    /// # Panics
    /// When it does not run, or does not end in time.
    pub async fn terminate(&self) -> ExitStatus {
        self.asked_to_end();
        self.ends().await
    }

    /// SIGTERM.
    ///
    /// # Panics
    /// When it does not run.
    pub fn asked_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn ends(&self) -> ExitStatus {
        eventually(format!("{} ends", self.name()), END, async || {
            self.exited().ok_or_else(|| "it runs".to_owned())
        })
        .await
    }

    /// SIGSTOP: it keeps its connections and says nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.pid().unwrap_or_else(|| panic!("{} does not run", self.name()));
        let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
        kill_process(pid, signal).unwrap_or_else(|e| panic!("{}: {e}", self.name()));
    }

    /// Its exit status, once it ended; it can be started again afterwards.
    fn exited(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock();
        let status = child.as_mut()?.try_wait().ok()??;
        *child = None;
        Some(status)
    }

    /// Everything it logged.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines that it logged.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Variables of ours, and of Nomad's and Consul's tools, that whoever runs the tests has set for other purposes.
pub(super) fn settings_of_the_person() -> impl Iterator<Item = OsString> {
    let meant_for_us =
        |name: &str| ["BIVOUAC_", "NOMAD_", "CONSUL_"].iter().any(|prefix| name.starts_with(prefix));
    std::env::vars_os().map(|(name, _)| name).filter(move |name| meant_for_us(&name.to_string_lossy()))
}

/// The last lines of a file.
#[must_use]
pub(super) fn tail(file: &Path, lines: usize) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
