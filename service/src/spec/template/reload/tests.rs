use std::path::Path;
use std::sync::Arc;

use super::*;

const GOOD: &str = "access = \"public\"\n[ports.http]\n[process]\ncommand = [\"sleep\", \"1\"]\n";

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(dir.join(name)).unwrap();
    std::fs::write(dir.join(name).join("template.toml"), text).unwrap();
}

/// The words by which two versions of a template are told apart.
fn described(words: &str) -> String {
    format!("description = {words:?}\n{GOOD}")
}

/// Templates in a folder that somebody changes, followed while the test looks.
struct Site {
    dir: tempfile::TempDir,
    templates: Arc<Templates>,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "board", &described("first"));
        let templates = Arc::new(Templates::load(dir.path(), &[], Mode::Processes).unwrap());
        let follower = Arc::clone(&templates);
        tokio::spawn(async move { follower.follow(None).await });
        Self { dir, templates }
    }

    fn description(&self, name: &str) -> Option<String> {
        Some(self.templates.get(&name.parse().unwrap())?.description.clone())
    }

    async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        for _ in 0..10 {
            if so(self) {
                return;
            }
            tokio::time::sleep(EVERY).await;
        }
        panic!("not within ten looks: {what}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_changes_in_the_folder_is_taken_in() {
    let site = Site::new();
    let first = site.templates.get(&"board".parse().unwrap()).unwrap();
    write(site.dir.path(), "board", &described("second"));
    write(site.dir.path(), "new", &described("another"));
    site.until("both are there", |site| {
        site.description("board").as_deref() == Some("second") && site.description("new").is_some()
    })
    .await;
    let as_of =
        |hash: &str| site.templates.as_of(&"board".parse().unwrap(), hash).unwrap().description.clone();
    assert_eq!(as_of(&first.hash), "first", "a start that is under way finds what it was decided by");
    assert_eq!(as_of("unknown"), "second");
    std::fs::remove_dir_all(site.dir.path().join("new")).unwrap();
    site.until("it is gone", |site| site.description("new").is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_template_that_turns_bad_stays_as_it_was() {
    let site = Site::new();
    let why = |site: &Site| site.templates.rejected().get("board").cloned().unwrap_or_default();
    for bad in ["access = ", "access = \"public\"\n[ports.http]\n"] {
        write(site.dir.path(), "board", bad);
        site.until("it is rejected", |site| !why(site).is_empty()).await;
        assert_eq!(site.description("board").as_deref(), Some("first"), "{}", why(&site));
        write(site.dir.path(), "board", &described("first"));
        site.until("it is whole again", |site| why(site).is_empty()).await;
    }
    write(site.dir.path(), "bad", "access = ");
    site.until("the new one is rejected", |site| site.templates.rejected().contains_key("bad")).await;
    std::fs::remove_dir_all(site.dir.path().join("bad")).unwrap();
    site.until("nobody mentions it", |site| site.templates.rejected().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_cannot_be_read_says_nothing_about_what_is_in_it() {
    let site = Site::new();
    let (dir, away) = (site.dir.path().to_owned(), site.dir.path().with_extension("away"));
    std::fs::rename(&dir, &away).unwrap();
    site.until("that is told", |site| site.templates.rejected().contains_key("")).await;
    tokio::time::sleep(5 * EVERY).await;
    assert_eq!(site.description("board").as_deref(), Some("first"));
    std::fs::rename(&away, &dir).unwrap();
    site.until("it can be read", |site| site.templates.rejected().is_empty()).await;
}

#[test]
fn half_a_change_is_no_change() {
    let found = |text: &str| {
        let template = Templates::from_embedded("board", text, None, &[], Mode::Processes);
        Found::from([("board".to_owned(), template)])
    };
    let (one, two) = (described("one"), described("two"));
    let mut looks = Looks::default();
    assert!(looks.settled(found(&one)).is_empty(), "seen once");
    assert!(looks.settled(found(&two)).is_empty(), "and then something else");
    assert_eq!(looks.settled(found(&two)).len(), 1, "seen twice");
    assert!(looks.settled(found(&two)).is_empty(), "and acted upon");
    looks.again("board");
    assert_eq!(looks.settled(found(&two)).len(), 1, "which did not succeed");
}
