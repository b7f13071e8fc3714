//! Sessions: what is known of each, what follows from it, and the one task that owns that state.
//!
//! ```text
//!  API ─▶ spawning ──claim──▶ ledger          backend ──reports──┐      proxies ──links──┐
//!            │                                                   ▼                       ▼
//!            └──────────── News ─────────────────────────▶ supervisor ── facts ─▶ decide ─▶ effects
//!                                                            ▲   │ publishes views           │ (ledger, backend)
//!                                                            │   └─▶ registry ─▶ API         │
//!                                                            └────────────── answers ◀───────┘
//! ```

mod abandoning;
mod asking;
pub mod attempt;
mod claiming;
mod commands;
mod decide;
mod evidence;
mod facts;
mod following;
pub mod idle;
mod leadership;
mod leasing;
mod members;
mod probe;
mod registry;
mod revoking;
#[cfg(test)]
mod samples;
mod spawning;
mod supervisor;
pub mod view;
mod waking;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bivouac_ledger::Ledger;
use bivouac_ledger::members::Members;
use bivouac_ledger::records::Records;
use bivouac_ledger::revoked::Revocations;
use bivouac_protocol::SessionId;
use jiff::SignedDuration;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backend::Backend;
use crate::failpoint::Failpoints;
use crate::metrics::Metrics;
use crate::spec::Templates;
pub use commands::{CommandError, Sessions};
pub use leadership::ReplicaName;
pub use leasing::{LeaseRefusal, Length as LeaseLength};
pub use probe::Prober;
pub use spawning::Spawned;
use supervisor::{News, Supervisor};

pub(crate) use decide::Kind;
pub(crate) use evidence::LinkId;

/// How often joins of one session are written, at most.
const TOUCH_EVERY: Duration = Duration::from_secs(1);

/// What an installation may set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Base of the sessions' URLs: `scheme://domain[:port]`.
    pub session_url: url::Url,
    /// Age of a claim, on this replica's clock, at which another replica may take it over.
    pub claim_timeout: Duration,
    /// How long ended records are kept: with a key, and without.
    pub retention: (SignedDuration, SignedDuration),
    /// Silence to this replica after which a proxy whose Consul session is gone is presumed dead; `None`: never.
    pub presume_dead_after: Option<Duration>,
    /// Failpoints of a test.
    pub failpoints: Failpoints,
}

/// Everything outside the supervisor that effects need.
pub(crate) struct Outside {
    pub(crate) records: Records,
    pub(crate) members: Members,
    pub(crate) revocations: Revocations,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) templates: Arc<Templates>,
    pub(crate) settings: Settings,
    pub(crate) failpoints: Failpoints,
    pub(crate) registry: registry::Registry,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) prober: Prober,
    pub(crate) tracker: TaskTracker,
    /// Revisions that a join through this replica wrote less than [`TOUCH_EVERY`] ago: a popular key costs a write a
    /// second, not one per spawn. By this process's own clock, which the time in the record is not.
    touches: moka::sync::Cache<SessionId, u64>,
    /// The backend's reports are broken off: it may be away.
    pub(crate) reports_interrupted: AtomicBool,
    /// All records are to be listed again now.
    pub(crate) relist: Notify,
    lanes: asking::Lanes,
    news: mpsc::UnboundedSender<News>,
}

impl Outside {
    /// Gives the supervisor news. After its end there is nobody to hear it, and that is fine.
    pub(crate) fn tell(&self, news: News) {
        let _ = self.news.send(news);
    }

    /// Where users reach a session.
    pub(crate) fn session_url(&self, id: &SessionId) -> String {
        let mut url = self.settings.session_url.clone();
        let host = format!("{id}.{}", url.host_str().unwrap_or("localhost"));
        // A session id in front of a host that was parsed is a host.
        let _ = url.set_host(Some(&host));
        url.to_string()
    }
}

/// All that owns and follows sessions in this process, ready to run.
pub struct SessionService {
    outside: Arc<Outside>,
    inbox: mpsc::UnboundedReceiver<News>,
    replica: ReplicaName,
}

impl SessionService {
    /// Builds it; nothing runs yet.
    #[must_use]
    pub fn new(
        ledger: Arc<dyn Ledger>,
        backend: Arc<dyn Backend>,
        templates: Arc<Templates>,
        settings: Settings,
        metrics: Arc<Metrics>,
        prober: Prober,
        replica: ReplicaName,
    ) -> Self {
        let (news, inbox) = mpsc::unbounded_channel();
        let outside = Outside {
            records: Records::new(Arc::clone(&ledger)),
            members: Members::new(Arc::clone(&ledger)),
            revocations: Revocations::new(Arc::clone(&ledger)),
            ledger,
            backend,
            templates,
            failpoints: settings.failpoints.clone(),
            settings,
            registry: registry::Registry::default(),
            metrics,
            prober,
            tracker: TaskTracker::new(),
            touches: moka::sync::Cache::builder().max_capacity(100_000).time_to_live(TOUCH_EVERY).build(),
            reports_interrupted: AtomicBool::new(false),
            relist: Notify::new(),
            lanes: asking::Lanes::default(),
            news,
        };
        Self { outside: Arc::new(outside), inbox, replica }
    }

    /// The way in.
    #[must_use]
    pub fn handle(&self) -> Sessions {
        Sessions::new(Arc::clone(&self.outside))
    }

    /// Where links bring what proxies say.
    pub(crate) fn link_events(&self) -> impl Fn(crate::link::LinkEvent) + Clone + Send + Sync + 'static {
        let outside = Arc::clone(&self.outside);
        move |event| outside.tell(News::Link(event))
    }

    /// Runs until `shutdown`, then gives the leadership back so that another replica need not wait for its expiry.
    pub async fn run(self, shutdown: CancellationToken) {
        let outside = self.outside;
        let following = TaskTracker::new();
        following.spawn(leadership::lead(Arc::clone(&outside), self.replica, shutdown.clone()));
        following.spawn(until(shutdown.clone(), members::follow(Arc::clone(&outside))));
        following.spawn(until(shutdown.clone(), revoking::follow(Arc::clone(&outside))));
        following.spawn(until(shutdown.clone(), members::remove_the_dead(Arc::clone(&outside))));
        following.spawn(until(shutdown.clone(), following::learn_all(Arc::clone(&outside))));
        following.spawn(until(shutdown.clone(), following::observe(Arc::clone(&outside))));
        let supervisor = Supervisor::new(Arc::clone(&outside));
        supervisor.run(self.inbox, shutdown).await;
        following.close();
        following.wait().await;
    }
}

async fn until(shutdown: CancellationToken, task: impl Future<Output = ()>) {
    tokio::select! {
        () = task => {}
        () = shutdown.cancelled() => {}
    }
}
