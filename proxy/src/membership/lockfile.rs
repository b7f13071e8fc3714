//! One file per boot in the data directory, locked for the life of the process: whoever can take its lock knows that
//! this boot is dead.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use bivouac_protocol::BootId;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

const EXTENSION: &str = "lock";

/// A boot's lock file, locked by this process until it is dropped.
#[derive(Debug)]
pub(super) struct BootLock {
    pub(super) boot: BootId,
    path: PathBuf,
    _locked: File,
}

impl BootLock {
    /// Makes and locks the file of a boot of this process.
    pub(super) fn create(directory: &Path, boot: &BootId) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let path = directory.join(format!("{boot}.{EXTENSION}"));
        let unlocked = directory.join(format!("{boot}.new"));
        let file = OpenOptions::new().write(true).create_new(true).open(&unlocked)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        // Only a locked file ever has a name that others look for.
        fs::rename(&unlocked, &path)?;
        Ok(Self { boot: boot.clone(), path, _locked: file })
    }

    /// Takes the locks of all boots that are dead. A boot that lives keeps its own.
    pub(super) fn take_dead(directory: &Path) -> io::Result<Vec<Self>> {
        let mut dead = Vec::new();
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(dead),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            if let Some(boot) = boot_of(&path)
                && let Some(locked) = try_lock(&path)?
            {
                dead.push(Self { boot, path, _locked: locked });
            }
        }
        Ok(dead)
    }

    /// Deletes the file: the boot is no member any more.
    pub(super) fn delete(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "The lock file of a boot that is over stays behind.");
        }
    }
}

fn boot_of(path: &Path) -> Option<BootId> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(EXTENSION)?.strip_suffix('.')?.parse().ok()
}

fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = match File::open(path) {
        Ok(file) => file,
        // Another process has just cleared it away.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_dead_boots_lock_can_be_taken() {
        let directory = tempfile::tempdir().unwrap();
        let (alive, dead) = (BootId::random(), BootId::random());
        let _held = BootLock::create(directory.path(), &alive).unwrap();
        drop(BootLock::create(directory.path(), &dead).unwrap());
        fs::write(directory.path().join("notes.txt"), "no boot").unwrap();

        let mut taken = BootLock::take_dead(directory.path()).unwrap();
        assert_eq!(taken.iter().map(|lock| &lock.boot).collect::<Vec<_>>(), [&dead]);
        assert!(
            BootLock::take_dead(directory.path()).unwrap().is_empty(),
            "two processes never take the same one"
        );

        taken.pop().unwrap().delete();
        assert!(BootLock::take_dead(directory.path()).unwrap().is_empty());
    }

    #[test]
    fn a_data_directory_that_is_new_has_no_boots() {
        let directory = tempfile::tempdir().unwrap();
        assert!(BootLock::take_dead(&directory.path().join("boots")).unwrap().is_empty());
    }
}
