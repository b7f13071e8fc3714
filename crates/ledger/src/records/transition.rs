//! Which change of a record is permitted from where. Pure: the ledger decides who gets to make it.

use bivouac_protocol::{
    AllocationId, Generation, Key, LeaseName, Namespace, Nonce, Phase, Policy, Reason, ReasonCode, Record,
    StoredRequest, TemplateName, Timeline,
};
use jiff::Timestamp;

/// The outcome of asking for a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// The record as it is to be written.
    To(Box<Record>),
    /// The record does not permit it, or is so already.
    Declined,
}

/// What a spawner claims with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The key's namespace.
    pub namespace: Namespace,
    /// The application's name for the session.
    pub key: Option<Key>,
    /// From which recipe.
    pub template: TemplateName,
    /// Digest of the recipe.
    pub hash: String,
    /// What the caller asked for.
    pub request: StoredRequest,
    /// The rules of this generation.
    pub policy: Policy,
    /// Tells this claim from another.
    pub nonce: Nonce,
    /// When, by the wall clock.
    pub at: Timestamp,
}

/// The record of a new generation.
#[must_use]
pub fn claimed(previous: Option<&Record>, floor: Generation, claim: &Claim) -> Record {
    let failures = previous
        .filter(|p| p.reason.as_ref().is_some_and(|reason| reason.code.is_failed_start()))
        .map_or(0, |p| p.failures);
    Record {
        revision: previous.map_or(0, |p| p.revision) + 1,
        namespace: claim.namespace.clone(),
        key: claim.key.clone(),
        template: claim.template.clone(),
        hash: claim.hash.clone(),
        request: claim.request.clone(),
        policy: claim.policy.clone(),
        generation: Generation::next(previous.map(|p| p.generation), floor),
        nonce: claim.nonce.clone(),
        phase: Phase::Claimed,
        allocation: None,
        leases: previous.map(|p| p.leases.clone()).unwrap_or_default(),
        touched_at: claim.at,
        reason: None,
        failures,
        timeline: Timeline { claimed: Some(claim.at), ..Timeline::default() },
    }
}

/// Pins the first allocation: `claimed` → `running`, once.
#[must_use]
pub fn pinned(
    record: &Record,
    run: (Generation, &Nonce),
    allocation: &AllocationId,
    seen: &Timeline,
) -> Transition {
    if record.phase != Phase::Claimed || (record.generation, &record.nonce) != run {
        return Transition::Declined;
    }
    let mut next = record.revised();
    next.phase = Phase::Running;
    next.allocation = Some(allocation.clone());
    next.timeline = merged(&record.timeline, seen);
    Transition::To(Box::new(next))
}

/// Notes the start's timeline, and that the start succeeded.
#[must_use]
pub fn ready(record: &Record, generation: Generation, seen: &Timeline) -> Transition {
    if record.phase != Phase::Running || record.generation != generation || record.timeline.ready.is_some() {
        return Transition::Declined;
    }
    let mut next = record.revised();
    next.failures = 0;
    next.timeline = merged(&record.timeline, seen);
    Transition::To(Box::new(next))
}

/// A spawn joins the live session.
#[must_use]
pub fn touched(record: &Record, now: Timestamp) -> Transition {
    if !record.is_live() {
        return Transition::Declined;
    }
    let mut next = record.revised();
    next.touched_at = now;
    // It is idle from now on at the earliest: nothing is lost with those that ended before.
    next.leases.retain(|_, until| *until > now);
    Transition::To(Box::new(next))
}

/// Leases of one session at the same time.
pub const MAX_LEASES: usize = 32;

/// Promises to keep the live session alive until a time, or renews that promise: a use, like a join. What would reach
/// beyond the session's lifetime is cut at its end. Declined beyond [`MAX_LEASES`].
#[must_use]
pub fn leased(record: &Record, name: &LeaseName, until: Timestamp, now: Timestamp) -> Transition {
    let Transition::To(mut next) = touched(record, now) else { return Transition::Declined };
    let until = record.lifetime_ends().map_or(until, |end| end.min(until));
    next.leases.insert(name.clone(), until);
    if until <= now || next.leases.len() > MAX_LEASES { Transition::Declined } else { Transition::To(next) }
}

/// Takes a promise back: the session is idle from now on, if nothing else uses it. Declined where there is none.
#[must_use]
pub fn released(record: &Record, name: &LeaseName, now: Timestamp) -> Transition {
    let Transition::To(mut next) = touched(record, now) else { return Transition::Declined };
    match next.leases.remove(name) {
        Some(_) => Transition::To(next),
        None => Transition::Declined,
    }
}

/// Decides a stop: from `claimed` or `running`, once; the first reason stands.
#[must_use]
pub fn stopping(record: &Record, reason: &Reason, now: Timestamp) -> Transition {
    if !record.is_live() {
        return Transition::Declined;
    }
    let mut next = record.revised();
    next.phase = Phase::Stopping;
    next.reason = Some(reason.clone());
    next.timeline.stopping = Some(now);
    Transition::To(Box::new(next))
}

/// Notes that the generation's allocation is over. A decided stop keeps its reason.
#[must_use]
pub fn ended(
    record: &Record,
    generation: Generation,
    reason: &Reason,
    seen: &Timeline,
    now: Timestamp,
) -> Transition {
    if record.phase == Phase::Ended || record.generation != generation {
        return Transition::Declined;
    }
    let mut next = record.revised();
    let decided = record.reason.clone().unwrap_or_else(|| reason.clone());
    if decided.code.is_failed_start() {
        next.failures = record.failures.saturating_add(1);
    }
    // The exit code is worth knowing whatever the cause was, and so is what was printed last.
    let log_tail = if decided.log_tail.is_empty() { reason.log_tail.clone() } else { decided.log_tail };
    next.reason = Some(Reason { exit_code: decided.exit_code.or(reason.exit_code), log_tail, ..decided });
    next.phase = Phase::Ended;
    next.timeline = merged(&record.timeline, seen);
    next.timeline.ended = Some(now);
    next.leases.clear();
    Transition::To(Box::new(next))
}

/// Gives up a run whose node is unreachable, so that its key may be claimed again: the one way to end a run that is not
/// known to be over. Why a stop of it was decided, if one was, is kept in words.
#[must_use]
pub fn abandoned(
    record: &Record,
    run: (Generation, &Nonce),
    detail: &str,
    seen: &Timeline,
    now: Timestamp,
) -> Transition {
    let pinned = matches!(record.phase, Phase::Running | Phase::Stopping);
    if !pinned || (record.generation, &record.nonce) != run {
        return Transition::Declined;
    }
    let earlier =
        record.reason.as_ref().map(|reason| format!(" (it was being stopped: {})", reason.code.as_str()));
    let reason = Reason::new(ReasonCode::Abandoned, format!("{detail}{}", earlier.unwrap_or_default()));
    let bare = Record { reason: None, ..record.clone() };
    ended(&bare, record.generation, &reason, seen, now)
}

/// Changes nothing but the revision, while the session runs: whatever was prepared against the old one is refused.
#[must_use]
pub fn bumped(record: &Record, generation: Generation) -> Transition {
    if record.phase != Phase::Running || record.generation != generation {
        return Transition::Declined;
    }
    Transition::To(Box::new(record.revised()))
}

/// Fills the gaps of `base` with what was `seen`; a time that is written stands.
fn merged(base: &Timeline, seen: &Timeline) -> Timeline {
    Timeline {
        claimed: base.claimed.or(seen.claimed),
        registered: base.registered.or(seen.registered),
        placed: base.placed.or(seen.placed),
        started: base.started.or(seen.started),
        port_open: base.port_open.or(seen.port_open),
        ready: base.ready.or(seen.ready),
        first_byte: base.first_byte.or(seen.first_byte),
        stopping: base.stopping.or(seen.stopping),
        ended: base.ended.or(seen.ended),
    }
}

#[cfg(test)]
mod tests;
