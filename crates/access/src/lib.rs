#![doc = include_str!("../README.md")]

mod again;
mod connection;
mod expiry;
mod explain;
mod files;
mod live;
mod refusals;
mod standing;
mod target;

pub use connection::{Connection, Failure, Outcome};
pub use explain::{is_plain_text_refusal, plain_text_refused};
pub use standing::{Access, register};
pub use target::{CONSUL, NOMAD, Target, Tls, Token};
