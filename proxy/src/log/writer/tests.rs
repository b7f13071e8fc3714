use super::*;

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Waits until a file says so.
fn until(path: &Path, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while read(path) != wanted {
        assert!(Instant::now() < deadline, "{:?} instead of {wanted:?}", read(path));
        std::thread::yield_now();
    }
}

#[test]
fn lines_are_there_when_the_writer_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    std::fs::write(&path, "before\n").unwrap();
    let writer = Writer::open(&path, Metrics::new()).unwrap();
    for number in 0..1_000 {
        writer.push(format!("{number}\n").as_bytes());
    }
    drop(writer);
    let lines: String = (0..1_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(read(&path), format!("before\n{lines}"));
}

#[test]
fn a_line_is_written_though_no_other_follows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let writer = Writer::open(&path, Metrics::new()).unwrap();
    writer.push(b"one\n");
    until(&path, "one\n");
    writer.push(b"two\n");
    until(&path, "one\ntwo\n");
}

#[test]
fn a_file_that_was_moved_away_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let mut file = Followed::open(path.clone()).unwrap();
    file.write(b"one\n").unwrap();
    std::fs::rename(&path, &moved).unwrap();
    assert!(file.was_moved());
    file.looked = Instant::now().checked_sub(2 * LOOK).unwrap();
    file.write(b"two\n").unwrap();
    assert_eq!((&*read(&moved), &*read(&path)), ("one\n", "two\n"));
    assert!(!file.was_moved());
}

#[test]
fn what_cannot_be_written_is_counted() {
    let metrics = Metrics::new();
    let writer = Writer::open(Path::new("/dev/full"), metrics.clone()).unwrap();
    writer.push(b"one\ntwo\n");
    drop(writer);
    assert!(metrics.render().unwrap().contains("bivouac_proxy_log_dropped_total 2"));
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error() {
    assert!(Writer::open(Path::new("/nowhere/at/all"), Metrics::new()).is_err());
}
