//! Hostile requests, and what each gets: one answer, always the same. Behind the proxy a backend records every byte and
//! reads more strictly than any real one: it sees exactly one request for each that was accepted, and nothing else.

mod h2;
mod heads;
mod hosts;
mod slow;
mod smuggling;

use std::path::PathBuf;

use bivouac_tests::World;
use bivouac_tests::guest::record::{Recorded, SERIAL, recorded};
use bivouac_tests::world::{GUEST, Raw, Session};
use futures::StreamExt;

/// How many cases run at the same time.
const AT_ONCE: usize = 16;

/// One connection's bytes and what becomes of them. In the bytes `HOST` is the session's authority and `TAG` a word that
/// no other case has.
struct Case {
    name: &'static str,
    bytes: String,
    expect: Expect,
}

/// What a case gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// So many answers of the backend, which has seen as many requests.
    Served(usize),
    /// This refusal of ours, and the backend has seen no whole request; then the connection ends.
    Refused(u16, &'static str),
    /// The backend's answer to a first request, and this refusal to what follows.
    ServedThenRefused(u16, &'static str),
}

/// A case of these bytes.
fn case(name: &'static str, bytes: impl Into<String>, expect: Expect) -> Case {
    Case { name, bytes: bytes.into(), expect }
}

/// A refusal as malformed.
const MALFORMED: Expect = Expect::Refused(400, "bad_request");

/// A session whose backend records, and where it does.
struct Witness {
    session: Session,
    folder: PathBuf,
}

impl Witness {
    async fn call(world: &World) -> Self {
        let folder = world.folder().join("records");
        let session = world
            .spawn(GUEST)
            .idle_timeout("5m")
            .env("GUEST_MODE", "record")
            .env("GUEST_RECORDS", &folder.to_string_lossy())
            .await;
        session.ready().await;
        Self { session, folder }
    }

    fn records(&self) -> Vec<Recorded> {
        recorded(&self.folder, &self.session.id)
    }
}

/// Runs every case in a world of its own, and compares what clients saw with what the backend did.
fn run(cases: Vec<Case>) {
    World::embedded().run(async |world| {
        let witness = Witness::call(&world).await;
        let authority = witness.session.authority();
        let port = world.proxy_port(0);
        let mut outcomes: Vec<(Case, String, Raw)> = futures::stream::iter(cases.into_iter().enumerate())
            .map(|(number, case)| {
                let tag = format!("case-{number:03}-");
                let bytes = case.bytes.replace("HOST", &authority).replace("TAG", &tag);
                async move { (case, tag, Raw::send(port, bytes).await) }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        outcomes.sort_by_key(|(case, ..)| case.name);
        let records = witness.records();
        let wrong: Vec<String> =
            outcomes.iter().filter_map(|(case, tag, raw)| judge(case, tag, raw, &records).err()).collect();
        assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), outcomes.len(), wrong.join("\n"));
        let answered: usize = outcomes.iter().map(|(_, _, raw)| serials(raw)).sum();
        balanced(&records, answered);
        // It serves on.
        let good = format!("GET /last HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
        assert_eq!(serials(&Raw::send(port, good).await), 1);
    });
}

/// How many answers of the backend came.
fn serials(raw: &Raw) -> usize {
    raw.text.matches(SERIAL).count()
}

/// Whatever the backend has read was a request that somebody was answered, and its bytes are these requests.
fn balanced(records: &[Recorded], answered: usize) {
    for record in records {
        let text = String::from_utf8_lossy(&record.bytes);
        assert_eq!(record.misread, None, "a backend was sent what is no request:\n{text}");
        assert!(!text.contains("GET /smuggled"), "a backend was sent what stood in a body:\n{text}");
    }
    let asked: usize = records.iter().map(|record| record.requests.len()).sum();
    assert_eq!(asked, answered, "requests that were recorded, and answers that clients got");
}

fn judge(case: &Case, tag: &str, raw: &Raw, records: &[Recorded]) -> Result<(), String> {
    let seen =
        records.iter().flat_map(|record| &record.requests).filter(|asked| asked.target.contains(tag)).count();
    let refused = |status: u16, code: &str| {
        let line = format!("HTTP/1.1 {status} ");
        raw.text.contains(&line) && raw.has_code(code) && raw.closed
    };
    let (served, well) = match case.expect {
        Expect::Served(count) => (count, raw.answers() == count),
        Expect::Refused(status, code) => (0, refused(status, code) && raw.answers() == 1),
        Expect::ServedThenRefused(status, code) => (1, refused(status, code) && raw.answers() == 2),
    };
    if well && serials(raw) == served && seen == served {
        return Ok(());
    }
    Err(format!(
        "{}: {:?} expected; the backend saw {seen}, and answered {}; closed: {}\n{}",
        case.name,
        case.expect,
        serials(raw),
        raw.closed,
        raw.text
    ))
}
