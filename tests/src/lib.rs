//! Black-box tests: they drive the real binary through its flags, its ready files and HTTP, against real agents.
//!
//! - [`World`]: a service, a proxy and what they need, for one scenario; ends with it
//! - [`agents`]: real Consul and Nomad agents as child processes
//! - [`faults`]: a TCP proxy that misbehaves on demand
//! - [`guest`]: the backend that the scenarios run as a session
//! - [`h2raw`]: HTTP/2 by hand, frame by frame
//! - [`browser`]: headless Chromium
//! - [`guard`]: children that never outlive the test run

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed expectation is how a test fails, and its report is what people read"
)]

pub mod agents;
pub mod browser;
mod eventually;
pub mod faults;
pub mod guard;
pub mod guest;
pub mod h2raw;
pub mod world;

use std::time::Duration;

pub use eventually::{always, elapse, eventually};
pub use world::World;

/// A client for plain HTTP to this machine: every hostname is 127.0.0.1, no redirects, no proxy of the environment.
///
/// # Panics
/// When the client cannot be built.
#[must_use]
pub fn http_client(timeout: Duration) -> reqwest::Client {
    // Refused when another client of this process was built before: it is installed then.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(timeout)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Loopback)
        .build()
        .expect("an HTTP client")
}

/// Every session's hostname ends in `.localhost`, which not every resolver knows.
struct Loopback;

impl reqwest::dns::Resolve for Loopback {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let addresses: reqwest::dns::Addrs = Box::new(std::iter::once(([127, 0, 0, 1], 0).into()));
        Box::pin(std::future::ready(Ok(addresses)))
    }
}
