//! One session in a real admission, without a service.

use std::net::SocketAddr;

use bivouac_protocol::link::Fence;
use bivouac_protocol::{FenceMode, Generation, Protocol, Reason, Route, RoutePhase, Rules};
use tokio::net::TcpListener;

use crate::activity::gate::{FenceAnswer, Fenced};
use crate::admission::Admission;
use crate::link::outbox::Queue;
use crate::testing::{Camp, tag};

pub(super) const SESSION: &str = "abcdefghijklmnop2345";

pub(super) struct Fixture {
    camp: Camp,
    link: Queue,
    address: SocketAddr,
    traffic: Traffic,
}

/// What its template says about its traffic.
#[derive(Default)]
pub(super) struct Traffic {
    pub(super) rules: Rules,
    pub(super) protocol: Protocol,
    /// Whether the session ends when its connections are silent.
    pub(super) quiet: bool,
}

impl Fixture {
    /// A running session at an address; `ready`: whether requests may go there.
    pub(super) async fn new(address: SocketAddr, traffic: Traffic, ready: bool) -> Self {
        let mut camp = Camp::new();
        camp.id = SESSION.parse().unwrap();
        let link = camp.link();
        camp.run(false).await;
        let fixture = Self { camp, link, address, traffic };
        fixture.push(if ready { RoutePhase::Ready } else { RoutePhase::Starting });
        fixture
    }

    pub(super) fn admission(&self) -> Admission {
        self.camp.admission.clone()
    }

    /// A replica says where the session is.
    pub(super) fn push(&self, phase: RoutePhase) {
        let Traffic { rules, protocol, quiet } = &self.traffic;
        let route = Route {
            address: self.address,
            rules: rules.clone(),
            protocol: *protocol,
            quiet: *quiet,
            ..self.camp.route(1, phase)
        };
        assert!(self.camp.routes.push(route));
    }

    /// The session is to be stopped because its connections are silent, if they are.
    pub(super) fn fence(&self, attempt: u64) -> FenceAnswer {
        let order = Fence { mode: FenceMode::Quiet, ..self.camp.fence_order(1, attempt) };
        self.camp.table.fence(&order, self.link.id)
    }

    /// Such a stop was given up.
    pub(super) fn unfence(&self, attempt: u64) {
        let order = Fenced { tag: tag(attempt), generation: Generation(1) };
        self.camp.table.unfence(&self.camp.id, order);
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
