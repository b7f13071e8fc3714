//! Nomad's public keys, where Consul can fetch them: what a web server in front of a Nomad that verifies its clients is
//! there for.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio_util::sync::CancellationToken;

/// The listener. It ends with this.
#[derive(Debug)]
pub(super) struct Keys {
    address: SocketAddr,
    stop: CancellationToken,
}

impl Keys {
    /// Serves these keys from a thread of its own: agents are shared by tests that have a runtime each.
    pub(super) fn serve(keys: String) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let (address, stop) = (listener.local_addr()?, CancellationToken::new());
        let stopped = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serve = move || {
            runtime.block_on(async {
                let json = [(CONTENT_TYPE, "application/json")];
                let app = Router::new().fallback(get(async move || (json, keys.clone())));
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(listener, app).with_graceful_shutdown(stopped.cancelled_owned()).await
            })
        };
        std::thread::Builder::new().name("keys".to_owned()).spawn(serve).context("a thread for the keys")?;
        Ok(Self { address, stop })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/.well-known/jwks.json", self.address)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
