//! Nothing of a group of agents outlives it, however the process that started it ends.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// The variable by which the sweeper knows the processes of a group: the group's folder with a trailing slash.
pub(super) const MARK: &str = "BIVOUAC_AGENTS_DIR";

/// What that variable says for the group in `dir`. With a slash, so that no group's mark is the beginning of another's.
pub(super) fn mark(dir: &Path) -> OsString {
    dir.join("").into_os_string()
}

/// What becomes of the group's folder in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    Keep,
    Remove,
}

impl Files {
    fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Remove => "remove",
        }
    }
}

/// A shell that waits for this process to end, and then kills what carries the group's mark.
#[derive(Debug)]
pub(super) struct Sweeper {
    shell: Child,
    files: Files,
}

impl Sweeper {
    /// Starts the shell for the group in `dir`.
    pub(super) fn start(dir: &Path, files: Files) -> Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", include_str!("sweep.sh"), "sweep"])
            .arg(dir)
            .arg(files.word())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env_remove(MARK)
            // Ctrl-C reaches a terminal's whole foreground group, and the shell must outlive the rest of it.
            .process_group(0)
            .spawn()
            .context("the shell that cleans up after the agents cannot be started")?;
        Ok(Self { shell, files })
    }

    /// Leaves the folder in place in the end, for people to look at.
    pub(super) fn keep_files(&mut self) {
        self.files = Files::Keep;
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.shell.stdin.take() {
            let _ = writeln!(stdin, "{}", self.files.word());
        }
        let _ = self.shell.wait();
    }
}
