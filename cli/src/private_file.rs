//! Files that hold a secret or the way to one: readable by their owner only, and never seen half-written.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use bivouac_protocol::proof::LinkSecrets;
use secrecy::{ExposeSecret, SecretString};

/// Writes the file whole at once, mode 0600: to a temporary file beside it, then renamed over it.
pub(crate) fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let persist = || -> anyhow::Result<()> {
        std::fs::create_dir_all(dir)?;
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(content)?;
        file.persist(path)?;
        Ok(())
    };
    persist().with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a secret: the file's text without the white space around it.
pub(crate) fn read_secret(path: &Path) -> anyhow::Result<SecretString> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let secret = text.trim();
    anyhow::ensure!(!secret.is_empty(), "{} is empty", path.display());
    Ok(secret.to_owned().into())
}

/// Reads an API token: the first line of the file that has one. A service's own file may have several, of which any opens
/// the API.
pub(crate) fn read_token(path: &Path) -> anyhow::Result<SecretString> {
    let text = read_secret(path)?;
    Ok(text.expose_secret().lines().next().unwrap_or_default().trim().to_owned().into())
}

/// Reads the secrets of the links, one on each line.
pub(crate) fn read_link_secrets(path: &Path) -> anyhow::Result<LinkSecrets> {
    let text = read_secret(path)?;
    LinkSecrets::of_text(text.expose_secret()).with_context(|| format!("{} is empty", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_the_owner_can_read_it_and_rewriting_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/secret");
        write(&path, b"first").unwrap();
        write(&path, b"second\n").unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_secret(&path).unwrap().expose_secret(), "second");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn an_empty_secret_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write(&path, b" \n").unwrap();
        assert!(read_secret(&path).unwrap_err().to_string().contains("is empty"));
    }

    #[test]
    fn of_several_tokens_the_first_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        write(&path, b"\n new \r\nold\n").unwrap();
        assert_eq!(read_token(&path).unwrap().expose_secret(), "new");
    }
}
