//! One agent: a process that can be killed, frozen and started again with the same configuration.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

/// What an agent is started with.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
}

/// A Nomad or Consul agent. Its output is appended to a file.
#[derive(Debug)]
pub struct Agent {
    name: String,
    scheme: &'static str,
    http: SocketAddr,
    log: PathBuf,
    launch: Launch,
    child: Mutex<Option<Child>>,
}

impl Agent {
    /// An agent that is not started yet.
    pub(super) fn new(
        name: &str,
        scheme: &'static str,
        http: SocketAddr,
        log: PathBuf,
        launch: Launch,
    ) -> Self {
        Self { name: name.to_owned(), scheme, http, log, launch, child: Mutex::new(None) }
    }

    /// Its name, which is also its node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its HTTP API listens. Stays the same when it is started again.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// Its HTTP API, "http://127.0.0.1:4646".
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.http)
    }

    /// The file with its output.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Starts it, with what is left in its data folder. Returns before it answers: see [`super::Agents::wait_ready`].
    ///
    /// # Errors
    /// If it runs already, or the program cannot be started.
    pub fn start(&self) -> Result<()> {
        let mut child = self.child.lock();
        if let Some(running) = child.as_mut()
            && running.try_wait()?.is_none()
        {
            bail!("{} runs already", self.name);
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.launch.program);
        forget_the_tools(&mut command);
        command
            .args(&self.launch.arguments)
            .envs(self.launch.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log)
            // Ctrl-C in a terminal is for us; we end the agents when the jobs have ended.
            .process_group(0);
        let started = command.spawn().with_context(|| format!("{} cannot be started", self.name))?;
        *child = Some(started);
        Ok(())
    }

    /// SIGKILL: it dies without a word; its tasks live on.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill9(&self) -> Result<()> {
        let mut child = self.child.lock();
        let mut running = child.take().with_context(|| format!("{} does not run", self.name))?;
        running.kill()?;
        running.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for its end; a Nomad client's tasks live on.
    ///
    /// # Errors
    /// If it does not run, or does not end within 20 seconds.
    pub async fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.is_running() {
            if Instant::now() > deadline {
                bail!("{} does not end\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.child.lock().take();
        Ok(())
    }

    /// SIGSTOP: the process is there and does nothing, like a host whose network is gone.
    ///
    /// # Errors
    /// If it does not run.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT: goes on after a [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// If it does not run.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// SIGHUP: it reads its certificates again.
    ///
    /// # Errors
    /// If it does not run.
    pub fn reload(&self) -> Result<()> {
        self.signal(Signal::HUP)
    }

    /// Kills it and starts it again at once.
    ///
    /// # Errors
    /// If it does not run, or cannot be started.
    pub fn restart(&self) -> Result<()> {
        self.kill9()?;
        self.start()
    }

    /// Whether its process is there, frozen or not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let mut child = self.child.lock();
        child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Whether it should be there: started, and not ended through [`kill9`](Self::kill9) or
    /// [`terminate`](Self::terminate).
    pub(super) fn is_wanted(&self) -> bool {
        self.child.lock().is_some()
    }

    /// The last lines of its output, for messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().collect::<Vec<_>>();
        let tail = lines[lines.len().saturating_sub(25)..].join("\n");
        format!("--- the end of {} ({}):\n{tail}", self.name, self.log.display())
    }

    /// Fails with the end of its output if it has ended by itself.
    pub(super) fn check(&self) -> Result<()> {
        let mut child = self.child.lock();
        if let Some(status) = child.as_mut().map(Child::try_wait).transpose()?.flatten() {
            bail!("{} has ended: {status}\n{}", self.name, self.log_tail());
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.lock();
        let running = child.as_ref().with_context(|| format!("{} does not run", self.name))?;
        kill_process(Pid::from_child(running), signal).with_context(|| format!("signalling {}", self.name))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.get_mut().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a person has set for the command-line tools, ours among them, would be obeyed by agents and handed on to tasks.
pub(super) fn forget_the_tools(command: &mut Command) {
    let of_the_tools = |variable: &str| {
        ["BIVOUAC_", "CONSUL_", "NOMAD_", "VAULT_"].iter().any(|prefix| variable.starts_with(prefix))
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| of_the_tools(&name.to_string_lossy())) {
        command.env_remove(name);
    }
}
