//! The operator's recipes: what a spawn names, what it may set, and within which bounds.
//!
//! `file` reads `template.toml`, [`registry`] keeps all templates of an installation, [`jobspec`] has Nomad parse
//! their jobs, [`reload`] takes in what changes. A [`Template`] is checked once, at the load; only whether its job is
//! usable becomes known later.

mod file;
mod job;
pub mod jobspec;
mod params;
pub mod registry;
pub mod reload;
mod sample;
mod variables;

use std::collections::{BTreeMap, BTreeSet};

use bivouac_protocol::{Policy, PortLabel, PortPolicy, Protocol, Rules, Span, StoredRequest, TemplateName};
use serde::{Deserialize, Serialize};

pub use job::{Job, NomadTemplate};
pub use params::{Param, Pattern};
pub use registry::{LoadError, TemplateVar, Templates};

/// Where the sessions of this installation run, and so which section of a template counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As child processes: `[process]`.
    Processes,
    /// As Nomad jobs: `[nomad]`.
    Nomad,
}

/// One recipe.
#[derive(Debug)]
pub struct Template {
    /// The name that a spawn gives: the template's folder.
    pub name: TemplateName,
    /// Digest of all that the template consists of: its `template.toml`, its job, its variables. Hexadecimal.
    pub hash: String,
    /// For people.
    pub description: String,
    /// What callers may set beyond parameters.
    pub allow: BTreeSet<Allowance>,
    /// The session's rules, and how far callers may change them.
    pub bounds: PolicyBounds,
    /// Whether a request for an ended session starts it again.
    pub wake: bool,
    /// Parameters by the name that callers use. Each becomes an environment variable of the upper-cased name and, on
    /// Nomad, Meta of the same name.
    pub params: BTreeMap<String, Param>,
    /// What it says about its sessions' traffic.
    pub rules: Rules,
    /// Its ports.
    pub ports: BTreeMap<PortLabel, Port>,
    /// The port that the session's own hostname leads to: a key of `ports`.
    pub default_port: PortLabel,
    /// How it runs as a child process.
    pub process: Option<ProcessTemplate>,
    /// How it runs as a Nomad job.
    pub nomad: Option<NomadTemplate>,
    mode: Mode,
}

/// What a template may let callers set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Allowance {
    /// Additional environment variables.
    Env,
    /// Additional arguments.
    Args,
    /// Another image.
    Image,
    /// CPU and memory.
    Resources,
}

impl Allowance {
    /// The word in `allow`, which is the request's field too.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Env => "env",
            Self::Args => "args",
            Self::Image => "image",
            Self::Resources => "resources",
        }
    }
}

/// The session's rules, and how far callers may change them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyBounds {
    /// See [`Policy::idle_timeout`].
    pub idle_timeout: Bounds,
    /// See [`Policy::quiet_timeout`]. Without a default there is none unless a caller asks for one.
    pub quiet_timeout: OptionalBounds,
    /// See [`Policy::max_lifetime`]. Without a default there is none unless a caller asks for one.
    pub max_lifetime: OptionalBounds,
    /// See [`Policy::startup_timeout`].
    pub startup_timeout: Bounds,
    /// See [`Policy::max_lease`].
    pub max_lease: Span,
    /// See [`Policy::stop_grace`]. Callers cannot change it.
    pub stop_grace: Span,
}

/// A duration that callers may change between `min` and `max` (equal: not at all).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bounds {
    /// Where the caller says nothing.
    pub default: Span,
    /// The least that a caller may ask for.
    pub min: Span,
    /// The most.
    pub max: Span,
}

/// As [`Bounds`], where the default may be "none".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OptionalBounds {
    /// Where the caller says nothing; `None`: none.
    pub default: Option<Span>,
    /// The least that a caller may ask for.
    pub min: Span,
    /// The most.
    pub max: Span,
}

/// One port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Port {
    /// What it speaks.
    pub protocol: Protocol,
    /// HTTP path that answers 2xx once the backend is ready.
    pub ready_path: Option<String>,
}

/// How a template runs as a child process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessTemplate {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment set by the operator.
    pub env: BTreeMap<String, String>,
}

/// Why a template cannot be used at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It will not get better by itself.
    Broken(String),
    /// It cannot be known yet.
    Pending(String),
}

impl Problem {
    /// The sentence for people.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Broken(detail) | Self::Pending(detail) => detail,
        }
    }
}

impl Template {
    /// Why it cannot be used at the moment; `None`: it can.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        match (self.mode, &self.process, &self.nomad) {
            (Mode::Processes, Some(_), _) => None,
            (Mode::Processes, None, _) => Some(Problem::Broken(
                "it has no [process] section, and sessions run as child processes here".to_owned(),
            )),
            (Mode::Nomad, _, None) => {
                Some(Problem::Broken("it has no [nomad] section, and sessions run on Nomad here".to_owned()))
            }
            (Mode::Nomad, _, Some(nomad)) => match nomad.job() {
                Job::Ready(_) => None,
                Job::Pending(detail) => Some(Problem::Pending(detail)),
                Job::Refused(detail) => Some(Problem::Broken(detail)),
            },
        }
    }

    /// Names of environment variables that the operator sets: callers cannot change them.
    #[must_use]
    pub fn own_environment(&self) -> BTreeSet<String> {
        match self.mode {
            Mode::Processes => {
                self.process.as_ref().map(|p| p.env.keys().cloned().collect()).unwrap_or_default()
            }
            Mode::Nomad => match self.nomad.as_ref().map(NomadTemplate::job) {
                Some(Job::Ready(job)) => jobspec::environment(&job),
                _ => BTreeSet::new(),
            },
        }
    }

    /// The parameters' values: the caller's, else the defaults, else nothing ("" too has to be said: an operator's HCL that
    /// refers to a variable which is not there fails after placement). A stored request that names a
    /// parameter which the template no longer has was refused before, by [`limits`](super::limits).
    #[must_use]
    pub fn values(&self, request: &StoredRequest) -> BTreeMap<String, String> {
        let value =
            |name: &String, param: &Param| request.params.get(name).or(param.default.as_ref()).cloned();
        self.params
            .iter()
            .map(|(name, param)| (name.clone(), value(name, param).unwrap_or_default()))
            .collect()
    }

    /// The rules of a generation: what was asked for (already checked against the bounds), else the defaults.
    #[must_use]
    pub fn policy(&self, request: &StoredRequest) -> Policy {
        let port = self.ports.get(&self.default_port);
        let further = self.ports.iter().filter(|(label, _)| **label != self.default_port);
        let further = further.map(|(label, Port { protocol, ready_path })| {
            (label.clone(), PortPolicy { protocol: *protocol, ready_path: ready_path.clone() })
        });
        Policy {
            idle_timeout: request.idle_timeout.unwrap_or(self.bounds.idle_timeout.default),
            quiet_timeout: request.quiet_timeout.or(self.bounds.quiet_timeout.default),
            max_lifetime: request.max_lifetime.or(self.bounds.max_lifetime.default),
            startup_timeout: request.startup_timeout.unwrap_or(self.bounds.startup_timeout.default),
            max_lease: self.bounds.max_lease,
            stop_grace: self.bounds.stop_grace,
            wake: self.wake,
            overlap_after: self.nomad.as_ref().and_then(|nomad| nomad.overlap_after),
            protocol: port.map(|port| port.protocol).unwrap_or_default(),
            ready_path: port.and_then(|port| port.ready_path.clone()),
            further: further.collect(),
            rules: self.rules.clone(),
            ..Policy::plain(self.default_port.clone())
        }
    }
}

#[cfg(test)]
mod tests;
