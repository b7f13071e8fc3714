use std::collections::BTreeMap;
use std::time::Duration;

use bivouac_ledger::directory::Directory;
use bivouac_protocol::{Generation, Phase, PortPolicy, Protocol, Record, SessionId, StoredRequest, Timeline};
use tokio::time::{interval, timeout};

use super::*;
use crate::backend::logs::last_words;
use crate::spec::Templates;
use crate::spec::template::Mode;

mod printing;

const PATIENCE: Duration = Duration::from_secs(20);
const URL: &str = "http://x.localhost:7080";

struct Fixture {
    backend: Arc<ProcessBackend>,
    directory: Arc<MemoryDirectory>,
    state: tempfile::TempDir,
}

/// Without `bivouac exec-guard`: its binary is built later than this test.
fn fixture() -> Fixture {
    let state = tempfile::tempdir().unwrap();
    let directory = Arc::new(MemoryDirectory::default());
    let settings = Settings { guard: vec!["env".into(), "--".into()], state_dir: state.path().join("runs") };
    let backend = Arc::new(ProcessBackend::new(settings, Arc::clone(&directory)).unwrap());
    Fixture { backend, directory, state }
}

impl Fixture {
    fn observe(&self) -> Reports {
        let (reports, received) = mpsc::channel(8);
        let backend = Arc::clone(&self.backend);
        let task = tokio::spawn(async move { backend.observe(reports).await });
        Reports { received, task }
    }

    /// The only run's directory.
    fn folder(&self) -> PathBuf {
        let mut runs = std::fs::read_dir(self.state.path().join("runs")).unwrap();
        let folder = runs.next().unwrap().unwrap().path();
        assert!(runs.next().is_none());
        folder
    }

    fn written(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.folder().join("work").join(name))
            .ok()
            .filter(|text| text.ends_with('\n'))
    }
}

struct Reports {
    received: mpsc::Receiver<Observation>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Reports {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reports {
    async fn next(&mut self) -> Observation {
        timeout(PATIENCE, self.received.recv()).await.expect("a report").expect("the backend reports on")
    }

    async fn over(&mut self) -> Outcome {
        loop {
            if let Observation::Allocation {
                allocated: Allocated { status: Status::Over(outcome), .. },
                ..
            } = self.next().await
            {
                return outcome;
            }
        }
    }
}

async fn eventually<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let mut ticks = interval(Duration::from_millis(5));
    let wait = async {
        loop {
            ticks.tick().await;
            if let Some(value) = condition() {
                return value;
            }
        }
    };
    timeout(PATIENCE, wait).await.expect("the condition is met in time")
}

fn start(script: &str, request: StoredRequest) -> Start {
    let toml = format!(
        r#"
        access = "public"
        stop_grace = "300ms"
        allow = ["env", "args"]
        [ports.http]
        [params.doc]
        [params.lang]
        default = "en"
        [process]
        command = ["sh", "-c", {script:?}, "the-command"]
        env = {{ LOG = "info" }}
        "#
    );
    start_from(&toml, request)
}

fn start_from(toml: &str, request: StoredRequest) -> Start {
    let template = Templates::from_embedded("board", toml, None, &[], Mode::Processes).unwrap();
    let record = Record {
        revision: 1,
        namespace: "acme".parse().unwrap(),
        key: Some("doc-42".parse().unwrap()),
        template: template.name.clone(),
        hash: template.hash.clone(),
        policy: template.policy(&request),
        request,
        generation: Generation(7),
        nonce: "n7".parse().unwrap(),
        phase: Phase::Claimed,
        allocation: None,
        leases: BTreeMap::new(),
        touched_at: jiff::Timestamp::UNIX_EPOCH,
        reason: None,
        failures: 0,
        timeline: Timeline::default(),
    };
    let session = SessionId::random();
    Start { session, record: Arc::new(record), template: Arc::new(template), url: URL.to_owned() }
}

fn run_of(start: &Start) -> Run {
    Run { session: start.session.clone(), generation: start.record.generation }
}

/// Dead, or dead and not yet waited for by whoever inherited it.
fn is_dead(pid: &str) -> bool {
    match std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())) {
        Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

#[tokio::test]
async fn a_run_is_placed_then_runs_then_is_over() {
    let f = fixture();
    let mut reports = f.observe();
    assert_eq!(reports.next().await, Observation::Synced);
    let start = start("echo broken >&2; exit 3", StoredRequest::default());
    f.backend.start(start.clone()).await.unwrap();
    let job = Observation::Job { run: run_of(&start), nonce: Some("n7".parse().unwrap()), stopped: false };
    assert_eq!(reports.next().await, job);
    let Observation::Allocation { allocated: placed, .. } = reports.next().await else {
        panic!("placed first")
    };
    assert_eq!(placed.status, Status::Pending);
    assert!(placed.ports[&start.record.policy.port].ip().is_loopback());
    let running = Allocated { status: Status::Running, ..placed.clone() };
    assert_eq!(reports.next().await, Observation::Allocation { run: run_of(&start), allocated: running });
    let outcome = reports.over().await;
    assert_eq!(outcome, Outcome { exit_code: Some(3), ..Outcome::default() });
    assert_eq!(last_words(f.backend.as_ref(), &run_of(&start), None).await, ["broken"]);
    assert_eq!(f.directory.locate(&start.session, Generation(7)).await.unwrap(), None);
}

#[tokio::test]
async fn each_port_of_a_run_is_one_of_its_own_and_told_to_it() {
    let f = fixture();
    let mut start = start("env > env", StoredRequest::default());
    let record = Arc::make_mut(&mut start.record);
    let api = PortPolicy { protocol: Protocol::H2c, ready_path: None };
    record.policy.further = [("my-api".parse().unwrap(), api)].into();
    let mut reports = f.observe();
    f.backend.start(start.clone()).await.unwrap();
    let route = f.directory.locate(&start.session, Generation(7)).await.unwrap();
    let Presence::Present { allocations, .. } = f.backend.inspect(&run_of(&start)).await.unwrap() else {
        panic!("present")
    };
    reports.over().await;
    let ports = &allocations[0].ports;
    let [default, further] = [start.record.policy.port.clone(), "my-api".parse().unwrap()];
    assert_ne!(ports[&default], ports[&further]);
    let environment = f.written("env").unwrap();
    for (name, label) in [("PORT", &default), ("PORT_HTTP", &default), ("PORT_MY_API", &further)] {
        let line = format!("{name}={}", ports[label].port());
        assert!(environment.lines().any(|known| known == line), "{line} in {environment}");
    }
    // (A child that is over is not registered any more.)
    if let Some(route) = route {
        let endpoint = route.further[&further];
        assert_eq!((endpoint.address, endpoint.protocol), (ports[&further], Protocol::H2c));
    }
}

#[tokio::test]
async fn the_environment_is_the_sessions_own_and_callers_text_arrives_as_it_is() {
    let f = fixture();
    let hostile = "${node.unique.name} $(id) `id` %{if} \"'\\ $HOME";
    let request = StoredRequest {
        params: [("doc".to_owned(), hostile.to_owned())].into(),
        env: [("EXTRA".to_owned(), hostile.to_owned()), ("LOG".to_owned(), "no".to_owned())].into(),
        args: vec![hostile.to_owned(), "--flag".to_owned()],
        ..StoredRequest::default()
    };
    let start = start("env > env; pwd > where; printf '%s\\n' \"$#\" \"$@\" > args", request);
    let mut reports = f.observe();
    f.backend.start(start.clone()).await.unwrap();
    let Presence::Present { allocations, .. } = f.backend.inspect(&run_of(&start)).await.unwrap() else {
        panic!("present")
    };
    assert_eq!(reports.over().await, Outcome { exit_code: Some(0), ..Outcome::default() });
    assert_eq!(f.written("args").unwrap(), format!("2\n{hostile}\n--flag\n"));
    assert_eq!(
        f.written("where").unwrap().trim(),
        f.folder().join("work").canonicalize().unwrap().to_str().unwrap()
    );
    let environment = f.written("env").unwrap();
    let is = |name: &str| environment.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
    let port = allocations[0].ports[&start.record.policy.port].port().to_string();
    let expected = [
        ("DOC", hostile),
        ("LANG", "en"),
        ("EXTRA", hostile),
        ("LOG", "info"),
        ("PORT", &port),
        ("BIVOUAC_SESSION_ID", start.session.as_str()),
        ("BIVOUAC_KEY", "doc-42"),
        ("BIVOUAC_NAMESPACE", "acme"),
        ("BIVOUAC_GENERATION", "7"),
        ("BIVOUAC_URL", URL),
    ];
    for (name, value) in expected {
        assert_eq!(is(name), Some(value), "{name}");
    }
    let leaked: Vec<_> = environment.lines().filter(|line| line.starts_with("CARGO_")).collect();
    assert_eq!(leaked, [""; 0], "our own environment, as cargo set it, stays with us");
}

#[tokio::test]
async fn a_stop_asks_first() {
    let f = fixture();
    let start = start(
        "trap 'exit 7' TERM; echo up > up; while :; do sleep 1000 & wait; done",
        StoredRequest::default(),
    );
    let mut reports = f.observe();
    f.backend.start(start.clone()).await.unwrap();
    let route = f.directory.locate(&start.session, Generation(7)).await.unwrap().expect("registered");
    eventually(|| f.written("up")).await;
    f.backend.stop(&run_of(&start), Grace::Template).await.unwrap();
    f.backend.stop(&run_of(&start), Grace::Template).await.unwrap();
    let outcome = reports.over().await;
    assert_eq!(outcome, Outcome { exit_code: Some(7), detail: None, stopped: true });
    let Presence::Present { stopped, allocations, .. } = f.backend.inspect(&run_of(&start)).await.unwrap()
    else {
        panic!("kept until it is purged")
    };
    assert!(stopped);
    assert_eq!(
        (&allocations[0].allocation, &allocations[0].status),
        (&route.allocation, &Status::Over(outcome))
    );
}

#[tokio::test]
async fn whoever_does_not_listen_is_killed_with_all_that_it_started() {
    let f = fixture();
    let script = "trap '' TERM; sleep 1000 & echo $! > pid; while :; do wait; done";
    let start = start(script, StoredRequest::default());
    let mut reports = f.observe();
    f.backend.start(start.clone()).await.unwrap();
    let grandchild = eventually(|| f.written("pid")).await;
    f.backend.stop(&run_of(&start), Grace::Template).await.unwrap();
    let outcome = reports.over().await;
    let detail = Some("ended by signal 9 (SIGKILL)".to_owned());
    assert_eq!(outcome, Outcome { exit_code: None, detail, stopped: true });
    eventually(|| is_dead(&grandchild).then_some(())).await;
}

#[tokio::test]
async fn a_stop_without_grace_kills_at_once_even_while_another_waits() {
    let f = fixture();
    let mut start =
        start("trap '' TERM; echo up > up; while :; do sleep 1000; done", StoredRequest::default());
    let mut record = (*start.record).clone();
    record.policy.stop_grace = "1h".parse().unwrap();
    start.record = Arc::new(record);
    let mut reports = f.observe();
    f.backend.start(start.clone()).await.unwrap();
    eventually(|| f.written("up")).await;
    f.backend.stop(&run_of(&start), Grace::Template).await.unwrap();
    f.backend.stop(&run_of(&start), Grace::None).await.unwrap();
    assert_eq!(reports.over().await.detail.as_deref(), Some("ended by signal 9 (SIGKILL)"));
}

#[tokio::test]
async fn what_a_child_leaves_behind_ends_with_it() {
    let f = fixture();
    let start = start("sleep 1000 & echo $! > pid", StoredRequest::default());
    let mut reports = f.observe();
    f.backend.start(start.clone()).await.unwrap();
    assert_eq!(reports.over().await.exit_code, Some(0));
    let left_behind = f.written("pid").unwrap();
    eventually(|| is_dead(&left_behind).then_some(())).await;
}

#[tokio::test]
async fn starting_is_idempotent_by_nonce() {
    let f = fixture();
    let mine = start("exec sleep 1000", StoredRequest::default());
    f.backend.start(mine.clone()).await.unwrap();
    f.backend.start(mine.clone()).await.unwrap();
    f.folder(); // one run only
    let mut record = (*mine.record).clone();
    record.nonce = "other".parse().unwrap();
    let foreign = Start { record: Arc::new(record), ..mine.clone() };
    assert!(matches!(f.backend.start(foreign).await, Err(StartError::Foreign)));
    f.backend.purge(&run_of(&mine)).await.unwrap();
    let presence = f.backend.inspect(&run_of(&mine)).await.unwrap();
    assert!(matches!(presence, Presence::Present { stopped: false, .. }), "a purge ends nothing");
}

#[tokio::test]
async fn a_run_that_never_was_is_absent_and_can_be_stopped() {
    let f = fixture();
    let run = Run { session: SessionId::random(), generation: Generation(1) };
    assert_eq!(f.backend.inspect(&run).await.unwrap(), Presence::Absent);
    f.backend.stop(&run, Grace::Template).await.unwrap();
    f.backend.purge(&run).await.unwrap();
    f.backend.health().await.unwrap();
}

#[tokio::test]
async fn a_purge_leaves_nothing_of_a_run_that_is_over() {
    let f = fixture();
    let start = start("exit 0", StoredRequest::default());
    let mut reports = f.observe();
    f.backend.start(start.clone()).await.unwrap();
    reports.over().await;
    let folder = f.folder();
    f.backend.purge(&run_of(&start)).await.unwrap();
    assert_eq!(f.backend.inspect(&run_of(&start)).await.unwrap(), Presence::Absent);
    assert!(!folder.exists());
}

#[tokio::test]
async fn an_observer_that_comes_late_is_told_what_exists() {
    let f = fixture();
    let start = start("exec sleep 1000", StoredRequest::default());
    f.backend.start(start.clone()).await.unwrap();
    let mut reports = f.observe();
    assert!(matches!(reports.next().await, Observation::Job { stopped: false, .. }));
    let Observation::Allocation { run, allocated } = reports.next().await else {
        panic!("then its allocation")
    };
    assert_eq!((run, allocated.status), (run_of(&start), Status::Running));
    assert_eq!(reports.next().await, Observation::Synced);
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_told() {
    let f = fixture();
    let toml = "access = \"public\"\n[ports.http]\n[process]\ncommand = [\"no-such-program\"]";
    let mut reports = f.observe();
    let start = start_from(toml, StoredRequest::default());
    let run = run_of(&start);
    f.backend.start(start).await.unwrap();
    let outcome = reports.over().await;
    assert_ne!(outcome.exit_code, Some(0));
    let words = last_words(f.backend.as_ref(), &run, None).await;
    assert!(words.concat().contains("no-such-program"), "{words:?}");
}

#[tokio::test]
async fn a_guard_that_does_not_exist_leaves_nothing_behind() {
    let mut f = fixture();
    let settings =
        Settings { guard: vec!["/nonexistent/guard".into()], state_dir: f.state.path().join("runs") };
    f.backend = Arc::new(ProcessBackend::new(settings, Arc::clone(&f.directory)).unwrap());
    let start = start("exit 0", StoredRequest::default());
    assert!(matches!(f.backend.start(start.clone()).await, Err(StartError::Unavailable(_))));
    assert_eq!(f.backend.inspect(&run_of(&start)).await.unwrap(), Presence::Absent);
    assert_eq!(std::fs::read_dir(f.state.path().join("runs")).unwrap().count(), 0);
}

#[tokio::test]
async fn children_end_with_the_backend() {
    let f = fixture();
    f.backend.start(start("echo $$ > pid; exec sleep 1000", StoredRequest::default())).await.unwrap();
    let child = eventually(|| f.written("pid")).await;
    assert!(!is_dead(&child));
    let Fixture { backend, state, .. } = f;
    drop(backend);
    eventually(|| is_dead(&child).then_some(())).await;
    drop(state);
}

#[tokio::test]
async fn a_shutdown_ends_every_run_and_lets_no_other_begin() {
    let f = fixture();
    let first = start("exec sleep 1000", StoredRequest::default());
    f.backend.start(first.clone()).await.unwrap();
    timeout(PATIENCE, f.backend.shutdown(Grace::Template)).await.unwrap();
    let Presence::Present { allocations, .. } = f.backend.inspect(&run_of(&first)).await.unwrap() else {
        panic!("kept until it is purged")
    };
    assert!(matches!(allocations[0].status, Status::Over(_)));
    let refused = f.backend.start(start("exit 0", StoredRequest::default())).await;
    assert!(matches!(refused, Err(StartError::Unavailable(_))));
}
