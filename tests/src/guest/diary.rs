//! A line per start of a guest: evidence that depends on nobody's bookkeeping but the guest's own.

use std::io::Write;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// One start of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The generation that it was told.
    pub generation: u64,
    /// Its process.
    pub pid: i32,
}

impl Start {
    /// Whether that process still runs.
    #[must_use]
    pub fn alive(&self) -> bool {
        // A zombie is not alive: its parent has yet to read its exit code.
        std::fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
    }

    /// SIGKILL for it and for its parent, which is Nomad's executor: with both gone, no agent can restore the task.
    ///
    /// # Panics
    /// When it has ended already.
    pub fn kill_with_its_executor(&self) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("it runs");
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent");
        let parent = parent.trim().parse().expect("a process's number");
        for pid in [parent, self.pid].into_iter().filter_map(Pid::from_raw) {
            // The first may have taken the second along.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Notes this process in `GUEST_DIARY`, under the session that it was started for.
pub(super) fn write() {
    let Ok(folder) = std::env::var("GUEST_DIARY") else { return };
    let session = std::env::var("BIVOUAC_SESSION_ID").unwrap_or_else(|_| "nobody".to_owned());
    let generation = std::env::var("BIVOUAC_GENERATION").ok().and_then(|text| text.parse().ok());
    let start =
        Start { generation: generation.unwrap_or(0), pid: rustix::process::getpid().as_raw_nonzero().get() };
    let line = serde_json::to_string(&start).expect("a line of JSON") + "\n";
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(Path::new(&folder).join(session))
        .expect("the diary's file");
    file.write_all(line.as_bytes()).expect("a line in the diary");
}

/// All starts of a session, oldest first.
#[must_use]
pub fn starts(folder: &Path, session: &str) -> Vec<Start> {
    let text = std::fs::read_to_string(folder.join(session)).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
