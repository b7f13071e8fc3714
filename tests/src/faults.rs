//! A TCP proxy that misbehaves on demand. It stands in front of real agents, so that faults on the wire meet the real
//! thing behind it.
//!
//! It passes bytes, and can be told at any time to refuse, to swallow, to delay, to cut what is open, or to do
//! something to one particular request: hold it back, drop it, or forward it and lose the answer (a write whose outcome
//! is unknown).

mod pipe;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use wire::Wire;

/// How connections fare in general.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    Refuse,
    Blackhole,
    Delay(Duration),
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// Forward it, then cut the connection instead of answering.
    LoseAnswer,
    /// Cut the connection instead of forwarding it.
    Drop,
    /// Forward it once it is released.
    Hold,
}

/// A request that was singled out, and what became of it.
#[derive(Debug)]
struct Rule {
    pattern: String,
    skip: usize,
    action: Action,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Waiting,
    Arrived,
    Released,
    Done,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    /// Where both ends speak TLS.
    wire: Option<Wire>,
    mode: watch::Sender<Mode>,
    /// Cancelled to cut everything that is open now; replaced by a fresh one.
    open: Mutex<CancellationToken>,
    rules: Mutex<Vec<Arc<Rule>>>,
}

/// The proxy. It stops when the last handle is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

/// One request that is about to be hit by a fault.
#[derive(Debug)]
pub struct Caught {
    rule: Arc<Rule>,
}

impl FaultProxy {
    /// Listens on a free port of 127.0.0.1 and passes everything on to `target`.
    ///
    /// # Panics
    /// When no port can be bound.
    pub async fn in_front_of(target: SocketAddr) -> Self {
        Self::on_a_wire(target, None).await
    }

    /// The same, with TLS towards both ends if there is a wire for it.
    ///
    /// # Panics
    /// When no port can be bound.
    pub async fn on_a_wire(target: SocketAddr, wire: Option<Wire>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for the fault proxy");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            target,
            wire,
            mode: watch::Sender::new(Mode::Pass),
            open: Mutex::default(),
            rules: Mutex::default(),
        });
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, shared.clone())));
        Self { address, shared, stop }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes everything again; what was swallowed stays lost.
    pub fn heal(&self) {
        let swallowed = *self.shared.mode.borrow() == Mode::Blackhole;
        self.shared.mode.send_replace(Mode::Pass);
        if swallowed {
            // Bytes are missing in the middle of what is open: TCP would have retransmitted them, we cannot.
            self.cut();
        }
    }

    /// Cuts what is open; new connections pass.
    pub fn cut(&self) {
        std::mem::take(&mut *self.shared.open.lock()).cancel();
    }

    /// Cuts what is open and refuses what comes.
    pub fn refuse(&self) {
        self.shared.mode.send_replace(Mode::Refuse);
        self.cut();
    }

    /// Accepts, and swallows every byte in both directions: a network that drops packets.
    pub fn blackhole(&self) {
        self.shared.mode.send_replace(Mode::Blackhole);
    }

    /// Passes each chunk of bytes this much later.
    pub fn delay(&self, by: Duration) {
        self.shared.mode.send_replace(Mode::Delay(by));
    }

    /// Forwards the next request whose first line and headers contain `pattern` and cuts the connection instead of
    /// passing on the answer.
    pub fn lose_answer(&self, pattern: &str) -> Caught {
        self.rule(pattern, 0, Action::LoseAnswer)
    }

    /// The same with the `nth` such request from now, counted from 1.
    pub fn lose_nth_answer(&self, pattern: &str, nth: usize) -> Caught {
        self.rule(pattern, nth.saturating_sub(1), Action::LoseAnswer)
    }

    /// Cuts the connection instead of forwarding the next such request.
    pub fn drop_request(&self, pattern: &str) -> Caught {
        self.rule(pattern, 0, Action::Drop)
    }

    /// Holds the next such request back until it is released.
    pub fn hold(&self, pattern: &str) -> Caught {
        self.rule(pattern, 0, Action::Hold)
    }

    fn rule(&self, pattern: &str, skip: usize, action: Action) -> Caught {
        let progress = watch::Sender::new(Progress::Waiting);
        let rule = Arc::new(Rule { pattern: pattern.to_owned(), skip, action, progress });
        self.shared.rules.lock().push(rule.clone());
        Caught { rule }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.stop.cancel();
        self.cut();
    }
}

impl Caught {
    /// Waits until the request has arrived at the fault proxy.
    ///
    /// # Panics
    /// When it does not come within 30 seconds.
    pub async fn arrived(&self) {
        self.reaches(Progress::Arrived).await;
    }

    /// Waits until the fault has happened: the answer was lost, or the request dropped or passed on.
    ///
    /// # Panics
    /// When it does not happen within 30 seconds.
    pub async fn done(&self) {
        self.reaches(Progress::Done).await;
    }

    /// Lets a held request go on.
    pub fn release(&self) {
        self.rule.progress.send_modify(|progress| *progress = (*progress).max(Progress::Released));
    }

    async fn reaches(&self, wanted: Progress) {
        let mut progress = self.rule.progress.subscribe();
        let reached = progress.wait_for(|now| *now >= wanted);
        let pattern = &self.rule.pattern;
        let _ = tokio::time::timeout(Duration::from_secs(30), reached)
            .await
            .unwrap_or_else(|_| panic!("no request with {pattern:?} came to {wanted:?} within 30 s"));
    }
}

impl Shared {
    /// The rule that this head of a request triggers, if any; each rule triggers once.
    fn triggered(&self, head: &[u8]) -> Option<Arc<Rule>> {
        let head = String::from_utf8_lossy(head);
        let mut rules = self.rules.lock();
        let at = rules.iter().position(|rule| head.contains(&rule.pattern))?;
        if rules[at].skip > 0 {
            let rule = &rules[at];
            let fewer = Rule {
                pattern: rule.pattern.clone(),
                skip: rule.skip - 1,
                action: rule.action,
                progress: rule.progress.clone(),
            };
            rules[at] = Arc::new(fewer);
            return None;
        }
        let rule = rules.remove(at);
        rule.progress.send_replace(Progress::Arrived);
        Some(rule)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let shared = shared.clone();
        let open = shared.open.lock().child_token();
        tokio::spawn(async move {
            open.run_until_cancelled(serve(client, &shared)).await;
        });
    }
}

async fn serve(client: TcpStream, shared: &Shared) {
    if *shared.mode.borrow() == Mode::Refuse {
        // As close to "connection refused" as an accepted connection comes: a reset without a byte.
        let _ = client.set_zero_linger();
        return;
    }
    let _ = client.set_nodelay(true);
    match TcpStream::connect(shared.target).await {
        Ok(server) => {
            let _ = server.set_nodelay(true);
            drop(pass(client, server, shared).await);
        }
        Err(_) => {
            let _ = client.set_zero_linger();
        }
    }
}

/// Passes one connection. A fault looks as abrupt as a broken network: a reset, and not TLS's farewell.
async fn pass(client: TcpStream, server: TcpStream, shared: &Shared) -> std::io::Result<()> {
    match &shared.wire {
        None => {
            let (mut client, mut server) = (client, server);
            if pipe::both(&mut client, &mut server, shared).await {
                client.set_zero_linger()?;
            }
        }
        Some(_) if *shared.mode.borrow() == Mode::Blackhole => {
            let mut mode = shared.mode.subscribe();
            let _ = mode.wait_for(|mode| *mode != Mode::Blackhole).await;
        }
        Some(wire) => {
            let (mut client, mut server) = tokio::try_join!(wire.accept(client), wire.connect(server))?;
            if pipe::both(&mut client, &mut server, shared).await {
                client.get_ref().0.set_zero_linger()?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
