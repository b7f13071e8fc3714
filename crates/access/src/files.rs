//! Files that somebody else replaces: whether they may have changed, and what is in them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use crate::{Tls, Token};

/// What a file's metadata tells of its content: another one means that it has to be read again.
type Stamp = Option<(u64, u64, i64, i64)>;

/// The stamps of all files at one look.
pub(crate) type Stamps = Vec<Stamp>;

/// The files of one connection.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    token: Option<PathBuf>,
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

/// What is in them.
#[derive(Clone, Default)]
pub(crate) struct Contents {
    pub(crate) token: Option<SecretString>,
    pub(crate) ca: Option<Vec<u8>>,
    /// The certificate and its key.
    pub(crate) identity: Option<(Vec<u8>, SecretString)>,
}

impl Files {
    /// `tls`: only where it is used.
    pub(crate) fn new(token: &Token, tls: Option<&Tls>) -> Self {
        let of = |path: fn(&Tls) -> &Option<PathBuf>| tls.and_then(|tls| path(tls).clone());
        Self {
            token: if let Token::File(path) = token { Some(path.clone()) } else { None },
            ca: of(|tls| &tls.ca_file),
            certificate: of(|tls| &tls.certificate_file),
            key: of(|tls| &tls.key_file),
        }
    }

    /// Followed through links: Nomad's clients and Kubernetes replace the link, not the file.
    pub(crate) fn stamps(&self) -> Stamps {
        let stamp = |path: &PathBuf| {
            let of = fs::metadata(path).ok()?;
            Some((of.ino(), of.len(), of.mtime(), of.mtime_nsec()))
        };
        let all = [&self.token, &self.ca, &self.certificate, &self.key];
        all.into_iter().flatten().map(stamp).collect()
    }

    /// Reads them.
    pub(crate) fn read(&self) -> Result<Contents, String> {
        let identity = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some((read(certificate)?, secret(key)?)),
            (None, None) => None,
            _ => return Err("a client certificate needs both its file and its key's".to_owned()),
        };
        Ok(Contents {
            token: self.token.as_deref().map(token).transpose()?,
            ca: self.ca.as_deref().map(read).transpose()?,
            identity,
        })
    }
}

impl Contents {
    /// Whether it is the same: a file that was only touched, or written anew with what was in it, changes nothing.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let token = |of: &Self| of.token.as_ref().map(|token| token.expose_secret().to_owned());
        let identity = |of: &Self| {
            of.identity
                .as_ref()
                .map(|(certificate, key)| (certificate.clone(), key.expose_secret().to_owned()))
        };
        self.ca == other.ca && token(self) == token(other) && identity(self) == identity(other)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

fn secret(path: &Path) -> Result<SecretString, String> {
    let text = String::from_utf8(read(path)?).map_err(|_| format!("{} is not text", path.display()))?;
    Ok(text.into())
}

/// A file that is being written is empty for a moment: nobody means to become anonymous by that.
fn token(path: &Path) -> Result<SecretString, String> {
    let text = secret(path)?;
    match text.expose_secret().trim() {
        "" => Err(format!("{} is empty: it should have a token", path.display())),
        token => Ok(token.to_owned().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_noticed_and_an_equal_one_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let replace = |text: &str| {
            fs::write(folder.path().join("next"), text).unwrap();
            fs::rename(folder.path().join("next"), &path).unwrap();
        };
        let files = Files::new(&Token::File(path.clone()), None);
        assert_eq!(files.stamps(), [None]);
        assert!(files.read().is_err_and(|why| why.contains("cannot be read")));
        replace("");
        assert!(files.read().is_err_and(|why| why.contains("is empty")));
        replace(" one\n");
        let (stamps, one) = (files.stamps(), files.read().ok().unwrap());
        assert_eq!(files.stamps(), stamps);
        assert_eq!(one.token.as_ref().unwrap().expose_secret(), "one");
        replace(" one\n");
        assert_ne!(
            files.stamps(),
            stamps,
            "another file, perhaps within one tick of the file system's clock"
        );
        assert!(files.read().ok().unwrap().is(&one));
        replace(" two\n");
        assert!(!files.read().ok().unwrap().is(&one));
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        let tls = Tls { certificate_file: Some("/dev/null".into()), ..Tls::default() };
        assert!(Files::new(&Token::None, Some(&tls)).read().is_err_and(|why| why.contains("both")));
    }
}
