//! Children that never outlive the test run: each is started through a shell that asks the kernel to kill it when its
//! parent is gone, and then becomes the real command. (The parent cannot ask on a child's behalf without `unsafe`.)

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// The guest's binary, which cargo builds beside the tests.
///
/// # Panics
/// When the test's own path is not known.
#[must_use]
pub fn guest_binary() -> PathBuf {
    let own = std::env::current_exe().expect("the path of this test");
    let folder = own.ancestors().find(|folder| folder.join("bivouac-guest").is_file());
    folder.expect("cargo builds bivouac-guest beside the tests").join("bivouac-guest")
}

/// A command that ends with this process. To be started with [`spawn`].
#[must_use]
pub fn command(program: impl Into<OsString>) -> Command {
    let mut command = Command::new(guest_binary());
    command.arg("guard").arg("--").arg(program.into()).env("GUARD_PARENT", std::process::id().to_string());
    command
}

/// Starts a command from a thread that lives as long as this process: the kernel's signal is bound to the *thread* that
/// started a child, and a test's thread is gone when the test is.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn spawn(command: Command) -> Child {
    type Order = (Command, Sender<std::io::Result<Child>>);
    static STARTER: LazyLock<Sender<Order>> = LazyLock::new(|| {
        let (orders, received) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in received {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, child) = channel();
    STARTER.send((command, answer)).expect("the starter's thread runs");
    child.recv().expect("the starter answers").expect("the command starts")
}

/// Becomes the given command (after its leading `--`), to be killed when the parent ends.
#[must_use]
pub fn exec(command: Vec<OsString>) -> ExitCode {
    let mut words = command.into_iter().skip_while(|word| word == "--");
    let Some(program) = words.next() else { return ExitCode::from(2) };
    let armed = set_parent_process_death_signal(Some(Signal::KILL));
    // The parent may have gone before the signal was armed; then somebody else has adopted us.
    let parent = std::env::var("GUARD_PARENT").ok().and_then(|text| text.parse().ok());
    let adopted = parent != getppid().map(|pid| pid.as_raw_nonzero().get());
    if armed.is_err() || adopted {
        return ExitCode::FAILURE;
    }
    let failed = Command::new(program).args(words).env_remove("GUARD_PARENT").exec();
    eprintln!("the command could not be started: {failed}");
    ExitCode::FAILURE
}
