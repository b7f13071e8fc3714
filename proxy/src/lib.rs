//! The data plane: hostname → session → allocation, with requests held while a session starts and every use counted.
//!
//! ```text
//! listener ─▶ host ─▶ admission ─▶ exchange | tunnel ─▶ backend
//!                        │  ▲
//!             activity ◀─┘  └─ routes ◀─ link (pushed) · resolve (record + directory)
//! ```

pub mod activity;
mod admission;
mod upstream;
mod tunnel;
mod stream;
mod page;
mod listener;
mod host;
mod headers;
mod head;
mod framing;
mod exchange;
mod connection;
mod access;
mod refusal;
mod admin;
mod app;
mod hold;
mod lift;
mod link;
mod membership;
mod metrics;
mod routes;

#[cfg(test)]
mod testing;

pub use app::{BindError, Config, Proxy};
pub use routes::backends::Backends;
