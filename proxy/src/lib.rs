//! The data plane: hostname → session → allocation, with requests held while a session starts and every use counted.
//!
//! ```text
//! listener ─▶ host ─▶ admission ─▶ exchange | tunnel ─▶ backend
//!                        │  ▲
//!             activity ◀─┘  └─ routes ◀─ link (pushed) · resolve (record + directory)
//! ```

mod access;
pub mod activity;
mod admin;
mod admission;
mod app;
mod connection;
mod exchange;
mod framing;
mod h2;
mod handover;
mod head;
mod headers;
mod hold;
mod host;
mod lift;
mod link;
mod listener;
mod log;
mod membership;
mod metrics;
mod options;
mod page;
mod refusal;
mod routes;
mod stream;
mod tunnel;
mod upstream;
mod visitor;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod testing;

pub use app::{BindError, Config, Proxy};
pub use listener::CertificateError;
pub use options::{Edge, Limits, TlsFiles};
pub use routes::backends::Backends;
