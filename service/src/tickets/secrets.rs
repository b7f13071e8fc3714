//! The secrets that ticket keys follow from: one on each line of a file, of which the first signs. The file is read again
//! when it changes, so that they are rotated without a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bivouac_protocol::ticket::{InvalidKey, PublicKey, SigningKey};
use parking_lot::RwLock;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The keys of this replica.
pub struct TicketSecrets {
    keys: RwLock<Keys>,
    changed: Notify,
    file: Option<PathBuf>,
}

#[derive(Clone)]
struct Keys {
    signing: Arc<SigningKey>,
    /// Of all of them, that one included.
    public: Vec<PublicKey>,
}

/// There would be no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum TicketSecretError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It has nothing in it.
    #[error("{} is empty: write a ticket secret into it, one on each line", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// A secret is of no use.
    #[error("{}: {invalid}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Why not.
        invalid: InvalidKey,
    },
}

impl TicketSecrets {
    /// This secret, whatever happens.
    ///
    /// # Errors
    /// When it is too short.
    pub fn of_secret(secret: &SecretString) -> Result<Self, InvalidKey> {
        let key = SigningKey::of_secret(secret)?;
        let keys = Keys { public: vec![key.public().clone()], signing: Arc::new(key) };
        Ok(Self { keys: RwLock::new(keys), changed: Notify::new(), file: None })
    }

    /// The secrets of a file.
    ///
    /// # Errors
    /// When it cannot be read, has none, or one that is too short.
    pub fn of_file(path: &Path) -> Result<Self, TicketSecretError> {
        let keys = RwLock::new(read(path)?);
        Ok(Self { keys, changed: Notify::new(), file: Some(path.to_owned()) })
    }

    /// The key that signs.
    pub(super) fn signing(&self) -> Arc<SigningKey> {
        Arc::clone(&self.keys.read().signing)
    }

    /// What its tickets, and those of the other secrets, are checked with.
    pub(super) fn public(&self) -> Vec<PublicKey> {
        self.keys.read().public.clone()
    }

    /// Resolves with the next change after this call.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Follows the file. One that is gone or empty says nothing: whoever writes it may be in the middle of it.
    pub(super) async fn follow(&self) {
        let Some(path) = &self.file else { return std::future::pending().await };
        let mut told = false;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match read(path) {
                Ok(found) => {
                    told = false;
                    self.replace(found);
                }
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(%error, "The ticket secrets stay what they were.");
                }
                Err(_) => {}
            }
        }
    }

    fn replace(&self, found: Keys) {
        if self.keys.read().public != found.public {
            tracing::info!(
                secrets = found.public.len(),
                signing = found.signing.id(),
                "The ticket secrets have changed."
            );
            *self.keys.write() = found;
            self.changed.notify_waiters();
        }
    }
}

/// A few lines: no reason to leave this thread for it.
fn read(path: &Path) -> Result<Keys, TicketSecretError> {
    let failed = |source| TicketSecretError::Read { path: path.to_owned(), source };
    let text = SecretString::from(std::fs::read_to_string(path).map_err(failed)?);
    let lines = text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Result<Vec<_>, _> = lines.map(|line| SigningKey::of_secret(&line.to_owned().into())).collect();
    let keys = keys.map_err(|invalid| TicketSecretError::Invalid { path: path.to_owned(), invalid })?;
    let public = keys.iter().map(|key| key.public().clone()).collect();
    let first = keys.into_iter().next().ok_or_else(|| TicketSecretError::Empty { path: path.to_owned() })?;
    Ok(Keys { signing: Arc::new(first), public })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(letter: &str) -> String {
        letter.repeat(40)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_line_signs_and_all_are_vouched_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ticket");
        assert!(matches!(TicketSecrets::of_file(&path), Err(TicketSecretError::Read { .. })));
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(TicketSecrets::of_file(&path), Err(TicketSecretError::Empty { .. })));
        std::fs::write(&path, "short").unwrap();
        assert!(matches!(TicketSecrets::of_file(&path), Err(TicketSecretError::Invalid { .. })));

        std::fs::write(&path, line("a")).unwrap();
        let secrets = Arc::new(TicketSecrets::of_file(&path).unwrap());
        let (first, following) = (secrets.signing().id().to_owned(), Arc::clone(&secrets));
        let task = tokio::spawn(async move { following.follow().await });
        for (content, keys, same) in [
            (line("a"), 1, true),
            (String::new(), 1, true),
            (format!("{}\n{}", line("b"), line("a")), 2, false),
        ] {
            std::fs::write(&path, &content).unwrap();
            tokio::time::sleep(3 * LOOK_EVERY).await;
            assert_eq!(
                (secrets.public().len(), secrets.signing().id() == first),
                (keys, same),
                "{content:?}"
            );
        }
        task.abort();
    }
}
