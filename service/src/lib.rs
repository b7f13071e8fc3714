//! The control plane: sessions are spawned, observed and stopped here. Killing it at any line loses nothing.
//!
//! ```text
//!  api ─▶ spec ─▶ session ─▶ backend (Nomad, or child processes)
//!                   │  ▲
//!                   ▼  │
//!                 link (proxies)            the ledger decides who wins; see bivouac-ledger
//! ```

pub mod api;
pub mod app;
pub mod backend;
mod failpoint;
mod link;
mod metrics;
pub mod session;
pub mod spec;
pub mod tickets;

pub use failpoint::Failpoints;
pub use metrics::Metrics;
