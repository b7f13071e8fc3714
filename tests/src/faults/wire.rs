//! TLS on both sides of a fault proxy: what it does to requests, it does to their text.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// What it shows and what it trusts, towards both ends.
#[derive(Clone)]
pub struct Wire {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    /// One certificate for both ends, and the authorities that they must come from.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn new(ca: &Path, certificate: &Path, key: &Path) -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut roots = RootCertStore::empty();
        for root in certificates(ca)? {
            roots.add(root)?;
        }
        let (chain, key) = (certificates(certificate)?, PrivateKeyDer::from_pem_file(key)?);
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots.clone())).build()?;
        let server = ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())?;
        let client =
            ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?;
        Ok(Self { acceptor: Arc::new(server).into(), connector: Arc::new(client).into() })
    }

    pub(super) async fn accept(&self, from: TcpStream) -> std::io::Result<server::TlsStream<TcpStream>> {
        self.acceptor.accept(from).await
    }

    pub(super) async fn connect(&self, to: TcpStream) -> std::io::Result<client::TlsStream<TcpStream>> {
        let name = ServerName::IpAddress(to.peer_addr()?.ip().into());
        self.connector.connect(name, to).await
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let open = File::open(file).with_context(|| file.display().to_string())?;
    Ok(CertificateDer::pem_reader_iter(BufReader::new(open)).collect::<Result<_, _>>()?)
}
