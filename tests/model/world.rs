//! The state of the modelled world.

use std::collections::BTreeSet;

use bivouac_protocol::{BootId, FenceMode, FenceTag, Generation, Term};
use bivouac_proxy::activity::gate::{Fenced, Gate};
use bivouac_service::session::attempt::Attempt;

/// How much may happen: what is explored is everything within these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Bounds {
    /// Proxies; the last of two joins while the others run.
    pub(crate) proxies: usize,
    /// Replicas of the service.
    pub(crate) replicas: usize,
    /// Requests of each proxy.
    pub(crate) requests: usize,
    /// Attempts of all replicas together.
    pub(crate) attempts: u8,
    /// Of which modes they are.
    pub(crate) modes: &'static [FenceMode],
    /// How often application bytes come on a connection that stays open. With none, requests are answered and over.
    pub(crate) bytes: u8,
    /// How often the lock is taken from its holder, who does not know.
    pub(crate) depositions: u8,
    /// How often a link is lost.
    pub(crate) lost_links: u8,
    /// How often a commit's answer, or the commit, is lost or late.
    pub(crate) lost_answers: u8,
    /// How often a proxy loses patience with a stop that does not get on.
    pub(crate) impatience: u8,
}

impl Bounds {
    /// Small enough for every test run.
    pub(crate) const SMALL: Self = Self {
        proxies: 2,
        replicas: 2,
        requests: 1,
        attempts: 2,
        modes: &[FenceMode::Idle],
        bytes: 0,
        depositions: 1,
        lost_links: 1,
        lost_answers: 1,
        impatience: 1,
    };

    /// The same with connections that stay open, and stops that disregard those that are silent.
    pub(crate) const QUIET: Self = Self { modes: &[FenceMode::Quiet], bytes: 2, ..Self::SMALL };

    /// Whether requests stay open once they are answered, and bytes come.
    pub(crate) fn has_carriers(&self) -> bool {
        self.bytes > 0 || self.modes.contains(&FenceMode::Quiet)
    }
}

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Whatever a proxy answers counts, of whichever attempt.
    Echo,
    /// The commit does not check who leads.
    LockCheck,
    /// The commit does not check who the members are.
    MembersCheck,
    /// The commit does not check the record's revision.
    RecordCheck,
    /// A proxy that lost its link waits for an Unfence that may never come.
    LiftAfterLostLink,
    /// A link that is back counts as one that was never lost.
    LostEvenOnce,
    /// A refused commit is believed without a look at the record.
    ReadOnRefusal,
    /// An Unfence lifts any fence, also a newer one.
    FenceOrder,
    /// The proxy looks whether something is open, and installs the fence a moment later.
    OneWord,
    /// The proxy reads the record first and counts the request afterwards.
    GuardFirst,
    /// A route that was pushed is believed without a look at the record.
    ReadBeforeFirstAdmission,
    /// An Unfence does not say of which generation its attempt was, so that earlier ones are over.
    UnfenceNamesItsGeneration,
    /// A carrier's bytes pass without asking whether there is a fence.
    BytesAsk,
    /// The proxy looks whether any carrier has bytes under way, and installs the fence a moment later.
    CarriersInTheWord,
    /// Bytes count as long as it takes to pass them, and not until they are taken.
    BytesUntilTaken,
    /// Every fence disregards carriers, whichever mode its order names.
    ModeOfTheOrder,
    /// Bytes that were held go on to their backend whatever became of it.
    HeldBytesAskAgain,
}

impl Fault {
    pub(crate) const ALL: [Self; 17] = [
        Self::Echo,
        Self::LockCheck,
        Self::MembersCheck,
        Self::RecordCheck,
        Self::LiftAfterLostLink,
        Self::LostEvenOnce,
        Self::ReadOnRefusal,
        Self::FenceOrder,
        Self::OneWord,
        Self::GuardFirst,
        Self::ReadBeforeFirstAdmission,
        Self::UnfenceNamesItsGeneration,
        Self::BytesAsk,
        Self::CarriersInTheWord,
        Self::BytesUntilTaken,
        Self::ModeOfTheOrder,
        Self::HeldBytesAskAgain,
    ];
}

/// The record's phase; a claim is over in an instant here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    Running,
    Stopping,
    Ended,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) generation: Generation,
    pub(crate) phase: Phase,
    pub(crate) revision: u8,
}

/// One request of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Request {
    Unborn,
    /// (Only where the guard does not come first) it has read that this generation runs.
    Read(Generation),
    /// Counted; not admitted yet.
    Entered,
    /// Forwarded to this generation; must complete before it is stopped.
    Admitted(Generation),
    /// Its answer has begun and goes on, for ever if nobody ends it: an upgraded connection, or a stream.
    Carrying(Generation),
    /// The same, with bytes that were passed and not taken yet: they must be before it is stopped.
    Moving(Generation),
    /// (Only where a rule is missing) the same, but the gate does not know of those bytes.
    Slipped(Generation),
    /// The same, with bytes that wait behind a fence.
    HeldBytes(Generation),
    /// Waits behind a fence.
    Held,
    /// Answered, or told why not.
    Answered,
}

impl Request {
    /// The generation that must not be stopped under it.
    fn needs(self) -> Option<Generation> {
        match self {
            Self::Admitted(generation) | Self::Moving(generation) | Self::Slipped(generation) => {
                Some(generation)
            }
            _ => None,
        }
    }

    /// The generation to which its connection is open, if it stays so.
    pub(crate) fn carries(self) -> Option<Generation> {
        match self {
            Self::Carrying(generation)
            | Self::Moving(generation)
            | Self::Slipped(generation)
            | Self::HeldBytes(generation) => Some(generation),
            _ => None,
        }
    }
}

/// A message on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Message {
    Fence(Fenced, FenceMode),
    Unfence(Fenced),
    Fenced(Fenced),
    Busy(Fenced),
    Knock(Fenced),
}

/// The link between one proxy and one replica: in order, until it breaks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Link {
    pub(crate) down: bool,
    /// The replica has not noticed yet that the link broke.
    pub(crate) unnoticed: bool,
    pub(crate) to_proxy: Vec<Message>,
    pub(crate) to_replica: Vec<Message>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Proxy {
    pub(crate) joined: bool,
    pub(crate) gate: Gate,
    pub(crate) requests: Vec<Request>,
    /// The replica that sent the fence, and whether its link was lost since.
    pub(crate) fenced_by: Option<(usize, bool)>,
    /// (Only where guard and fence are not one word) a fence that was answered and is not installed yet.
    pub(crate) installing: Option<(Fenced, FenceMode)>,
    /// A route that some replica has pushed.
    pub(crate) route: Option<Generation>,
}

/// A commit on its way to the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Commit {
    pub(crate) replica: usize,
    pub(crate) tag: FenceTag,
    pub(crate) idle: bool,
    pub(crate) generation: Generation,
    pub(crate) members_index: u8,
    pub(crate) revision: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Replica {
    /// The leadership that it believes in.
    pub(crate) term: Option<Term>,
    pub(crate) attempt: Option<Attempt>,
    /// The attempt's transaction.
    pub(crate) commit: Option<Commit>,
    /// A read after a refusal is due.
    pub(crate) reading: bool,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) left: Bounds,
    pub(crate) record: Record,
    pub(crate) members: BTreeSet<usize>,
    pub(crate) members_index: u8,
    pub(crate) lock: Option<Term>,
    pub(crate) terms: u64,
    pub(crate) attempts: u64,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) proxies: Vec<Proxy>,
    /// `links[proxy][replica]`
    pub(crate) links: Vec<Vec<Link>>,
    /// Commits that the ledger has not seen yet.
    pub(crate) commits: BTreeSet<Commit>,
    pub(crate) unfenced_commit: bool,
    /// Somebody was cut off, or will be, for idleness.
    pub(crate) cut_for_idleness: bool,
    /// A session was stopped under a connection that was open.
    pub(crate) stopped_for_silence: bool,
    pub(crate) saved_by_a_knock: bool,
    /// It was bytes that knocked.
    pub(crate) saved_by_bytes: bool,
}

pub(crate) fn boot(proxy: usize) -> BootId {
    format!("p{proxy}").parse().unwrap()
}

impl World {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let proxy = |n: usize| Proxy {
            // Of two proxies the second joins later; whatever it was pushed before is stale by then.
            joined: n == 0,
            gate: Gate::default(),
            requests: vec![Request::Unborn; bounds.requests],
            fenced_by: None,
            installing: None,
            route: Some(Generation(1)),
        };
        Self {
            left: bounds,
            record: Record { generation: Generation(1), phase: Phase::Running, revision: 1 },
            members: [0].into(),
            members_index: 1,
            lock: None,
            terms: 0,
            attempts: 0,
            replicas: vec![Replica::default(); bounds.replicas],
            proxies: (0..bounds.proxies).map(proxy).collect(),
            links: vec![vec![Link::default(); bounds.replicas]; bounds.proxies],
            commits: BTreeSet::new(),
            unfenced_commit: false,
            cut_for_idleness: false,
            stopped_for_silence: false,
            saved_by_a_knock: false,
            saved_by_bytes: false,
        }
    }

    pub(crate) fn requests(&self) -> impl Iterator<Item = Request> + '_ {
        self.proxies.iter().flat_map(|proxy| proxy.requests.iter().copied())
    }

    /// Whether the generation that runs is fenced somewhere. (A fence of one that is over is lifted by the first
    /// request that looks.)
    pub(crate) fn fences_a_running_session(&self) -> bool {
        let fenced = |generation| self.record.phase == Phase::Running && self.record.generation == generation;
        self.proxies.iter().filter_map(|proxy| proxy.gate.fenced()).any(|fence| fenced(fence.generation))
    }

    pub(crate) fn cuts_an_admitted_request(&self) -> bool {
        let live = (self.record.phase == Phase::Running).then_some(self.record.generation);
        self.requests().filter_map(Request::needs).any(|generation| Some(generation) != live)
    }

    /// Whether nobody waits for anything: everybody was answered, or talks to the generation that runs.
    pub(crate) fn keeps_nobody_waiting(&self) -> bool {
        let live = (self.record.phase == Phase::Running).then_some(self.record.generation);
        self.requests().all(|request| match request {
            Request::Answered | Request::Unborn => true,
            Request::Carrying(generation) => Some(generation) == live,
            _ => false,
        })
    }
}
