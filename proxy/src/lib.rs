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
mod head;
mod headers;
mod hold;
mod host;
mod lift;
mod link;
mod listener;
mod membership;
mod metrics;
mod page;
mod refusal;
mod routes;
mod stream;
mod tunnel;
mod upstream;

#[cfg(test)]
mod testing;

pub use app::{BindError, Config, Proxy};
pub use routes::backends::Backends;
