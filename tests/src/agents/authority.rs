//! An authority that signs certificates, for agents that speak TLS alone.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// An authority of this test run's own.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, each in a file.
#[derive(Debug, Clone)]
pub struct Certified {
    /// PEM file with the certificate.
    pub certificate: PathBuf,
    /// PEM file with its key, for its owner's eyes.
    pub key: PathBuf,
}

/// How long a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Longer than any test.
    Good,
    /// It ended years ago.
    Expired,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one. Two with the same name are different all the same.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    /// Its own certificate.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Signs a certificate for these names and addresses, good for servers and clients alike, and puts it where `files`
    /// says, each file whole at once.
    ///
    /// # Errors
    /// If a file cannot be written, or a name is none.
    pub fn issue(&self, files: &Certified, names: &[&str], validity: Validity) -> Result<()> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names.clone())?;
        params.distinguished_name.push(DnType::CommonName, names.first().cloned().unwrap_or_default());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if validity == Validity::Expired {
            (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        replace(&files.key, &key.serialize_pem())?;
        replace(&files.certificate, &certificate.pem())
    }
}

/// Puts a text into a file that only its owner reads, whole at once: no reader sees half of it.
///
/// # Errors
/// If that fails.
pub fn replace(file: &Path, text: &str) -> Result<()> {
    let next = file.with_extension("next");
    let mut options = fs::File::options();
    let written = options.write(true).create(true).truncate(true).mode(0o600).open(&next);
    written
        .and_then(|mut next| next.write_all(text.as_bytes()))
        .with_context(|| next.display().to_string())?;
    fs::rename(&next, file).with_context(|| file.display().to_string())
}
