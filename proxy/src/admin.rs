//! For operators and load balancers, on a listener of its own: is it alive, is it ready, what has it counted.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use axum::{Json, Router};
use bivouac_ledger::Access;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::activity::table::Table;
use crate::membership::Membership;

/// Pause after a failed accept: usually no file descriptor was left.
const BREATH: Duration = Duration::from_millis(50);

/// What is shown.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) table: Arc<Table>,
    pub(crate) membership: watch::Receiver<Membership>,
    /// What Consul makes of our credentials.
    pub(crate) access: Option<Access>,
    /// Decides who enters.
    pub(crate) entrance: Arc<crate::access::Access>,
    /// Cancelled once session traffic is accepted.
    pub(crate) serving: CancellationToken,
    /// The proxy stops, or an operator has it drained.
    pub(crate) draining: CancellationToken,
}

/// The body of `/readyz`.
#[derive(Serialize)]
struct Readiness {
    ready: bool,
    checks: Checks,
}

#[derive(Serialize)]
struct Checks {
    /// Session traffic is accepted.
    serving: bool,
    /// The proxy stops, or an operator has it drained: no new connections.
    draining: bool,
    /// Its evidence counts before a session is stopped. Without it, sessions are served on what is known.
    member: bool,
    /// It has left the members for good.
    #[serde(skip)]
    left: bool,
    /// What Consul refuses, and what to do about it; null if it refuses nothing. Sessions are served on what is known.
    refused: Option<String>,
    /// It knows by which keys tickets are checked, and which were revoked. Without that only public sessions are served.
    tickets: bool,
    /// Replicas of the service that it is linked to. Without any, sessions are served from records and directory.
    links: usize,
}

/// A listener that others may still hold when it is not served any more.
struct Shared(Arc<TcpListener>);

impl Listener for Shared {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok(accepted) => return accepted,
                Err(_) => tokio::time::sleep(BREATH).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Serves operators for as long as it is polled.
pub(crate) async fn serve(listener: Arc<TcpListener>, admin: Admin) {
    if let Err(error) = axum::serve(Shared(listener), router(admin)).await {
        tracing::error!(%error, "The admin listener has failed.");
    }
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(admin)
}

/// JSON, or sentences for whoever asks for plain text first, as Consul's checks do.
async fn readyz(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let checks = Checks {
        serving: admin.serving.is_cancelled(),
        draining: admin.draining.is_cancelled(),
        member: admin.membership.borrow().epoch().is_some(),
        left: matches!(*admin.membership.borrow(), Membership::Left),
        refused: admin.access.as_ref().and_then(Access::problem),
        tickets: admin.entrance.knows_tickets(),
        links: admin.table.outbox.up(),
    };
    let ready = checks.serving && !checks.draining;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if accept.is_some_and(|accept| accept.starts_with("text/plain")) {
        return (status, checks.sentences()).into_response();
    }
    (status, Json(Readiness { ready, checks })).into_response()
}

impl Checks {
    /// What an operator reads as the check's output in Consul.
    fn sentences(&self) -> String {
        if self.left {
            return "Drained: it has left the members, and stays so until it is started again.\n".to_owned();
        }
        let state = match (self.serving, self.draining) {
            (_, true) => "Draining: nothing new is accepted, what is open may end by itself.\n",
            (true, false) => "Serving session traffic.\n",
            (false, false) => "Not serving yet: it waits for the ledger, to join the members.\n",
        };
        let mut text = state.to_owned();
        if !self.member && self.serving {
            text.push_str(
                "It is no member: what it sees does not keep sessions alive. It tries to join again.\n",
            );
        }
        if !self.tickets {
            text.push_str(
                "It knows no ticket keys yet, or not what was revoked: only public sessions are served.\n",
            );
        }
        if self.links == 0 {
            text.push_str(
                "It is linked to no replica of the service: sessions are served from Consul, and none is stopped for \
                 idleness.\n",
            );
        }
        if let Some(refused) = &self.refused {
            text.push_str(refused);
            text.push('\n');
        }
        text
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    admin.table.metrics.member(admin.membership.borrow().epoch().is_some());
    match admin.table.metrics.render() {
        Ok(text) => {
            let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, openmetrics)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_has_left_does_not_say_that_it_joins_again() {
        let serving = Checks {
            serving: true,
            draining: false,
            member: false,
            left: false,
            refused: None,
            tickets: false,
            links: 0,
        };
        let told = serving.sentences();
        assert!(told.contains("tries to join again") && told.contains("linked to no replica"), "{told}");
        assert!(told.contains("only public sessions"), "{told}");
        let told = Checks { draining: true, left: true, ..serving }.sentences();
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.starts_with("Drained"), "{told}");
    }
}
