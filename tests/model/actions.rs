//! What can happen next, and what follows from it.

use std::time::Duration;

use bivouac_protocol::{FenceMode, FenceTag, Generation, Term};
use bivouac_proxy::activity::gate::{Entry, FenceAnswer, Fenced};
use bivouac_service::session::attempt::{Attempt, Echo, Input, Step};

use crate::world::{Commit, Fault, Link, Message, Phase, Request, World, boot};

/// One step of the world. `(proxy, replica)` names a link, `(proxy, request)` a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    // What replicas do.
    Lead(usize),
    BeginAttempt(usize, FenceMode),
    GiveUpWaiting(usize),
    NoticeDeposition(usize),
    ReadAfterRefusal(usize),
    // What the ledger and the network do to commits.
    AnswerCommit(Commit),
    ApplyCommitAndLoseAnswer(Commit),
    LoseCommit(Commit),
    AnswerLate(Commit),
    Depose,
    // Links.
    ToProxy(usize, usize),
    ToReplica(usize, usize),
    LoseLink(usize, usize),
    NoticeLostLink(usize, usize),
    Reconnect(usize, usize),
    // What proxies do.
    Join(usize),
    InstallFence(usize),
    LiftByRecord(usize),
    LosePatience(usize),
    Arrive(usize, usize),
    Admit(usize, usize),
    Complete(usize, usize),
    LookAgain(usize, usize),
    // What connections do that stay open.
    Carry(usize, usize),
    Bytes(usize, usize),
    Take(usize, usize),
    AskAgain(usize, usize),
    Cut(usize, usize),
    Leave(usize, usize),
    // What becomes of a stopped session.
    End,
    Wake,
}

pub(crate) const NOW: Duration = Duration::ZERO;

impl World {
    /// Whether nothing is on its way and nothing will happen by itself.
    pub(crate) fn is_quiet(&self, left_out: Option<Fault>) -> bool {
        let mut actions = Vec::new();
        self.inner(left_out, &mut actions);
        actions.is_empty()
    }

    pub(crate) fn possible(&self, left_out: Option<Fault>, actions: &mut Vec<Action>) {
        self.inner(left_out, actions);
        self.outer(left_out, actions);
    }

    /// What happens in the end if nobody interferes.
    fn inner(&self, left_out: Option<Fault>, actions: &mut Vec<Action>) {
        for (n, replica) in self.replicas.iter().enumerate() {
            let waiting = replica.attempt.as_ref().is_some_and(|attempt| !attempt.is_over());
            if waiting
                && replica.commit.as_ref().is_none_or(|commit| !self.commits.contains(commit))
                && !replica.reading
            {
                actions.push(Action::GiveUpWaiting(n));
            }
            if replica.term.is_some() && replica.term != self.lock {
                actions.push(Action::NoticeDeposition(n));
            }
            if replica.reading {
                actions.push(Action::ReadAfterRefusal(n));
            }
        }
        actions.extend(self.commits.iter().cloned().map(Action::AnswerCommit));
        for (p, links) in self.links.iter().enumerate() {
            for (r, link) in links.iter().enumerate() {
                if !link.to_proxy.is_empty() {
                    actions.push(Action::ToProxy(p, r));
                }
                if !link.to_replica.is_empty() {
                    actions.push(Action::ToReplica(p, r));
                }
                if link.unnoticed {
                    actions.push(Action::NoticeLostLink(p, r));
                }
                if link.down && !link.unnoticed {
                    actions.push(Action::Reconnect(p, r));
                }
            }
        }
        for (p, proxy) in self.proxies.iter().enumerate() {
            if proxy.installing.is_some() {
                actions.push(Action::InstallFence(p));
            }
            let lost = proxy.fenced_by.is_some_and(|(_, lost)| lost) && proxy.gate.fenced().is_some();
            let useful = self.record.phase != Phase::Stopping;
            if lost && useful && left_out != Some(Fault::LiftAfterLostLink) {
                actions.push(Action::LiftByRecord(p));
            }
            for (n, request) in proxy.requests.iter().enumerate() {
                if request.carries().is_some_and(|generation| self.is_over(generation)) {
                    actions.push(Action::Cut(p, n));
                }
                match request {
                    Request::Unborn | Request::Answered | Request::Carrying(_) => {}
                    Request::Read(_) => actions.push(Action::Arrive(p, n)),
                    Request::Entered if self.may_be_admitted(p, left_out) => {
                        actions.push(Action::Admit(p, n))
                    }
                    Request::Entered => {}
                    Request::Admitted(_) if self.left.has_carriers() => actions.push(Action::Carry(p, n)),
                    Request::Admitted(_) => actions.push(Action::Complete(p, n)),
                    Request::Moving(_) | Request::Slipped(_) => actions.push(Action::Take(p, n)),
                    Request::HeldBytes(_) if self.would_move(p) => actions.push(Action::AskAgain(p, n)),
                    Request::HeldBytes(_) => {}
                    Request::Held if self.would_move(p) => actions.push(Action::LookAgain(p, n)),
                    Request::Held => {}
                }
            }
        }
        match self.record.phase {
            Phase::Stopping => actions.push(Action::End),
            Phase::Ended if self.somebody_waits() => actions.push(Action::Wake),
            _ => {}
        }
    }

    /// What somebody, or bad luck, does to it.
    fn outer(&self, left_out: Option<Fault>, actions: &mut Vec<Action>) {
        for (n, replica) in self.replicas.iter().enumerate() {
            if self.lock.is_none() && replica.term.is_none() && self.terms < 2 {
                actions.push(Action::Lead(n));
            }
            let free = replica.attempt.is_none() && replica.term.is_some();
            if free && self.left.attempts > 0 && self.record.phase == Phase::Running {
                actions.extend(self.left.modes.iter().map(|mode| Action::BeginAttempt(n, *mode)));
            }
        }
        if self.lock.is_some() && self.left.depositions > 0 {
            actions.push(Action::Depose);
        }
        if self.left.lost_answers > 0 {
            for commit in &self.commits {
                actions.push(Action::ApplyCommitAndLoseAnswer(commit.clone()));
                actions.push(Action::LoseCommit(commit.clone()));
                actions.push(Action::AnswerLate(commit.clone()));
            }
        }
        for (p, links) in self.links.iter().enumerate() {
            for (r, link) in links.iter().enumerate() {
                if !link.down && self.left.lost_links > 0 {
                    actions.push(Action::LoseLink(p, r));
                }
            }
        }
        for (p, proxy) in self.proxies.iter().enumerate() {
            if !proxy.joined {
                actions.push(Action::Join(p));
            }
            // Whoever waits at a fence for too long makes the stop impossible; what is too long, nobody knows.
            if self.left.impatience > 0 && proxy.gate.waiting() > 0 && self.record.phase == Phase::Running {
                actions.push(Action::LosePatience(p));
            }
            // Requests come before they are counted, and so, without the guard first, before the proxy has joined.
            let reads_first = left_out == Some(Fault::GuardFirst);
            for (n, request) in proxy.requests.iter().enumerate() {
                match request {
                    Request::Unborn if proxy.joined || reads_first => actions.push(Action::Arrive(p, n)),
                    Request::Carrying(_) => {
                        actions.push(Action::Leave(p, n));
                        if self.left.bytes > 0 {
                            actions.push(Action::Bytes(p, n));
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn somebody_waits(&self) -> bool {
        self.requests().any(|request| matches!(request, Request::Held | Request::Entered))
    }

    /// A held request moves on when the fence is gone, or the record says that the fenced generation is over.
    fn would_move(&self, p: usize) -> bool {
        self.proxies[p].gate.fenced().is_none_or(|fenced| self.is_over(fenced.generation))
    }

    fn is_over(&self, generation: Generation) -> bool {
        self.record.generation > generation
            || (self.record.generation == generation && self.record.phase == Phase::Ended)
    }

    fn may_be_admitted(&self, p: usize, left_out: Option<Fault>) -> bool {
        let proxy = &self.proxies[p];
        let known = proxy.route.is_some_and(|route| {
            proxy.gate.is_confirmed(route) || left_out == Some(Fault::ReadBeforeFirstAdmission)
        });
        known || self.record.phase == Phase::Running
    }

    pub(crate) fn perform(&mut self, left_out: Option<Fault>, action: Action) {
        match action {
            Action::Lead(r) => {
                self.terms += 1;
                self.lock = Some(Term(self.terms));
                self.replicas[r].term = self.lock;
            }
            Action::BeginAttempt(r, mode) => self.begin_attempt(r, mode, left_out),
            Action::GiveUpWaiting(r) => self.tell(r, Input::Late, left_out),
            Action::NoticeDeposition(r) => {
                self.replicas[r].term = None;
                self.tell(r, Input::Lost, left_out);
            }
            Action::ReadAfterRefusal(r) => {
                self.replicas[r].reading = false;
                let read = Some((self.record.generation, phase(self.record.phase)));
                self.tell(r, Input::Record(read), left_out);
            }
            Action::AnswerCommit(commit) => {
                self.commits.remove(&commit);
                let applied = self.apply(&commit, left_out);
                self.answer(&commit, if applied { Input::Applied } else { Input::Refused }, left_out);
            }
            Action::ApplyCommitAndLoseAnswer(commit) => {
                self.left.lost_answers -= 1;
                self.commits.remove(&commit);
                self.apply(&commit, left_out);
                self.answer(&commit, Input::Unanswered, left_out);
            }
            Action::LoseCommit(commit) => {
                self.left.lost_answers -= 1;
                self.commits.remove(&commit);
                self.answer(&commit, Input::Unanswered, left_out);
            }
            // An earlier copy is still on its way when the next one has been answered: the order of the two is free.
            Action::AnswerLate(commit) => {
                self.left.lost_answers -= 1;
                let applied = self.apply(&commit, left_out);
                self.answer(&commit, if applied { Input::Applied } else { Input::Refused }, left_out);
            }
            Action::Depose => {
                self.left.depositions -= 1;
                self.lock = None;
            }
            Action::ToProxy(p, r) => {
                let message = self.links[p][r].to_proxy.remove(0);
                self.proxy_hears(p, r, message, left_out);
            }
            Action::ToReplica(p, r) => {
                let message = self.links[p][r].to_replica.remove(0);
                self.replica_hears(p, r, message, left_out);
            }
            Action::LoseLink(p, r) => {
                self.left.lost_links -= 1;
                self.links[p][r] = Link { down: true, unnoticed: true, ..Link::default() };
                if let Some((by, lost)) = &mut self.proxies[p].fenced_by {
                    *lost |= *by == r;
                }
            }
            Action::NoticeLostLink(p, r) => {
                self.links[p][r].unnoticed = false;
                self.tell(r, Input::Lost, left_out);
            }
            Action::Reconnect(p, r) => {
                self.links[p][r].down = false;
                if left_out == Some(Fault::LostEvenOnce)
                    && let Some((by, lost)) = &mut self.proxies[p].fenced_by
                    && *by == r
                {
                    *lost = false;
                }
            }
            Action::Join(p) => {
                self.proxies[p].joined = true;
                self.members.insert(p);
                self.members_index += 1;
            }
            Action::InstallFence(p) => {
                if let Some((order, mode)) = self.proxies[p].installing.take() {
                    self.proxies[p].gate.fence(order, mode, Duration::ZERO, NOW);
                }
            }
            Action::LiftByRecord(p) => self.lift_by_record(p),
            Action::LosePatience(p) => {
                self.left.impatience -= 1;
                self.lift_by_record(p);
            }
            Action::Arrive(p, n) => self.arrive(p, n, left_out),
            Action::Admit(p, n) => self.admit(p, n, left_out),
            Action::Complete(p, n) => {
                self.proxies[p].gate.leave(NOW);
                self.proxies[p].requests[n] = Request::Answered;
            }
            Action::LookAgain(p, n) => {
                self.hear_of_the_end(p);
                self.proxies[p].gate.stop_waiting();
                self.arrive(p, n, left_out);
            }
            Action::Carry(p, n) => self.carry(p, n),
            Action::Bytes(p, n) => self.bytes(p, n, left_out),
            Action::Take(p, n) => self.take(p, n),
            Action::AskAgain(p, n) => self.ask_again(p, n, left_out),
            Action::Cut(p, n) => self.cut(p, n),
            Action::Leave(p, n) => self.leave(p, n),
            Action::End => {
                self.record.phase = Phase::Ended;
                self.record.revision += 1;
            }
            Action::Wake => {
                self.record.phase = Phase::Running;
                self.record.generation = Generation(self.record.generation.0 + 1);
                self.record.revision += 1;
            }
        }
    }

    fn begin_attempt(&mut self, r: usize, mode: FenceMode, left_out: Option<Fault>) {
        self.left.attempts -= 1;
        self.attempts += 1;
        let Some(term) = self.replicas[r].term else { return };
        let tag = FenceTag { term, attempt: self.attempts };
        let generation = self.record.generation;
        self.replicas[r].commit = Some(Commit {
            replica: r,
            tag,
            idle: mode == FenceMode::Idle,
            generation,
            members_index: self.members_index,
            revision: self.record.revision,
        });
        let members = self.members.iter().map(|&p| boot(p)).collect();
        let (attempt, step) = Attempt::begin(tag, generation, members);
        self.replicas[r].attempt = Some(attempt);
        for p in self.members.clone() {
            self.send(p, r, Message::Fence(Fenced { tag, generation }, mode));
        }
        self.take_step(r, step, left_out);
    }

    fn send(&mut self, p: usize, r: usize, message: Message) {
        let link = &mut self.links[p][r];
        if !link.down {
            link.to_proxy.push(message);
        }
    }

    pub(crate) fn reply(&mut self, p: usize, r: usize, message: Message) {
        let link = &mut self.links[p][r];
        if !link.down {
            link.to_replica.push(message);
        }
    }

    /// Gives the replica's attempt its input and does what it says.
    fn tell(&mut self, r: usize, input: Input<'_>, left_out: Option<Fault>) {
        if let Some(step) = self.replicas[r].attempt.as_mut().map(|attempt| attempt.on(input)) {
            self.take_step(r, step, left_out);
        }
    }

    fn answer(&mut self, commit: &Commit, input: Input<'_>, left_out: Option<Fault>) {
        let current = self.replicas[commit.replica].attempt.as_ref().map(Attempt::tag);
        if current == Some(commit.tag) {
            self.tell(commit.replica, input, left_out);
        }
    }

    fn take_step(&mut self, r: usize, step: Step, left_out: Option<Fault>) {
        match step {
            Step::Wait => {}
            Step::Commit => self.commits.extend(self.replicas[r].commit.clone()),
            Step::Read if left_out == Some(Fault::ReadOnRefusal) => {
                let running = self.replicas[r]
                    .attempt
                    .as_ref()
                    .map(|a| (a.generation(), bivouac_protocol::Phase::Running));
                self.tell(r, Input::Record(running), left_out);
            }
            Step::Read => self.replicas[r].reading = true,
            Step::GiveUp => {
                if let Some(attempt) = self.replicas[r].attempt.take() {
                    for p in 0..self.proxies.len() {
                        self.send(
                            p,
                            r,
                            Message::Unfence(Fenced { tag: attempt.tag(), generation: attempt.generation() }),
                        );
                    }
                }
                self.replicas[r].commit = None;
            }
            Step::Done => {
                self.replicas[r].attempt = None;
                self.replicas[r].commit = None;
            }
        }
    }

    /// The ledger's part of a commit.
    fn apply(&mut self, commit: &Commit, left_out: Option<Fault>) -> bool {
        let skipped = |fault| left_out == Some(fault);
        let leads = skipped(Fault::LockCheck) || self.lock == Some(commit.tag.term);
        let same_members = skipped(Fault::MembersCheck) || self.members_index == commit.members_index;
        let same_record = if skipped(Fault::RecordCheck) {
            self.record.phase == Phase::Running && self.record.generation == commit.generation
        } else {
            self.record.revision == commit.revision
        };
        if !(leads && same_members && same_record) {
            return false;
        }
        let fenced =
            |p: &usize| self.proxies[*p].gate.fenced().is_some_and(|fenced| fenced.tag == commit.tag);
        self.unfenced_commit |= !self.members.iter().all(fenced);
        let open = self.requests().any(|request| request.carries() == Some(commit.generation));
        self.cut_for_idleness |= open && commit.idle;
        self.stopped_for_silence |= open && !commit.idle;
        self.record.phase = Phase::Stopping;
        self.record.revision += 1;
        true
    }

    fn proxy_hears(&mut self, p: usize, r: usize, message: Message, left_out: Option<Fault>) {
        match message {
            Message::Fence(order, mode)
                if matches!(left_out, Some(Fault::OneWord | Fault::CarriersInTheWord)) =>
            {
                let proxy = &mut self.proxies[p];
                let regarded = match mode {
                    FenceMode::Idle => proxy.gate.open(),
                    FenceMode::Quiet => proxy.gate.open() - proxy.gate.carriers(),
                };
                if regarded == 0 {
                    proxy.installing = Some((order, mode));
                    proxy.fenced_by = Some((r, false));
                    self.reply(p, r, Message::Fenced(order));
                } else {
                    self.reply(p, r, Message::Busy(order));
                }
            }
            Message::Fence(order, mode) => {
                let mode = if left_out == Some(Fault::ModeOfTheOrder) { FenceMode::Quiet } else { mode };
                match self.proxies[p].gate.fence(order, mode, Duration::ZERO, NOW) {
                    FenceAnswer::Fenced => {
                        self.proxies[p].fenced_by = Some((r, false));
                        self.reply(p, r, Message::Fenced(order));
                    }
                    FenceAnswer::Busy => self.reply(p, r, Message::Busy(order)),
                    FenceAnswer::Stale => {}
                }
            }
            Message::Unfence(_) if left_out == Some(Fault::FenceOrder) => {
                if let Some(fenced) = self.proxies[p].gate.fenced() {
                    self.proxies[p].gate.unfence(fenced);
                }
            }
            Message::Unfence(order) if left_out == Some(Fault::UnfenceNamesItsGeneration) => {
                self.proxies[p].gate.unfence(Fenced { generation: Generation(1), ..order });
            }
            Message::Unfence(order) => {
                self.proxies[p].gate.unfence(order);
            }
            Message::Fenced(_) | Message::Busy(_) | Message::Knock(_) => {}
        }
    }

    fn replica_hears(&mut self, p: usize, r: usize, message: Message, left_out: Option<Fault>) {
        let current = self.replicas[r].attempt.as_ref().map(|attempt| (attempt.generation(), attempt.tag()));
        let echo = |fenced: Fenced| match current {
            Some((generation, tag)) if left_out == Some(Fault::Echo) => Echo { generation, tag },
            _ => Echo { generation: fenced.generation, tag: fenced.tag },
        };
        match message {
            Message::Fenced(fenced) => self.tell(r, Input::Fenced(&boot(p), echo(fenced)), left_out),
            Message::Busy(fenced) => self.tell(r, Input::Busy(echo(fenced)), left_out),
            Message::Knock(fenced) => {
                let attempting = self.replicas[r].attempt.is_some();
                self.tell(r, Input::Knock(echo(fenced)), left_out);
                let saved = attempting && self.replicas[r].attempt.is_none();
                let held = |request: &Request| matches!(request, Request::HeldBytes(_));
                self.saved_by_a_knock |= saved;
                self.saved_by_bytes |= saved && self.proxies[p].requests.iter().any(held);
            }
            Message::Fence(..) | Message::Unfence(_) => {}
        }
    }

    fn lift_by_record(&mut self, p: usize) {
        let Some(fenced) = self.proxies[p].gate.fenced() else { return };
        if self.is_over(fenced.generation) {
            self.retract(p, fenced.generation);
        } else if self.record.phase == Phase::Running && self.record.generation == fenced.generation {
            self.record.revision += 1;
            self.proxies[p].gate.lift(fenced.tag);
        }
    }

    /// Whoever waits at a fence reads the record, which may say that the fenced generation is over.
    pub(crate) fn hear_of_the_end(&mut self, p: usize) {
        if let Some(fenced) = self.proxies[p].gate.fenced()
            && self.is_over(fenced.generation)
        {
            self.retract(p, fenced.generation);
        }
    }

    fn retract(&mut self, p: usize, generation: Generation) {
        let proxy = &mut self.proxies[p];
        proxy.gate.retract(generation);
        proxy.route.take_if(|route| *route <= generation);
    }

    fn arrive(&mut self, p: usize, n: usize, left_out: Option<Fault>) {
        let request = self.proxies[p].requests[n];
        if left_out == Some(Fault::GuardFirst) && request == Request::Unborn {
            if self.record.phase == Phase::Running {
                self.proxies[p].requests[n] = Request::Read(self.record.generation);
            }
            return;
        }
        if !self.proxies[p].joined {
            return;
        }
        match self.proxies[p].gate.enter() {
            Entry::Entered => {
                self.proxies[p].requests[n] = match request {
                    Request::Read(generation) => Request::Admitted(generation),
                    _ => Request::Entered,
                }
            }
            Entry::Held(fenced) => {
                self.proxies[p].requests[n] = Request::Held;
                if let Some((r, _)) = self.proxies[p].fenced_by {
                    self.reply(p, r, Message::Knock(fenced));
                }
            }
        }
    }

    fn admit(&mut self, p: usize, n: usize, left_out: Option<Fault>) {
        let proxy = &mut self.proxies[p];
        let believed = |route: &Generation| {
            proxy.gate.is_confirmed(*route) || left_out == Some(Fault::ReadBeforeFirstAdmission)
        };
        if let Some(route) = proxy.route.filter(believed) {
            proxy.requests[n] = Request::Admitted(route);
            return;
        }
        // The first admission of a generation reads the record; the request is counted already.
        if self.record.phase == Phase::Running {
            proxy.gate.confirm(self.record.generation);
            proxy.route = Some(self.record.generation);
            proxy.requests[n] = Request::Admitted(self.record.generation);
        }
    }
}

fn phase(phase: Phase) -> bivouac_protocol::Phase {
    match phase {
        Phase::Running => bivouac_protocol::Phase::Running,
        Phase::Stopping => bivouac_protocol::Phase::Stopping,
        Phase::Ended => bivouac_protocol::Phase::Ended,
    }
}
