//! What callers ask for. Plain text where the service checks it: its refusal names the field.

use std::collections::BTreeMap;

use bivouac_protocol::{Span, record::Resources};
use jiff::Timestamp;
use serde::Serialize;

/// What to spawn. Plain text: the service checks it, and its refusal names the field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SpawnRequest {
    /// From which template.
    pub template: String,
    /// The application's name for the session: get-or-create.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The key's namespace; `default` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Values of the template's parameters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// Additional environment, where the template allows it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Additional arguments, where the template allows them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Another image, where the template allows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Other resources, where the template allows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Ends the session this long after its last use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Span>,
    /// Ends it once its open connections have carried nothing but pings for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet_timeout: Option<Span>,
    /// Ends it this long after its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lifetime: Option<Span>,
    /// Gives it up if it is not ready by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup_timeout: Option<Span>,
    /// The application's own marks.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl SpawnRequest {
    /// A session from a template, and nothing more said.
    #[must_use]
    pub fn new(template: impl Into<String>) -> Self {
        Self { template: template.into(), ..Self::default() }
    }
}

/// How long a lease keeps a session alive, by the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseLength {
    /// From now on.
    For(Span),
    /// Until this time.
    Until(Timestamp),
}

/// Which sessions to list. Everything that is set must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// In this state.
    pub state: Option<String>,
    /// From this template.
    pub template: Option<String>,
    /// In this namespace.
    pub namespace: Option<String>,
    /// With this key.
    pub key: Option<String>,
    /// With these labels.
    pub labels: BTreeMap<String, String>,
    /// At most so many on one page.
    pub limit: Option<u32>,
    /// The `next` of the page before.
    pub after: Option<String>,
}

impl Filter {
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&'static str, String)> {
        let texts = [
            ("state", &self.state),
            ("template", &self.template),
            ("namespace", &self.namespace),
            ("key", &self.key),
            ("after", &self.after),
        ];
        let texts = texts.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        let labels = self.labels.iter().map(|(name, value)| ("label", format!("{name}={value}")));
        texts.chain(labels).chain(self.limit.map(|limit| ("limit", limit.to_string())))
    }
}
