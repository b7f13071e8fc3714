//! Whether a backend answers on one of its ports: asked directly, from the moment of placement. Nomad reports `running` a
//! second late and Consul's check later still.

use std::net::SocketAddr;
use std::time::Duration;

use bivouac_protocol::Protocol;
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Longest wait for one connection or answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// A port to be probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where it is.
    pub(crate) address: SocketAddr,
    /// What it speaks.
    pub(crate) protocol: Protocol,
    /// The HTTP path that its template names; without one a connection is enough.
    pub(crate) ready_path: Option<String>,
}

/// When the port opened and when the backend was ready there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) port_open: Timestamp,
    pub(crate) ready: Timestamp,
}

/// Asks backends, each in the protocol that it speaks.
#[derive(Debug, Clone)]
pub struct Prober {
    http: reqwest::Client,
    /// Speaks HTTP/2 from the first byte on.
    h2c: reqwest::Client,
}

impl Prober {
    /// Makes its clients.
    ///
    /// # Errors
    /// When one cannot be built.
    pub fn new() -> reqwest::Result<Self> {
        let plain = || reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        Ok(Self { http: plain().build()?, h2c: plain().http2_prior_knowledge().build()? })
    }

    /// Probes until it gets through: a TCP connection, then, where the template has one, a 2xx from its `ready_path`.
    /// Never returns otherwise; the caller drops it.
    pub(crate) async fn until_ready(&self, place: &Place) -> Answered {
        let begun = Instant::now();
        while !matches!(timeout(PATIENCE, TcpStream::connect(place.address)).await, Ok(Ok(_))) {
            sleep(interval(begun.elapsed())).await;
        }
        let port_open = Timestamp::now();
        if let Some(path) = &place.ready_path {
            let url = format!("http://{}{path}", place.address);
            while !self.answers(&url, place.protocol).await {
                sleep(interval(begun.elapsed())).await;
            }
        }
        Answered { port_open, ready: Timestamp::now() }
    }

    async fn answers(&self, url: &str, protocol: Protocol) -> bool {
        let client = match protocol {
            Protocol::Http => &self.http,
            Protocol::H2c => &self.h2c,
        };
        let answer = client.get(url).timeout(PATIENCE).send().await;
        matches!(answer, Ok(response) if response.status().is_success())
    }
}

/// Often while a start is likely, seldom once it is late: ten thousand late starts must not cost a core. A further port
/// may never open, and is asked for as long as its session lives.
fn interval(elapsed: Duration) -> Duration {
    match elapsed.as_secs() {
        0..=1 => Duration::from_millis(10),
        2..=9 => Duration::from_millis(25),
        10..=119 => Duration::from_millis(250),
        _ => Duration::from_secs(2),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Once;

    use axum::Router;
    use axum::extract::Request;
    use axum::http::{StatusCode, Version};
    use tokio::net::TcpListener;

    use super::*;

    fn prober() -> Prober {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        Prober::new().unwrap()
    }

    /// A backend that only answers well what is asked in one version.
    async fn speaking(version: Version) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = async move |request: Request| match request.version() == version {
            true => StatusCode::NO_CONTENT,
            false => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        address
    }

    #[tokio::test]
    async fn each_port_is_asked_in_what_it_speaks() {
        let prober = prober();
        for (protocol, version) in [(Protocol::Http, Version::HTTP_11), (Protocol::H2c, Version::HTTP_2)] {
            let ready_path = Some("/healthz".to_owned());
            let place = Place { address: speaking(version).await, protocol, ready_path };
            let answered = timeout(Duration::from_secs(20), prober.until_ready(&place)).await;
            let answered = answered.unwrap_or_else(|_| panic!("{protocol:?} is never ready"));
            assert!(answered.port_open <= answered.ready);
            let other = match protocol {
                Protocol::Http => Protocol::H2c,
                Protocol::H2c => Protocol::Http,
            };
            let wrong = Place { protocol: other, ..place };
            let waited = timeout(Duration::from_millis(200), prober.until_ready(&wrong)).await;
            assert!(waited.is_err(), "asked as {other:?}");
            let plain = Place { ready_path: None, ..wrong };
            assert!(timeout(Duration::from_secs(20), prober.until_ready(&plain)).await.is_ok());
        }
    }
}
