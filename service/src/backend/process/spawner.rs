//! The thread that starts children.
//!
//! The guard asks the kernel to kill a child when its parent is gone, and to the kernel the parent is the *thread* that
//! forked. A worker of the runtime may end at any time; this thread ends with the backend.

use std::io;
use std::sync::mpsc::{Sender, channel};

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

type Order = (Command, Handle, oneshot::Sender<io::Result<Child>>);

#[derive(Debug)]
pub(super) struct Spawner {
    orders: Sender<Order>,
}

impl Spawner {
    pub(super) fn start() -> io::Result<Self> {
        let (orders, received) = channel::<Order>();
        std::thread::Builder::new().name("session-spawner".to_owned()).spawn(move || {
            for (mut command, runtime, answer) in received {
                let _entered = runtime.enter();
                // Nobody waits for the child any more: dropping it kills it.
                drop(answer.send(command.spawn()));
            }
        })?;
        Ok(Self { orders })
    }

    /// Starts the command; the child reports to the calling task's runtime.
    pub(super) async fn spawn(&self, command: Command) -> io::Result<Child> {
        let gone = || io::Error::other("the thread that starts processes is gone");
        let (answer, child) = oneshot::channel();
        self.orders.send((command, Handle::current(), answer)).map_err(|_| gone())?;
        child.await.map_err(|_| gone())?
    }
}
