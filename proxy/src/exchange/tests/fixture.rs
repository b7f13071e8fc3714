//! One session in a real admission, without a service.

use std::net::SocketAddr;

use bivouac_protocol::{Reason, Route, RoutePhase};
use tokio::net::TcpListener;

use crate::admission::Admission;
use crate::link::outbox::Queue;
use crate::testing::Camp;

pub(super) const SESSION: &str = "abcdefghijklmnop2345";

pub(super) struct Fixture {
    camp: Camp,
    _link: Queue,
    address: SocketAddr,
}

impl Fixture {
    /// A running session at an address; `ready`: whether requests may go there.
    pub(super) async fn new(address: SocketAddr, ready: bool) -> Self {
        let mut camp = Camp::new();
        camp.id = SESSION.parse().unwrap();
        let link = camp.link();
        camp.run(false).await;
        let fixture = Self { camp, _link: link, address };
        fixture.push(if ready { RoutePhase::Ready } else { RoutePhase::Starting });
        fixture
    }

    pub(super) fn admission(&self) -> Admission {
        self.camp.admission.clone()
    }

    /// A replica says where the session is.
    pub(super) fn push(&self, phase: RoutePhase) {
        assert!(self.camp.routes.push(Route { address: self.address, ..self.camp.route(1, phase) }));
    }

    /// Uses that are counted.
    pub(super) fn open(&self) -> u32 {
        self.camp.table.peek(&self.camp.id, |_, state| state.gate.open()).unwrap_or(0)
    }

    /// Requests that wait.
    pub(super) fn waiting(&self) -> usize {
        self.camp.table.peek(&self.camp.id, |_, state| state.holding).unwrap_or(0)
    }

    /// The session is over.
    pub(super) async fn stop(&self, reason: impl Into<Reason> + Clone) {
        self.camp.end(reason.clone()).await;
        self.camp.retract(1, true, reason);
    }
}

/// A listener where backends may live.
pub(super) async fn listener() -> TcpListener {
    loop {
        let port = rand::random_range(20_000..=32_000u16);
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await {
            return listener;
        }
    }
}
