//! What children print.

use futures::StreamExt;

use super::*;
use crate::backend::logs::Output;

impl Fixture {
    async fn printed(&self, run: &Run, output: Output, tail: usize) -> Vec<u8> {
        let wanted = Wanted { output, tail, follow: None };
        let reading = self.backend.logs(run, None, wanted).await.unwrap().unwrap();
        reading.into_stream().map(Result::unwrap).collect::<Vec<_>>().await.concat()
    }
}

#[tokio::test]
async fn what_a_child_prints_is_kept_byte_for_byte() {
    let f = fixture();
    let start = start(r"printf 'a\000\377\033[2J\nlast'; echo err >&2", StoredRequest::default());
    let run = run_of(&start);
    let mut reports = f.observe();
    f.backend.start(start).await.unwrap();
    reports.over().await;
    assert_eq!(f.printed(&run, Output::Stdout, 9).await, b"a\0\xff\x1b[2J\nlast");
    assert_eq!(f.printed(&run, Output::Stdout, 1).await, b"last");
    assert_eq!(f.printed(&run, Output::Stderr, 9).await, b"err\n");
    f.backend.purge(&run).await.unwrap();
    let wanted = Wanted { output: Output::Stdout, tail: 1, follow: None };
    assert!(matches!(f.backend.logs(&run, None, wanted).await, Err(LogError::Gone(_))));
}

#[tokio::test]
async fn a_child_that_prints_without_end_fills_no_disk_and_is_not_held_up() {
    let f = fixture();
    // 5 MB in lines of 10 bytes.
    let start = start("seq -f %09.0f 500000", StoredRequest::default());
    let run = run_of(&start);
    let mut reports = f.observe();
    f.backend.start(start).await.unwrap();
    assert_eq!(reports.over().await.exit_code, Some(0));
    let kept: u64 = std::fs::read_dir(f.folder())
        .unwrap()
        .map(|file| file.unwrap())
        .filter_map(|file| {
            file.file_name().to_string_lossy().starts_with("stdout.").then(|| file.metadata().unwrap().len())
        })
        .sum();
    assert!((1 << 20..=2 << 20).contains(&kept), "{kept} bytes");
    let text = String::from_utf8(f.printed(&run, Output::Stdout, 10_000).await).unwrap();
    let expected: String = (490_001..=500_000).map(|n| format!("{n:09}\n")).collect();
    assert!(text == expected, "{} bytes that end in {:?}", text.len(), text.lines().last());
}

#[tokio::test]
async fn a_follower_reads_along_until_the_child_is_over() {
    let f = fixture();
    let start = start("echo one; while [ ! -e go ]; do sleep 0.02; done; echo two", StoredRequest::default());
    let run = run_of(&start);
    let mut reports = f.observe();
    f.backend.start(start).await.unwrap();
    let (ended, over) = tokio::sync::oneshot::channel::<()>();
    let follow = async move { drop(over.await) };
    let wanted = Wanted { output: Output::Stdout, tail: 5, follow: Some(Box::pin(follow)) };
    let mut reading = f.backend.logs(&run, None, wanted).await.unwrap().unwrap();
    assert_eq!(reading.next().await.unwrap().unwrap(), "one\n");
    std::fs::write(f.folder().join("work").join("go"), "").unwrap();
    reports.over().await;
    drop(ended);
    assert_eq!(reading.next().await.unwrap().unwrap(), "two\n");
    assert_eq!(reading.next().await.unwrap(), None);
}
