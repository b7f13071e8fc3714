//! Records, and a service over a ledger in memory, to test with.

use std::sync::{Arc, Once};
use std::time::Duration;

use bivouac_ledger::directory::MemoryDirectory;
use bivouac_ledger::memory::MemoryLedger;
use bivouac_ledger::records::Claim;
use bivouac_protocol::{Nonce, Policy, Span, StoredRequest};
use jiff::{SignedDuration, Timestamp};
use prometheus_client::registry::Registry;

use super::{Prober, SessionService, Settings};
use crate::backend::process::{self, ProcessBackend};
use crate::{Failpoints, Metrics};

/// Half a minute without use, no lifetime.
pub(super) fn policy() -> Policy {
    Policy {
        idle_timeout: Span::seconds(30),
        startup_timeout: Span::seconds(60),
        stop_grace: Span::seconds(5),
        wake: true,
        ..Policy::plain("http".parse().unwrap())
    }
}

/// Somebody's claim of the key "doc", with a nonce of its own.
pub(super) fn claim(policy: Policy, at: Timestamp) -> Claim {
    Claim {
        namespace: Default::default(),
        key: Some("doc".parse().unwrap()),
        template: "demo".parse().unwrap(),
        hash: "h".into(),
        request: StoredRequest::default(),
        policy,
        nonce: Nonce::random(),
        at,
    }
}

/// A service of which nothing runs; its child processes would keep their state in the folder.
pub(super) fn service() -> (SessionService, tempfile::TempDir) {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let state = tempfile::tempdir().unwrap();
    let settings = process::Settings { guard: Vec::new(), state_dir: state.path().join("runs") };
    let backend = ProcessBackend::new(settings, Arc::new(MemoryDirectory::default())).unwrap();
    let service = SessionService::new(
        Arc::new(MemoryLedger::new()),
        Arc::new(backend),
        Arc::default(),
        Settings {
            session_url: "http://localhost:7080".parse().unwrap(),
            claim_timeout: Duration::from_secs(5),
            retention: (SignedDuration::from_hours(1), SignedDuration::from_hours(1)),
            presume_dead_after: None,
            failpoints: Failpoints::default(),
        },
        Arc::new(Metrics::register(&mut Registry::default())),
        Prober::new().unwrap(),
        "replica".to_owned(),
    );
    (service, state)
}
