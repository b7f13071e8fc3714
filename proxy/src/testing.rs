//! A proxy without sockets: its rooms around a ledger in memory that can be made unreachable, and a clock that tests
//! can pause.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bivouac_ledger::directory::MemoryDirectory;
use bivouac_ledger::memory::MemoryLedger;
use bivouac_ledger::records::{self, Claim, Records, Transition};
use bivouac_ledger::{Entry, Error, Index, Ledger, LockSession, Op, Transaction};
use bivouac_protocol::link::{Fence, FromProxy};
use bivouac_protocol::{
    Endpoint, FenceMode, FenceTag, Generation, Nonce, Policy, PortPolicy, Protocol, Reason, Record, Route,
    RoutePhase, Rules, SessionId, Span, StoredRequest, Term, Timeline,
};
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::sync::watch;

use crate::access::{self, Access, Grant};
use crate::activity::clock::Clock;
use crate::activity::table::Table;
use crate::admission::{Admission, Admitted, Parts};
use crate::hold::Holds;
use crate::host::Target;
use crate::lift::Lifter;
use crate::link::outbox::{Outbox, Queue};
use crate::membership::Membership;
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::routes::Routes;
use crate::routes::backends::Backends;
use crate::routes::merge::Over;
use crate::routes::resolve::Resolver;

pub(crate) const HOLD_TIMEOUT: Duration = Duration::from_secs(20);
/// The further port of a camp's session.
pub(crate) const ADMIN: &str = "admin";
/// How many may use it at once, as its record says.
pub(crate) const SEATS: u32 = 200;

/// The ledger in memory, behind a wire that can be cut.
#[derive(Default)]
pub(crate) struct Wire {
    pub(crate) ledger: MemoryLedger,
    pub(crate) cut: AtomicBool,
    pub(crate) reads: AtomicUsize,
}

impl Wire {
    fn check(&self) -> Result<&MemoryLedger, Error> {
        if self.cut.load(Ordering::SeqCst) {
            Err(Error::Unavailable("the wire is cut".to_owned()))
        } else {
            Ok(&self.ledger)
        }
    }
}

#[async_trait::async_trait]
impl Ledger for Wire {
    async fn read(&self, key: &str) -> Result<Option<Entry>, Error> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        // As over a wire: others run meanwhile.
        tokio::task::yield_now().await;
        self.check()?.read(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        self.check()?.list(prefix).await
    }

    async fn transact(&self, ops: Vec<Op>) -> Result<Transaction, Error> {
        self.check()?.transact(ops).await
    }

    async fn watch(&self, key: &str, index: Index, wait: Duration) -> Result<Option<Entry>, Error> {
        self.check()?.watch(key, index, wait).await
    }

    async fn open_session(&self, name: &str, ttl: Duration) -> Result<LockSession, Error> {
        self.check()?.open_session(name, ttl).await
    }

    async fn renew_session(&self, session: &LockSession) -> Result<bool, Error> {
        self.check()?.renew_session(session).await
    }

    async fn close_session(&self, session: &LockSession) -> Result<(), Error> {
        self.check()?.close_session(session).await
    }

    async fn session_lives(&self, session: &LockSession) -> Result<bool, Error> {
        self.check()?.session_lives(session).await
    }
}

/// The proxy's rooms, one session, and one link.
pub(crate) struct Camp {
    pub(crate) wire: Arc<Wire>,
    pub(crate) directory: Arc<MemoryDirectory>,
    pub(crate) records: Records,
    pub(crate) table: Arc<Table>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) admission: Admission,
    pub(crate) membership: watch::Sender<Membership>,
    pub(crate) id: SessionId,
}

impl Camp {
    pub(crate) fn new() -> Self {
        let wire = Arc::new(Wire::default());
        let ledger: Arc<dyn Ledger> = wire.clone();
        let directory = Arc::new(MemoryDirectory::default());
        let table = Table::new(Clock::paused(), Arc::new(Outbox::default()), Metrics::new());
        let routes = Arc::new(Routes::new(table.clone(), Backends::default()));
        let membership = watch::Sender::new(Membership::Joining);
        let resolver = Arc::new(Resolver::new(table.clone(), ledger.clone(), directory.clone()));
        let access = Arc::new(Access::new(access::Parts {
            table: table.clone(),
            resolver: resolver.clone(),
            ledger: ledger.clone(),
            secrets: SecretString::from("the secret").into(),
            allowed_origins: Vec::new(),
        }));
        let admission = Admission::new(Parts {
            lifter: Arc::new(Lifter::new(table.clone(), routes.clone(), ledger.clone())),
            table: table.clone(),
            routes: routes.clone(),
            resolver,
            holds: Holds::new(100, 50, table.metrics.clone()),
            membership: membership.subscribe(),
            access,
            hold_timeout: HOLD_TIMEOUT,
        });
        let records = Records::new(ledger);
        let camp =
            Self { wire, directory, records, table, routes, admission, membership, id: SessionId::random() };
        camp.join();
        camp
    }

    pub(crate) fn join(&self) {
        let (boot, epoch) = ("boot".parse().unwrap(), self.table.begin_epoch());
        self.membership.send_replace(Membership::Joined { boot, epoch });
    }

    /// A link whose replica keeps being heard, for as long as the test runs.
    pub(crate) fn link(&self) -> Queue {
        let queue = self.table.outbox.open();
        self.table.outbox.synced(queue.id);
        let (table, closed) = (self.table.clone(), queue.closed.clone());
        tokio::spawn(closed.run_until_cancelled_owned(async move {
            loop {
                table.outbox.hear(table.clock.now());
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }));
        self.table.outbox.hear(self.table.clock.now());
        queue
    }

    /// The session is claimed, for the first time or again.
    pub(crate) async fn claim(&self, wake: bool) -> Record {
        let previous = self.records.read(&self.id).await.unwrap();
        let claim = Claim {
            namespace: "default".parse().unwrap(),
            key: Some("doc".parse().unwrap()),
            template: "whiteboard".parse().unwrap(),
            hash: String::new(),
            request: StoredRequest::default(),
            policy: Policy {
                idle_timeout: Span::seconds(30),
                startup_timeout: Span::seconds(30),
                stop_grace: Span::seconds(1),
                wake,
                further: [(ADMIN.parse().unwrap(), PortPolicy { protocol: Protocol::H2c, ready_path: None })]
                    .into(),
                rules: Rules { max_connections: Some(SEATS), ..Rules::default() },
                ..Policy::plain("http".parse().unwrap())
            },
            nonce: Nonce::random(),
            at: Timestamp::now(),
        };
        self.records.claim(&self.id, previous.as_ref(), &claim).await.unwrap().unwrap().value
    }

    async fn change(&self, change: impl Fn(&Record) -> Transition + Send) {
        self.records.update(&self.id, None, change).await.unwrap();
    }

    /// Its allocation is pinned.
    pub(crate) async fn pin(&self) {
        let pin = |record: &Record| {
            let allocation = allocation(record.generation).parse().unwrap();
            records::pinned(record, (record.generation, &record.nonce), &allocation, &Timeline::default())
        };
        self.change(pin).await;
    }

    /// It was ready once.
    pub(crate) async fn ready(&self) {
        let seen = Timeline { ready: Some(Timestamp::now()), ..Timeline::default() };
        self.change(|record| records::ready(record, record.generation, &seen)).await;
    }

    /// Claimed and pinned at once.
    pub(crate) async fn run(&self, wake: bool) -> Generation {
        let generation = self.claim(wake).await.generation;
        self.pin().await;
        generation
    }

    pub(crate) async fn stop(&self, reason: impl Into<Reason>) {
        let reason = reason.into();
        self.change(|record| records::stopping(record, &reason, Timestamp::now())).await;
    }

    pub(crate) async fn end(&self, reason: impl Into<Reason>) {
        let reason = reason.into();
        let seen = Timeline::default();
        self.change(|record| records::ended(record, record.generation, &reason, &seen, Timestamp::now()))
            .await;
    }

    pub(crate) fn route(&self, generation: u64, phase: RoutePhase) -> Route {
        Route::new(
            self.id.clone(),
            Generation(generation),
            allocation(Generation(generation)).parse().unwrap(),
            "http".parse().unwrap(),
            Endpoint {
                address: ([127, 0, 0, 1], 20_000 + u16::try_from(generation).unwrap()).into(),
                protocol: Protocol::Http,
                phase,
            },
        )
    }

    /// The same, with the further port.
    pub(crate) fn route_with(&self, generation: u64, phase: RoutePhase, admin: RoutePhase) -> Route {
        let mut route = self.route(generation, phase);
        let address = (route.address.ip(), route.address.port() + 1000).into();
        let endpoint = Endpoint { address, protocol: Protocol::H2c, phase: admin };
        route.further.insert(ADMIN.parse().unwrap(), endpoint);
        route
    }

    pub(crate) fn push(&self, generation: u64, phase: RoutePhase) {
        assert!(self.routes.push(self.route(generation, phase)));
    }

    pub(crate) fn retract(&self, generation: u64, ended: bool, reason: impl Into<Reason>) {
        let over =
            Over { generation: Generation(generation), ended, reason: Some(reason.into()), wake: false };
        self.routes.retract(&self.id, &over);
    }

    pub(crate) fn fence_order(&self, generation: u64, attempt: u64) -> Fence {
        Fence {
            session: self.id.clone(),
            generation: Generation(generation),
            tag: tag(attempt),
            min_idle_ms: 0,
            mode: FenceMode::Idle,
        }
    }

    /// A request whose client stays.
    pub(crate) async fn admit(&self) -> Result<Admitted, Refusal> {
        self.admit_to(None).await
    }

    /// The same, for a port.
    pub(crate) async fn admit_to(&self, port: Option<&str>) -> Result<Admitted, Refusal> {
        let target = self.target(port);
        let admitted = self.admission.admit(&target, Grant::default(), pending()).await?;
        Ok(admitted.expect("the client is still there"))
    }

    pub(crate) fn target(&self, port: Option<&str>) -> Target {
        Target { session: self.id.clone(), port: port.map(|port| port.parse().unwrap()) }
    }

    /// A request that goes on by itself.
    pub(crate) fn admitting(&self) -> tokio::task::JoinHandle<Result<Generation, Refusal>> {
        self.admitting_to(None)
    }

    /// The same, for a port.
    pub(crate) fn admitting_to(
        &self,
        port: Option<&str>,
    ) -> tokio::task::JoinHandle<Result<Generation, Refusal>> {
        let (admission, target) = (self.admission.clone(), self.target(port));
        tokio::spawn(async move {
            let admitted = admission.admit(&target, Grant::default(), pending()).await?;
            Ok(admitted.expect("the client is still there").route().generation)
        })
    }

    pub(crate) fn cut_wire(&self, cut: bool) {
        self.wire.cut.store(cut, Ordering::SeqCst);
    }
}

pub(crate) fn tag(attempt: u64) -> FenceTag {
    FenceTag { term: Term(7), attempt }
}

fn allocation(generation: Generation) -> String {
    format!("alloc-{generation}")
}

/// Lets everything that can run do so, and this much time pass.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// What was said on the link since the last time, activity apart.
pub(crate) fn said(queue: &mut Queue) -> Vec<FromProxy> {
    let mut said = Vec::new();
    while let Ok(message) = queue.messages.try_recv() {
        if !matches!(message, FromProxy::Activity(_)) {
            said.push(message);
        }
    }
    said
}
