//! What a proxy and a service replica say over their link, as JSON text messages on one WebSocket.
//!
//! ```text
//! proxy                                   service
//!   Hello{versions, boot, challenge} ──▶
//!                                    ◀── Welcome{version, replica, challenge, proof}
//!   Proof{proof}                     ──▶
//!   State* then StateEnd             ──▶            full state, both ways; nothing before the end counts
//!                                    ◀── Route* then RoutesEnd
//!   Activity, Fenced, …              ──▶ ◀── Route, Retract, Fence, …     until either end falls silent
//! ```
//!
//! Ages travel, timestamps never do: two machines' clocks are not compared. Each end sends [`PING_EVERY`]; after
//! [`DEAD_AFTER`] of silence the link is dropped. A full queue closes the link: no message is ever dropped from within.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fence::{FenceMode, FenceTag};
use crate::id::{BootId, Generation, SessionId};
use crate::proof::{Challenge, Proof};
use crate::reason::Reason;
use crate::record::Phase;
use crate::route::Route;

/// The versions of this protocol that this build speaks, lowest and highest.
pub const VERSIONS: (u32, u32) = (1, 1);
/// How often each end says something, at least.
pub const PING_EVERY: Duration = Duration::from_secs(1);
/// Silence after which an end counts as gone.
pub const DEAD_AFTER: Duration = Duration::from_secs(5);
/// Longest message that either end accepts, in bytes.
pub const MAX_MESSAGE: usize = 256 * 1024;

/// The highest version that both ends speak.
#[must_use]
pub fn agree(theirs: (u32, u32)) -> Option<u32> {
    let version = theirs.1.min(VERSIONS.1);
    (version >= theirs.0 && version >= VERSIONS.0).then_some(version)
}

/// From a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromProxy {
    /// First message.
    Hello {
        /// Lowest and highest version that the proxy speaks.
        versions: (u32, u32),
        /// Which life of which proxy.
        boot: BootId,
        /// To be proven against.
        challenge: Challenge,
    },
    /// Third message: the proxy knows the secret.
    Proof {
        /// Over both challenges.
        proof: Proof,
    },
    /// One session's activity, in the full state at the start of a link and at each change afterwards.
    Activity(Activity),
    /// The full state has been told: a session that was not in it was never used on this proxy.
    StateEnd,
    /// The session is fenced on this proxy: nothing is open, and nothing will be admitted.
    Fenced(FenceEcho),
    /// The fence was not installed: something is open, held, or was used too recently.
    Busy(FenceEcho),
    /// A request arrived after the fence.
    Knock(FenceEcho),
    /// An admitted request waits for an ended session whose template permits waking.
    Wake {
        /// Which session.
        session: SessionId,
        /// The ended generation that the proxy saw: a wake is answered once per generation.
        generation: Generation,
    },
    /// The proxy has no route for a session that it was asked for.
    Resolve {
        /// Which session.
        session: SessionId,
    },
    /// The first byte of a response went to a user of this generation.
    FirstByte {
        /// Which session.
        session: SessionId,
        /// Which run of it.
        generation: Generation,
    },
    /// The proxy stops, and has nothing open: it may be removed from the members.
    Goodbye,
    /// Nothing new; the link lives.
    Ping,
}

/// From a service replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromService {
    /// Second message: the replica knows the secret.
    Welcome {
        /// The version that both will speak.
        version: u32,
        /// Which replica; stable for the life of its process.
        replica: String,
        /// To be proven against.
        challenge: Challenge,
        /// Over both challenges.
        proof: Proof,
    },
    /// The link is refused; the reason is for the proxy's log.
    Refused {
        /// A sentence for an operator.
        detail: String,
    },
    /// A session's allocation, from placement on.
    Route(Route),
    /// The full state has been told.
    RoutesEnd,
    /// A generation is over: never route to it, or to an earlier one, again.
    Retract(Retract),
    /// Stop admitting requests to a generation, if nothing uses it.
    Fence(Fence),
    /// The attempt was given up: lift every fence of the session up to and including it. One of an earlier generation
    /// stands where that generation was stopped, and has done its work.
    Unfence(FenceEcho),
    /// The answer to a wake or a resolve that did not lead to a route.
    Outcome {
        /// Which session.
        session: SessionId,
        /// The newest generation known, if the session is known at all.
        generation: Option<Generation>,
        /// How far it has come.
        phase: Option<Phase>,
        /// Why it is over, or could not be started.
        reason: Option<Reason>,
    },
    /// Tickets of a session that were issued up to a time open nothing any more, and what they opened is cut. At the start
    /// of a link all that may still matter precede [`FromService::RoutesEnd`].
    Revoke {
        /// Which session.
        session: SessionId,
        /// Whose; `None`: everybody's.
        user: Option<String>,
        /// Tickets with `iat_ms` up to this are refused. Milliseconds of Unix time, by the issuers' clocks.
        until_ms: u64,
    },
    /// The goodbye was heard and the member removed.
    Farewell,
    /// Nothing new; the link lives.
    Ping,
}

/// How one session is used on one proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// Rises with each message of a boot; an older one never overwrites a newer.
    pub seq: u64,
    /// Which session.
    pub session: SessionId,
    /// The generation that was used last.
    pub generation: Option<Generation>,
    /// Requests, responses and connections that are open or held now.
    pub open: u32,
    /// Milliseconds since the last of them ended; 0 while any is open.
    pub idle_ms: u64,
    /// How many of those that are open are carriers: tunnels, and responses whose head is out. Told for sessions with a
    /// quiet timeout.
    #[serde(default)]
    pub carriers: u32,
    /// Milliseconds since a carrier's last application byte, or since the last use that was no carrier, whichever is
    /// later; 0 while anything other than a carrier is open; nothing for sessions without a quiet timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_ms: Option<u64>,
}

/// The order to fence one generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// Which session.
    pub session: SessionId,
    /// Which run of it.
    pub generation: Generation,
    /// Which attempt.
    pub tag: FenceTag,
    /// The fence is refused if the last use (`quiet`: the last application byte, too) is younger than this many
    /// milliseconds.
    pub min_idle_ms: u64,
    /// What it disregards.
    #[serde(default)]
    pub mode: FenceMode,
}

/// One attempt: in the answer to a fence, in a knock at it, and where it was given up. Whatever does not echo the current
/// attempt is ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceEcho {
    /// Which session.
    pub session: SessionId,
    /// Which run was fenced.
    pub generation: Generation,
    /// By which attempt.
    pub tag: FenceTag,
}

/// The end of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retract {
    /// Which session.
    pub session: SessionId,
    /// The last generation that is over.
    pub generation: Generation,
    /// Whether its allocation is known to be over, so that a successor may be started.
    pub ended: bool,
    /// Why.
    pub reason: Option<Reason>,
    /// Whether a request may wake it.
    pub wake: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_agreed_within_both_ranges() {
        assert_eq!(agree((1, 1)), Some(1));
        assert_eq!(agree((1, 9)), Some(1));
        assert_eq!(agree((2, 9)), None);
        assert_eq!(agree((0, 0)), None);
    }
}
