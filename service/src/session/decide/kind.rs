//! Effects by kind: what is in flight, what is tried again, and how it is called in metrics.

use super::Effect;

/// Effects by kind: of each at most one is in flight for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the same names as the effects")]
pub(crate) enum Kind {
    Register,
    Inspect,
    TakeOver,
    Pin,
    Probe,
    MarkReady,
    BeginStop,
    Delete,
    End,
    Abandon,
    Prepare,
    Commit,
    RemoveJob,
    Purge,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 14] = [
        Self::Register,
        Self::Inspect,
        Self::TakeOver,
        Self::Pin,
        Self::Probe,
        Self::MarkReady,
        Self::BeginStop,
        Self::Delete,
        Self::End,
        Self::Abandon,
        Self::Prepare,
        Self::Commit,
        Self::RemoveJob,
        Self::Purge,
    ];

    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Inspect => "inspect",
            Self::TakeOver => "take_over",
            Self::Pin => "pin",
            Self::Probe => "probe",
            Self::MarkReady => "mark_ready",
            Self::BeginStop => "begin_stop",
            Self::Delete => "delete",
            Self::End => "end",
            Self::Abandon => "abandon",
            Self::Prepare => "prepare",
            Self::Commit => "commit",
            Self::RemoveJob => "remove_job",
            Self::Purge => "purge",
        }
    }
}

impl Effect {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Register => Kind::Register,
            Self::Inspect => Kind::Inspect,
            Self::TakeOver => Kind::TakeOver,
            Self::Pin(_) => Kind::Pin,
            Self::Probe => Kind::Probe,
            Self::MarkReady => Kind::MarkReady,
            Self::BeginStop(_) => Kind::BeginStop,
            Self::Delete(..) => Kind::Delete,
            Self::End(_) => Kind::End,
            Self::Abandon => Kind::Abandon,
            Self::Prepare => Kind::Prepare,
            Self::RemoveJob(_) => Kind::RemoveJob,
            Self::Purge => Kind::Purge,
        }
    }
}
