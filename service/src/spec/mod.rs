//! From a caller's text to something that cannot be invalid: templates, spawn requests, and their translation into jobs.

pub mod environment;
mod escape;
pub mod limits;
pub mod meta;
pub mod request;
pub mod template;
pub mod translate;

use std::sync::Arc;

use bivouac_protocol::{Key, Namespace, Policy, SessionId, StoredRequest};
use serde_json::{Map, Value};

pub use template::{Template, Templates};

/// A spawn that can be carried out as it stands.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Identity: random, or derived from the key.
    pub id: SessionId,
    /// The key's namespace.
    pub namespace: Namespace,
    /// The application's name for the session.
    pub key: Option<Key>,
    /// From which recipe.
    pub template: Arc<Template>,
    /// What the caller asked for, within what the template permits.
    pub request: StoredRequest,
    /// The rules of the generation to be claimed.
    pub policy: Policy,
    /// What the application says of the user, in the ticket that goes with the spawn. Not kept.
    pub claims: Option<Map<String, Value>>,
    /// The id belongs to this very spawn (an idempotency key): it is never spawned a second time, and what is found under
    /// the id must have been asked for in the same words.
    pub once: bool,
}
