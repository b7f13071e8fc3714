//! The certificate that clients see: followed in its files, and swapped without a restart.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::metrics::Metrics;
use crate::options::TlsFiles;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What a file's metadata tells of its content. Followed through links: Nomad's clients and Kubernetes replace the link.
type Stamp = Option<(u64, u64, i64, i64)>;

/// A certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// One of its files cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file has something else in it.
    #[error("{} has no {what} in PEM", path.display())]
    NotPem {
        /// Which file.
        path: PathBuf,
        /// What it should have.
        what: &'static str,
    },
    /// They do not belong together, or cannot be used.
    #[error("the certificate in {} and the key in {} cannot be used: {source}", certificate.display(), key.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

/// The certificate that is shown to clients from now on, whatever name they ask for: there is one for all sessions.
#[derive(Debug)]
pub(crate) struct Certificate {
    files: TlsFiles,
    current: ArcSwap<CertifiedKey>,
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl Certificate {
    /// The one that is in the files now.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(crate) fn load(files: TlsFiles) -> Result<Arc<Self>, CertificateError> {
        let current = ArcSwap::from_pointee(read(&files)?);
        Ok(Arc::new(Self { files, current }))
    }

    /// Swaps it whenever there is another one in the files. One that cannot be used is said to be so, and the one before
    /// is kept.
    pub(crate) async fn follow(self: Arc<Self>, metrics: Metrics) {
        metrics.certificate_ends(expiry(&self.current.load()));
        let mut seen = stamps(&self.files);
        let mut problem: Option<String> = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let now = stamps(&self.files);
            if now == seen && problem.is_none() {
                continue;
            }
            let settled = std::mem::replace(&mut seen, now) == now;
            match read(&self.files) {
                Ok(new) => {
                    problem = None;
                    self.swap(new, &metrics);
                }
                Err(error) => {
                    let error = error.to_string();
                    // Two files cannot be replaced at once: only what stays wrong is wrong.
                    if settled && problem.as_ref() != Some(&error) {
                        metrics.certificate_refused();
                        tracing::error!(%error, "A new certificate cannot be used; the one before stays in use.");
                        problem = Some(error);
                    } else if !settled {
                        problem = Some(String::new());
                    }
                }
            }
        }
    }

    fn swap(&self, new: CertifiedKey, metrics: &Metrics) {
        if new.cert == self.current.load().cert {
            return;
        }
        metrics.certificate_ends(expiry(&new));
        self.current.store(Arc::new(new));
        tracing::info!(file = %self.files.certificate.display(), "A new certificate is in use.");
    }
}

fn stamps(files: &TlsFiles) -> [Stamp; 2] {
    [&files.certificate, &files.key].map(|path| {
        let of = fs::metadata(path).ok()?;
        Some((of.ino(), of.len(), of.mtime(), of.mtime_nsec()))
    })
}

fn read(files: &TlsFiles) -> Result<CertifiedKey, CertificateError> {
    let certificate = content(&files.certificate)?;
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&certificate).collect::<Result<_, _>>().unwrap_or_default();
    if chain.is_empty() {
        return Err(CertificateError::NotPem { path: files.certificate.clone(), what: "certificate" });
    }
    let key = PrivateKeyDer::from_pem_slice(&content(&files.key)?)
        .map_err(|_| CertificateError::NotPem { path: files.key.clone(), what: "private key" })?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|source| {
        CertificateError::Unusable { certificate: files.certificate.clone(), key: files.key.clone(), source }
    })
}

fn content(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::Unreadable { path: path.to_owned(), source })
}

/// When it stops to be valid, in seconds of Unix time; 0 if that cannot be told.
fn expiry(key: &CertifiedKey) -> i64 {
    let leaf = key.cert.first().and_then(|leaf| x509_parser::parse_x509_certificate(leaf).ok());
    leaf.map_or(0, |(_, leaf)| leaf.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(folder: &Path, name: &str) -> TlsFiles {
        let issued = rcgen::generate_simple_self_signed(vec!["*.example.com".to_owned()]).unwrap();
        let files = TlsFiles {
            listen: ([127, 0, 0, 1], 0).into(),
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        };
        fs::write(&files.certificate, issued.cert.pem()).unwrap();
        fs::write(&files.key, issued.signing_key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn what_cannot_be_used_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (issue(folder.path(), "one"), issue(folder.path(), "two"));
        assert!(expiry(&read(&one).unwrap()) > 0);
        let mixed = TlsFiles { key: two.key.clone(), ..one.clone() };
        assert!(matches!(read(&mixed), Err(CertificateError::Unusable { .. })));
        let swapped = TlsFiles { certificate: one.key.clone(), ..one.clone() };
        assert!(matches!(read(&swapped), Err(CertificateError::NotPem { .. })));
        let missing = TlsFiles { key: folder.path().join("nothing"), ..one };
        let error = read(&missing).err().unwrap();
        assert!(error.to_string().contains("nothing"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_one_is_taken_and_a_bad_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (files, next) = (issue(folder.path(), "one"), issue(folder.path(), "two"));
        let certificate = Certificate::load(files.clone()).unwrap();
        let metrics = Metrics::new();
        let following = tokio::spawn(certificate.clone().follow(metrics.clone()));
        let shown = || certificate.current.load().cert.clone();
        let first = shown();
        tokio::time::sleep(LOOK * 2).await;
        fs::write(&files.certificate, "rubbish").unwrap();
        tokio::time::sleep(LOOK * 4).await;
        assert_eq!(shown(), first);
        assert!(metrics.render().unwrap().contains("certificate_errors_total 1"));
        fs::copy(&next.certificate, &files.certificate).unwrap();
        fs::copy(&next.key, &files.key).unwrap();
        tokio::time::sleep(LOOK * 3).await;
        assert_ne!(shown(), first);
        following.abort();
    }
}
