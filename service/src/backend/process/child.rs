//! One child from its start to its end.

use std::future::pending;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;
use tokio::sync::watch;

use crate::backend::{Grace, Outcome};

/// Waits for a child, and is the only one to signal it: a process id is safe to use only while whoever uses it knows
/// that the process was not waited for yet.
#[derive(Debug)]
pub(super) struct Watcher {
    /// Dropped first: the whole group is killed, then its leader is waited for.
    group: Group,
    child: Child,
    asked: watch::Receiver<Option<Grace>>,
    grace: Duration,
}

/// How a child ended.
#[derive(Debug)]
pub(super) struct Ended {
    status: io::Result<ExitStatus>,
    stopped: bool,
}

/// A process group, killed when this is dropped.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        // All that can go wrong is that nobody is left.
        let _gone = self.0.map(|leader| kill_process_group(leader, signal));
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

impl Watcher {
    /// Watches a child that leads a group of its own. `asked` says whether, and how, it is to be stopped.
    pub(super) fn new(child: Child, asked: watch::Receiver<Option<Grace>>, grace: Duration) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { group: Group(leader), child, asked, grace }
    }

    /// Returns when the child is over. What it started and left behind is killed.
    pub(super) async fn run(mut self) -> Ended {
        let status = self.outlive().await;
        // Right after its leader was waited for, the group's number has not come round again.
        self.group.signal(Signal::KILL);
        self.group.0 = None;
        Ended { status, stopped: self.asked.borrow().is_some() }
    }

    async fn outlive(&mut self) -> io::Result<ExitStatus> {
        tokio::select! {
            status = self.child.wait() => return status,
            () = asked(&mut self.asked, |_| true) => {}
        }
        if *self.asked.borrow() == Some(Grace::Template) {
            self.group.signal(Signal::TERM);
            tokio::select! {
                status = self.child.wait() => return status,
                () = asked(&mut self.asked, |grace| grace == Grace::None) => {}
                () = tokio::time::sleep(self.grace) => {}
            }
        }
        self.group.signal(Signal::KILL);
        self.child.wait().await
    }
}

async fn asked(orders: &mut watch::Receiver<Option<Grace>>, wanted: impl Fn(Grace) -> bool) {
    if orders.wait_for(|order| order.is_some_and(&wanted)).await.is_err() {
        // Nobody can ask any more; the backend is being dropped, and this with it.
        pending::<()>().await;
    }
}

impl Ended {
    /// As it is reported.
    pub(super) fn outcome(self) -> Outcome {
        let status = match self.status {
            Ok(status) => status,
            Err(error) => {
                let detail = Some(format!("its end could not be observed: {error}"));
                return Outcome { exit_code: None, detail, stopped: self.stopped };
            }
        };
        let detail = status.signal().map(|signal| format!("ended by signal {signal}{}", signal_name(signal)));
        Outcome { exit_code: status.code(), detail, stopped: self.stopped }
    }
}

fn signal_name(signal: i32) -> &'static str {
    const NAMES: [(Signal, &str); 7] = [
        (Signal::ABORT, " (SIGABRT)"),
        (Signal::BUS, " (SIGBUS)"),
        (Signal::ILL, " (SIGILL)"),
        (Signal::INT, " (SIGINT)"),
        (Signal::KILL, " (SIGKILL)"),
        (Signal::SEGV, " (SIGSEGV)"),
        (Signal::TERM, " (SIGTERM)"),
    ];
    NAMES.iter().find(|(known, _)| known.as_raw() == signal).map_or("", |(_, name)| name)
}
