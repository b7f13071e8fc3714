//! Where `bivouac dev` keeps things: the token, from one start to the next, and a folder for this run.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rand::RngCore;
use secrecy::SecretString;

use crate::{discovery, private_file};

/// `<state>/dev`, with `token`, and `runs/<n>` for as long as this process lives.
pub(super) struct Home {
    pub(super) token: SecretString,
    pub(super) token_file: PathBuf,
    run: PathBuf,
    /// Held for life: by it the next start knows a run that is over from one that goes on.
    _lock: File,
}

impl Home {
    /// Opens it, and removes what killed runs have left.
    pub(super) fn open() -> anyhow::Result<Self> {
        let dir = discovery::state_dir()?.join("dev");
        let runs = dir.join("runs");
        std::fs::create_dir_all(&runs)?;
        let token_file = dir.join("token");
        // One start at a time: another one's folder must not be taken for a dead one's before it is locked, and both
        // must end up with the same token.
        let door = File::create(dir.join("door"))?;
        door.lock()?;
        sweep(&runs);
        let token = match private_file::read_secret(&token_file) {
            Ok(token) => token,
            Err(_) => {
                private_file::write(&token_file, format!("{}\n", random_text()).as_bytes())?;
                private_file::read_secret(&token_file)?
            }
        };
        let run = runs.join(std::process::id().to_string());
        std::fs::create_dir_all(&run)?;
        let lock = File::create(run.join("lock"))?;
        lock.lock()?;
        Ok(Self { token, token_file, run, _lock: lock })
    }

    /// For the sessions' own folders.
    pub(super) fn sessions(&self) -> PathBuf {
        self.run.join("sessions")
    }

    /// For the proxy's data.
    pub(super) fn proxy(&self) -> PathBuf {
        self.run.join("proxy")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next start.
        std::fs::remove_dir_all(&self.run).ok();
    }
}

/// Removes the folders whose lock is free.
fn sweep(runs: &Path) {
    let Ok(entries) = std::fs::read_dir(runs) else { return };
    for run in entries.flatten().map(|entry| entry.path()) {
        if is_over(&run)
            && let Err(error) = std::fs::remove_dir_all(&run)
        {
            tracing::debug!(%error, folder = %run.display(), "The folder of an earlier run stays.");
        }
    }
}

fn is_over(run: &Path) -> bool {
    match File::open(run.join("lock")) {
        Ok(lock) => !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// A secret of 160 random bits.
pub(super) fn random_secret() -> SecretString {
    random_text().into()
}

fn random_text() -> String {
    let mut bytes = [0u8; 20];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_holds_is_removed() {
        let runs = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            std::fs::create_dir(runs.path().join(name)).unwrap();
            File::create(runs.path().join(name).join("lock")).unwrap()
        };
        let (alive, dead) = (make("alive"), make("dead"));
        alive.lock().unwrap();
        drop(dead);
        sweep(runs.path());
        assert!(runs.path().join("alive").exists());
        assert!(!runs.path().join("dead").exists());
    }
}
