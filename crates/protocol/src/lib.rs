//! What the service, the proxy and the records say to each other.
//!
//! Everything here is pure: no I/O, no async, no clock. Text from outside becomes one of these types at the edge,
//! and from then on it cannot be invalid.
//!
//! - [`id`]: session ids, keys, namespaces, generations and the names derived from them
//! - [`fence`]: the ordering of stop attempts, [`FenceTag`]
//! - [`record`]: the session's document in the ledger
//! - [`route`]: where a session's allocation listens
//! - [`link`]: the messages between a proxy and a service replica
//! - [`token`]: API tokens: their text, their scope, their document
//! - [`ticket`]: who a user is, for one session and until when
//! - [`span`]: durations as people write them ("90s", "5m")
//! - [`text`]: text of strangers, shown to people

pub mod fence;
pub mod id;
pub mod link;
mod mac;
pub mod member;
pub mod proof;
pub mod reason;
pub mod record;
pub mod route;
pub mod span;
pub mod text;
pub mod ticket;
pub mod token;

pub use fence::{FenceMode, FenceTag, Term};
pub use id::{
    AllocationId, BootId, Generation, IdempotencyKey, InvalidId, Key, LeaseName, Namespace, Nonce, PortLabel,
    SessionId, TemplateName, TokenName,
};
pub use reason::{Reason, ReasonCode};
pub use record::{Phase, Policy, PortPolicy, Record, StoredRequest, Timeline};
pub use route::{Access, Endpoint, Protocol, Route, RoutePhase, Rules};
pub use span::Span;
