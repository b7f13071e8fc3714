//! The handshake: which protocol is spoken inside of TLS, and with which certificate.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::NoServerSessionStorage;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::certificate::Certificate;
use crate::stream::{Shared, Socket, Tls};

const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// Turns TCP connections into TLS ones.
#[derive(Clone)]
pub(crate) struct Handshake(TlsAcceptor);

impl Handshake {
    /// With the certificate that is current at each handshake. Whoever resumes a session does so by a ticket: nothing is
    /// kept here for clients that went away.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub(crate) fn new(certificate: Arc<Certificate>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(certificate);
        config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = ring::Ticketer::new()?;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// The connection, and whether HTTP/2 is spoken on it.
    ///
    /// # Errors
    /// When the client does not come to terms with us.
    pub(crate) async fn shake(&self, tcp: Arc<TcpStream>) -> io::Result<(Socket, bool)> {
        let session = self.0.accept(Shared(tcp.clone())).await?;
        let http2 = session.get_ref().1.alpn_protocol() == Some(HTTP2);
        Ok((Socket::Tls(Arc::new(Tls::new(tcp, session))), http2))
    }
}
