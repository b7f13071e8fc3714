//! The tokens that are there from the start: one on each line of a file, as Nomad renders it from a Variable or an
//! operator writes it. The file is read again when it changes, so that they are rotated without a restart: first both
//! lines, then the new one alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bivouac_protocol::TokenName;
use bivouac_protocol::token::Digest;
use parking_lot::RwLock;
use secrecy::{ExposeSecret, SecretString};
use subtle::Choice;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The name under which these tokens act; no other token may have it.
const NAME: &str = "bootstrap";

/// The tokens that open everything.
pub struct Bootstrap {
    digests: RwLock<Arc<[Digest]>>,
    file: Option<PathBuf>,
}

/// There would be no bootstrap token.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It has nothing in it.
    #[error("{} is empty: write a token into it, one on each line", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
}

/// The name under which these tokens act.
pub(super) fn name() -> TokenName {
    #[expect(clippy::expect_used, reason = "a constant that a test reads")]
    NAME.parse().expect("a token name")
}

impl Bootstrap {
    /// These tokens, whatever happens.
    #[must_use]
    pub fn of_tokens(tokens: &[SecretString]) -> Self {
        let digests = tokens.iter().map(|token| Digest::of(token.expose_secret())).collect();
        Self { digests: RwLock::new(digests), file: None }
    }

    /// The tokens of a file.
    ///
    /// # Errors
    /// When it cannot be read, or has none.
    pub fn of_file(path: &Path) -> Result<Self, BootstrapError> {
        let digests = RwLock::new(read(path)?);
        Ok(Self { digests, file: Some(path.to_owned()) })
    }

    /// Compares with all of them, in a time that depends neither on how much agrees nor on which one it is.
    pub(super) fn admits(&self, digest: &Digest) -> bool {
        let known = Arc::clone(&self.digests.read());
        known.iter().fold(Choice::from(0), |found, known| found | known.is(digest)).into()
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
                    tracing::warn!(%error, "The bootstrap tokens stay what they were.");
                }
                Err(_) => {}
            }
        }
    }

    fn replace(&self, found: Arc<[Digest]>) {
        if **self.digests.read() != *found {
            tracing::info!(tokens = found.len(), "The bootstrap tokens have changed.");
            *self.digests.write() = found;
        }
    }
}

/// A few lines: no reason to leave this thread for it.
fn read(path: &Path) -> Result<Arc<[Digest]>, BootstrapError> {
    let failed = |source| BootstrapError::Read { path: path.to_owned(), source };
    let text = SecretString::from(std::fs::read_to_string(path).map_err(failed)?);
    let lines = text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty());
    let digests: Arc<[Digest]> = lines.map(Digest::of).collect();
    if digests.is_empty() { Err(BootstrapError::Empty { path: path.to_owned() }) } else { Ok(digests) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_token_is_admitted() {
        let tokens = Bootstrap::of_tokens(&["one".to_owned().into(), "two".to_owned().into()]);
        let admits = |text: &str| tokens.admits(&Digest::of(text));
        assert!(admits("one") && admits("two"));
        for token in ["", "on", "onee", "One", "three"] {
            assert!(!admits(token), "{token}");
        }
        assert!(!Bootstrap::of_tokens(&[]).admits(&Digest::of("")));
        assert_eq!(name().as_str(), NAME);
    }

    #[test]
    fn a_file_has_a_token_on_each_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert!(matches!(Bootstrap::of_file(&path), Err(BootstrapError::Read { .. })));
        std::fs::write(&path, " \n\n").unwrap();
        assert!(matches!(Bootstrap::of_file(&path), Err(BootstrapError::Empty { .. })));
        std::fs::write(&path, "one\r\n\n  two").unwrap();
        let tokens = Bootstrap::of_file(&path).unwrap();
        assert!(tokens.admits(&Digest::of("one")) && tokens.admits(&Digest::of("two")));
        assert!(!tokens.admits(&Digest::of("")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_read_again_and_an_empty_one_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "one").unwrap();
        let tokens = Arc::new(Bootstrap::of_file(&path).unwrap());
        let following = tokens.clone();
        let task = tokio::spawn(async move { following.follow().await });
        for (content, one, two) in [("one\ntwo", true, true), ("", true, true), ("two", false, true)] {
            std::fs::write(&path, content).unwrap();
            tokio::time::sleep(3 * LOOK_EVERY).await;
            let admits = |text: &str| tokens.admits(&Digest::of(text));
            assert_eq!((admits("one"), admits("two")), (one, two), "{content:?}");
        }
        std::fs::remove_file(&path).unwrap();
        tokio::time::sleep(3 * LOOK_EVERY).await;
        assert!(tokens.admits(&Digest::of("two")));
        task.abort();
    }
}
