//! What a token permits: which acts, in which namespaces, on sessions of which templates.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{Namespace, TemplateName};

/// The most patterns that a scope has for namespaces, and for templates.
pub const PATTERNS: usize = 64;

/// A kind of act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Spawn sessions and join them.
    Spawn,
    /// See sessions, their events, and templates.
    Read,
    /// Stop sessions.
    Stop,
    /// Keep sessions alive explicitly.
    Lease,
    /// Read what sessions write to their standard output and error.
    Logs,
    /// Let users in, and throw them out.
    Ticket,
    /// See, drain and forget proxies. Of the whole installation: no namespace bounds it.
    Members,
    /// Make and revoke tokens of no more than the own scope.
    Tokens,
}

impl Verb {
    /// All of them.
    pub const ALL: [Verb; 8] = [
        Self::Spawn,
        Self::Read,
        Self::Stop,
        Self::Lease,
        Self::Logs,
        Self::Ticket,
        Self::Members,
        Self::Tokens,
    ];
    /// What an application does with its sessions: the verbs of a token for which none were named.
    pub const OF_APPLICATIONS: [Verb; 6] =
        [Self::Spawn, Self::Read, Self::Stop, Self::Lease, Self::Logs, Self::Ticket];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spawn => "spawn",
            Self::Read => "read",
            Self::Stop => "stop",
            Self::Lease => "lease",
            Self::Logs => "logs",
            Self::Ticket => "ticket",
            Self::Members => "members",
            Self::Tokens => "tokens",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Text that is no verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of spawn, read, stop, lease, logs, ticket, members, tokens")]
pub struct InvalidVerb;

impl FromStr for Verb {
    type Err = InvalidVerb;
    fn from_str(text: &str) -> Result<Self, InvalidVerb> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == text).ok_or(InvalidVerb)
    }
}

/// A name in which `*` stands for any run of characters, none included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob(Box<str>);

/// Text that is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 63 of a-z, 0-9, - and *, where * stands for anything")]
pub struct InvalidGlob;

impl Glob {
    /// Matches everything.
    #[must_use]
    pub fn any() -> Self {
        Self("*".into())
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it matches the whole text. Linear in practice: what stands between two stars is taken where it is found
    /// first, which leaves the most for what follows.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return *self.0 == *text };
        let Some(mut text) = text.strip_prefix(first) else { return false };
        let mut rest = rest;
        while let Some((middle, more)) = rest.split_once('*') {
            let Some(at) = text.find(middle) else { return false };
            text = &text[at + middle.len()..];
            rest = more;
        }
        text.ends_with(rest)
    }

    /// Whether it matches whatever the other one matches. A star of the other one is a character like any other here,
    /// and only a star of ours takes it: then ours takes whatever that star stands for, too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }
}

impl FromStr for Glob {
    type Err = InvalidGlob;
    fn from_str(text: &str) -> Result<Self, InvalidGlob> {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'*');
        if (1..=63).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidGlob)
        }
    }
}

impl TryFrom<String> for Glob {
    type Error = InvalidGlob;
    fn try_from(text: String) -> Result<Self, InvalidGlob> {
        text.parse()
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> String {
        glob.0.into()
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All that a token permits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// In which namespaces.
    pub namespaces: BTreeSet<Glob>,
    /// With sessions of which templates.
    pub templates: BTreeSet<Glob>,
    /// To do what.
    pub verbs: BTreeSet<Verb>,
}

/// A scope that permits nothing, or is too long to be meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}: must have 1 to {PATTERNS} elements; leave it out for the default")]
pub struct InvalidScope(pub &'static str);

impl Scope {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self {
            namespaces: BTreeSet::from([Glob::any()]),
            templates: BTreeSet::from([Glob::any()]),
            verbs: BTreeSet::from(Verb::ALL),
        }
    }

    /// Checks that each part says something.
    ///
    /// # Errors
    /// With the part that does not.
    pub fn check(&self) -> Result<(), InvalidScope> {
        for (name, length) in [
            ("namespaces", self.namespaces.len()),
            ("templates", self.templates.len()),
            ("verbs", self.verbs.len()),
        ] {
            if !(1..=PATTERNS).contains(&length) {
                return Err(InvalidScope(name));
            }
        }
        Ok(())
    }

    /// Whether the namespace is one of its own.
    #[must_use]
    pub fn has_namespace(&self, namespace: &Namespace) -> bool {
        self.namespaces.iter().any(|glob| glob.matches(namespace.as_str()))
    }

    /// Whether the template is one of its own.
    #[must_use]
    pub fn has_template(&self, template: &TemplateName) -> bool {
        self.templates.iter().any(|glob| glob.matches(template.as_str()))
    }

    /// Whether an act is permitted.
    #[must_use]
    pub fn permits(&self, verb: Verb, namespace: &Namespace, template: &TemplateName) -> bool {
        self.verbs.contains(&verb) && self.has_namespace(namespace) && self.has_template(template)
    }

    /// Whether it permits whatever the other one permits. Where it says so it is true; of two patterns that only together
    /// cover a third it does not see it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let lacks = self.lacks(other);
        lacks.verbs.is_empty() && lacks.namespaces.is_empty() && lacks.templates.is_empty()
    }

    /// What of the other one it does not cover.
    #[must_use]
    pub fn lacks(&self, other: &Self) -> Self {
        let uncovered = |ours: &BTreeSet<Glob>, theirs: &BTreeSet<Glob>| {
            theirs.iter().filter(|theirs| !ours.iter().any(|ours| ours.covers(theirs))).cloned().collect()
        };
        Self {
            namespaces: uncovered(&self.namespaces, &other.namespaces),
            templates: uncovered(&self.templates, &other.templates),
            verbs: other.verbs.difference(&self.verbs).copied().collect(),
        }
    }
}
