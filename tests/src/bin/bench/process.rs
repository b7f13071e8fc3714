//! A process that belongs to a run: its output in a file, its processor time on the kernel's account, its end with ours.

use std::fs::File;
use std::ops::Sub;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bivouac_tests::agents::Agents;

/// How long one may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The kernel shows processor time in these, whatever its own clock is.
const TICKS_PER_SECOND: f64 = 100.0;

/// A child that is killed when this is dropped, and by the agents' sweeper if this program is killed before.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// Processor time, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Process {
    /// Starts it in `folder`, which also gets its log.
    pub(crate) fn start(agents: &Agents, name: &str, folder: &Path, mut command: Command) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log)?;
        agents
            .adopt(&mut command)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C in a terminal is for us alone: what dies by itself would be reported as a failure.
            .process_group(0);
        let child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Asks every 20 ms until there is an answer.
    pub(crate) async fn until<T>(&mut self, ask: impl AsyncFn() -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + START_LIMIT;
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            let error = match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if let Some(status) = self.child.try_wait()? {
                bail!("{} has ended: {status}\n{}", self.name, self.log_tail());
            }
            ensure!(
                Instant::now() < deadline,
                "{} does not serve: {error:#}\n{}",
                self.name,
                self.log_tail()
            );
        }
    }

    /// The processor time of all its threads so far.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        cpu(&stat).with_context(|| format!("the kernel's figures of {} are not understood", self.name))
    }

    /// Bytes of memory that are its own, and its share of what it shares with others.
    pub(crate) fn memory(&self) -> Result<u64> {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        memory(&rollup).with_context(|| format!("the kernel's figures of {} are not understood", self.name))
    }

    /// The end of its output.
    pub(crate) fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().collect::<Vec<_>>();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        format!("--- the end of {}'s log:\n{tail}", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { user: self.user - earlier.user, system: self.system - earlier.system }
    }
}

/// Fields 14 and 15 of `/proc/<pid>/stat`. The second one, the name in brackets, may hold anything.
fn cpu(stat: &str) -> Option<Cpu> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some(Cpu { user: seconds()?, system: seconds()? })
}

/// `Pss` of `/proc/<pid>/smaps_rollup`, which is in KiB.
fn memory(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_past_any_name() {
        let stat = "42 (a) b 1 (c) S 1 42 42 0 -1 4194560 7 0 0 0 150 25 9 9 20 0 1 0 5";
        let read = cpu(stat).unwrap();
        assert!((read.user - 1.5).abs() < 1e-9 && (read.system - 0.25).abs() < 1e-9, "{read:?}");
        assert!(cpu("42 (a) S 1").is_none());
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let rollup = "55-7f ---p 00000000 00:00 0 [rollup]\nRss:  900 kB\nPss:                  412 kB\nPss_Anon: 7 kB\n";
        assert_eq!(memory(rollup), Some(412 << 10));
        assert_eq!(memory("Rss: 1 kB"), None);
    }
}
