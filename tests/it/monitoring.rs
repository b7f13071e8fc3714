//! What operators rely on: metrics as they are documented, alerts and dashboard that ask for nothing else, runbooks for
//! each alert, checks in Consul that speak, and pages in Nomad that say what a session is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bivouac_tests::world::GUEST;
use bivouac_tests::{World, eventually};
use reqwest::header::ACCEPT;

/// Names, types and label names of metrics.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

fn docs(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(docs(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What the tables of docs/metrics.md say.
fn documented() -> Metrics {
    let text = read("metrics.md");
    let rows = text.lines().filter(|line| line.starts_with("| `bivouac"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let labels = cells[2].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (cells[0].trim_matches('`').to_owned(), (cells[1].to_owned(), labels))
    };
    rows.map(row).collect()
}

/// What a process prints. A family without samples shows its type alone.
fn printed(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            metrics.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let family = metrics.keys().rev().find(|family| name.starts_with(family.as_str())).cloned();
            let family = family.unwrap_or_else(|| panic!("{line} has no type"));
            let labels = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |l| l.0);
            let names = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name);
            let names = names.filter(|name| *name != "le").map(str::to_owned);
            metrics.entry(family).or_default().1.extend(names);
        }
    }
    metrics
}

/// Both tables agree; labels are compared where there are samples.
fn agree(printed: &Metrics, documented: &Metrics, begins: impl Fn(&str) -> bool) {
    let names =
        |metrics: &Metrics| metrics.keys().filter(|name| begins(name)).cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(printed), names(documented), "printed and documented");
    for (name, (kind, labels)) in printed.iter().filter(|(name, _)| begins(name)) {
        let (told, named) = &documented[name];
        assert_eq!(kind, told, "the type of {name}");
        assert!(
            labels.is_empty() || labels == named,
            "the labels of {name}: {labels:?}, documented {named:?}"
        );
    }
}

#[test]
fn metrics_are_as_documented() {
    World::cluster().run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("1s").await;
        session.ready().await;
        session.serves("/").await;
        session.ended("idle").await;
        let service = world.get("/metrics").await.unwrap().expect_status(200).unwrap().body;
        let admin = world.proxy(0).process.ready().admin.unwrap();
        let proxy = world.http().get(format!("{admin}/metrics")).send().await.unwrap().text().await.unwrap();
        let documented = documented();
        let of_the_proxy = |name: &str| name.starts_with("bivouac_proxy_");
        agree(&printed(&service), &documented, |name| !of_the_proxy(name));
        agree(&printed(&proxy), &documented, of_the_proxy);
        for line in [
            "bivouac_leader 1",
            "bivouac_leader_known 1",
            "bivouac_event_stream_up 1",
            "bivouac_members 1",
            "bivouac_members_silent 0",
            "bivouac_sessions_ended_total{reason=\"idle\"} 1",
            "bivouac_idle_stop_attempts_total{outcome=\"committed\"} 1",
            "bivouac_session_start_duration_seconds_count{phase=\"total\"} 1",
            "bivouac_sessions{state=\"ended\"} 1",
            "bivouac_api_requests_total{route=\"/v1/spawn\",code=\"201\"} 1",
            "bivouac_cluster_access{target=\"nomad\"} 1",
        ] {
            assert!(service.lines().any(|told| told == line), "{line} is not in\n{service}");
        }
        for line in [
            "bivouac_proxy_member 1",
            "bivouac_proxy_links_up 1",
            "bivouac_proxy_requests_total{code=\"2xx\"} 1",
        ] {
            assert!(proxy.lines().any(|told| told == line), "{line} is not in\n{proxy}");
        }
        for text in [&service, &proxy] {
            assert!(!text.contains(&session.id), "a session's id is a label");
        }
    });
}

/// Names of our metrics in a text, without the suffixes of samples.
fn named(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c| !word(c)).filter(|word| word.starts_with("bivouac_"));
    let bare = |word: &str| {
        let suffix =
            ["_total", "_bucket", "_sum", "_count", "_info"].into_iter().find(|end| word.ends_with(end));
        suffix.map_or(word, |end| word.trim_end_matches(end)).to_owned()
    };
    words.map(bare).collect()
}

#[test]
fn alerts_and_dashboard_ask_for_documented_metrics() {
    let documented: BTreeSet<String> = documented().into_keys().collect();
    for file in ["alerts.yml", "alerts_test.yml", "dashboard.json"] {
        let named = named(&read(&format!("monitoring/{file}")));
        assert!(named.len() > 10, "{file} names {named:?}");
        let unknown: Vec<_> = named.difference(&documented).collect();
        assert!(unknown.is_empty(), "{file} asks for {unknown:?}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(&read("monitoring/dashboard.json")).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 10);
}

#[test]
fn every_alert_has_a_test_and_a_runbook() {
    let (alerts, tests, runbooks) =
        (read("monitoring/alerts.yml"), read("monitoring/alerts_test.yml"), read("operations.md"));
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() >= 9, "{names:?}");
    for kind in ["summary: ", "description: ", "runbook: "] {
        assert_eq!(alerts.matches(kind).count(), names.len(), "each alert has its {kind}");
    }
    for name in names {
        assert!(tests.contains(name), "{name} has no test");
        assert!(alerts.contains(&format!("runbook: docs/operations.md#{}\n", name.to_lowercase())), "{name}");
        assert!(runbooks.lines().any(|line| line == format!("### {name}")), "{name} has no runbook");
    }
}

#[test]
fn the_alerts_pass_their_tests() {
    let folder = docs("monitoring");
    let promtool = |args: &[&str]| Command::new("promtool").args(args).current_dir(&folder).output();
    let output = match promtool(&["test", "rules", "alerts_test.yml"]) {
        Ok(output) => output,
        Err(error) => {
            eprintln!(
                "skipped: the_alerts_pass_their_tests: promtool cannot be run ({error}); Debian has it in `prometheus`"
            );
            return;
        }
    };
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn checks_say_in_words_what_is_wrong() {
    World::cluster().run(async |world| {
        // As Consul's agents ask.
        let ask = async |url: String| {
            let answer =
                world.http().get(url).header(ACCEPT, "text/plain, text/*, */*").send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        };
        let api = format!("{}/readyz", world.api_url());
        let becomes = async |url: &str, words: &str| {
            eventually(&format!("it says {words:?}"), Duration::from_secs(20), async || {
                match ask(url.to_owned()).await {
                    (200, text) if text == words => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await;
        };
        becomes(&api, "Ready to spawn sessions.\n").await;
        let admin = format!("{}/readyz", world.proxy(0).process.ready().admin.unwrap());
        becomes(&admin, "Serving session traffic.\n").await;
        world.service(0).nomad.refuse();
        eventually("the service says that Nomad is away", Duration::from_secs(20), async || {
            match ask(api.clone()).await {
                (503, text)
                    if text.contains("running sessions are not affected") && text.contains("This is why") =>
                {
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        world.service(0).nomad.heal();
        world.service(0).process.kill();
        eventually("the proxy says that it has no link", Duration::from_secs(20), async || {
            match ask(admin.clone()).await {
                (200, text) if text.contains("linked to no replica") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    });
}

#[test]
fn operators_see_what_a_session_is() {
    World::cluster().run(async |world| {
        let session = world.spawn(GUEST).key("doc-1").idle_timeout("5m").await;
        session.ready().await;
        let job = world.job(&format!("session-{}-1", session.id)).await.unwrap();
        let description = job["UI"]["Description"].as_str().unwrap();
        for part in ["key `doc-1`", "run 1", "template `guest`", &format!("bivouac status {}", session.id)] {
            assert!(description.contains(part), "{part} is not in {description}");
        }
        assert!(job["UI"]["Links"][0]["Url"].as_str().unwrap().contains(&session.id));
        let instances = eventually("Consul lists it", Duration::from_secs(20), async || {
            match world.site().catalogue(&format!("session-{}", session.id)).await? {
                instances if instances.is_empty() => Err("not yet".to_owned()),
                instances => Ok(instances),
            }
        })
        .await;
        let (tags, meta) = (&instances[0]["ServiceTags"], &instances[0]["ServiceMeta"]);
        for tag in ["bivouac-session", "key=doc-1", "template=guest", "namespace=default"] {
            assert!(tags.as_array().unwrap().iter().any(|have| have == tag), "{tag} is not in {tags}");
        }
        for name in ["session", "key", "template", "generation", "created_at", "allocation"] {
            assert!(meta[format!("bivouac_{name}")].is_string(), "{name} is not in {meta}");
        }
        session.stop().await;
    });
}
