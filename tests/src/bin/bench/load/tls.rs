//! The same requests over TLS.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::FutureExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Aim, Done, all, get, kept};

/// For whom the certificate of a run is.
pub(crate) const NAME: &str = "bench.localhost";

/// What a client needs to trust the servers of a run.
#[derive(Clone)]
pub(crate) struct Trust(CertificateDer<'static>);

impl Trust {
    /// Whoever this authority vouches for, in PEM.
    pub(crate) fn new(authority: &str) -> Result<Self> {
        Ok(Self(CertificateDer::from_pem_slice(authority.as_bytes())?))
    }

    fn connector(&self, protocol: &[u8]) -> Result<TlsConnector> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.clone())?;
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// Keeps `connections` busy with HTTP/1.1 over TLS.
pub(crate) async fn run(trust: &Trust, aim: Aim<'_>, connections: usize, during: Duration) -> Result<Done> {
    let dial = Dial::new(trust, aim, b"http/1.1")?;
    let request = Arc::<[u8]>::from(get(aim.host, "/", ""));
    let task = |end| {
        let (dial, request) = (dial.clone(), request.clone());
        async move { kept::ask(dial.connect().await?, &request, end).await }.boxed()
    };
    all(connections, during, task).await
}

/// Makes connections to one server.
#[derive(Clone)]
pub(super) struct Dial {
    connector: TlsConnector,
    name: ServerName<'static>,
    address: std::net::SocketAddr,
}

impl Dial {
    pub(super) fn new(trust: &Trust, aim: Aim<'_>, protocol: &[u8]) -> Result<Self> {
        // Nobody compares it with the host that is asked for, and no certificate may be for all of `*.localhost`.
        let name = ServerName::try_from(NAME).context("a server's name")?;
        Ok(Self { connector: trust.connector(protocol)?, name, address: aim.address })
    }

    pub(super) async fn connect(&self) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(self.connector.connect(self.name.clone(), stream).await?)
    }
}
