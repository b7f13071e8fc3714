use std::collections::BTreeMap;

use bivouac_protocol::{Generation, Phase, StoredRequest};
use proptest::prelude::*;

use super::*;
use crate::spec::escape::engines;
use crate::spec::template::{Mode, Templates};

const TEMPLATE: &str = r#"
access = "public"
stop_grace = "3s"
allow  = ["env", "args", "image", "resources"]
[ports.http]
[params.doc]
[params.lang]
default = "en"
[nomad]
jobspec = "job.nomad.hcl"
"#;

fn template() -> Template {
    Templates::from_embedded("board", TEMPLATE, Some("job {}"), &[], Mode::Nomad).unwrap()
}

/// What Nomad 1.11 makes of a small job without canonicalization, the unset fields left out.
fn parsed() -> Value {
    json!({
        "ID": "board", "Name": "board", "Type": "batch", "Meta": {"team": "tools", "bivouac_dollar": "#"}, "Stop": null,
        "TaskGroups": [{
            "Name": "board", "Count": null, "Services": null, "MaxClientDisconnect": 5, "EphemeralDisk": null,
            "Networks": [{"DynamicPorts": [{"Label": "http", "To": 0}], "ReservedPorts": null}],
            "Tasks": [{
                "Name": "board", "Driver": "raw_exec", "User": "", "Lifecycle": null, "LogConfig": null,
                "Config": {"command": "board", "args": ["--doc", "${NOMAD_META_doc}"]},
                "Env": {"LANG": "C", "GREETING": "doc ${NOMAD_META_doc}"}, "Meta": {"bivouac_dollar": "#", "tier": "1"},
                "Resources": {"CPU": 100, "MemoryMB": 64, "MemoryMaxMB": 128},
                "Templates": [{"EmbeddedTmpl": "x", "ChangeMode": null}, {"EmbeddedTmpl": "y", "ChangeMode": "signal"}],
            }],
        }],
    })
}

fn record(request: StoredRequest) -> Record {
    let claimed: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let template = template();
    Record {
        revision: 1,
        namespace: "acme".parse().unwrap(),
        key: Some("doc-42".parse().unwrap()),
        template: template.name.clone(),
        hash: "abc".to_owned(),
        policy: template.policy(&request),
        request,
        generation: Generation(7),
        nonce: "nonce7".parse().unwrap(),
        phase: Phase::Claimed,
        allocation: None,
        leases: BTreeMap::new(),
        touched_at: claimed,
        reason: None,
        failures: 0,
        timeline: bivouac_protocol::Timeline { claimed: Some(claimed), ..Default::default() },
    }
}

fn translate(parsed: &Value, record: &Record) -> Value {
    let context = JobContext {
        session: &"abcdefghij234567abcd".parse().unwrap(),
        record,
        template: &template(),
        url: "http://abcdefghij234567abcd.localhost:7080",
        cluster: "cluster1",
        created_at: record.touched_at,
    };
    job(parsed, &context).unwrap()
}

fn request(text: &str) -> StoredRequest {
    let entry = |name: &str| BTreeMap::from([(name.to_owned(), text.to_owned())]);
    StoredRequest {
        params: entry("doc"),
        env: entry("EXTRA"),
        args: vec![text.to_owned()],
        image: Some(text.to_owned()),
        labels: entry("label"),
        user: Some(text.to_owned()),
        ..StoredRequest::default()
    }
}

#[test]
fn a_session_becomes_this_job() {
    insta::assert_json_snapshot!(translate(&parsed(), &record(request("d-1"))));
}

#[test]
fn a_plain_session_of_a_job_with_its_own_service_becomes_this_job() {
    let mut parsed = parsed();
    parsed["TaskGroups"][0]["Tasks"][0]["Services"] = json!([{
        "Name": "board", "PortLabel": "http", "Tags": ["mine"], "Provider": "", "Meta": {"a": "b"},
        "CheckRestart": {"Limit": 1}, "Checks": [{"Type": "http", "Path": "/", "CheckRestart": {"Limit": 1}}],
    }]);
    parsed["TaskGroups"][0]["EphemeralDisk"] = json!({"SizeMB": 1000});
    let record = Record { key: None, ..record(StoredRequest::default()) };
    insta::assert_json_snapshot!(translate(&parsed, &record));
}

#[test]
fn further_ports_are_registered_each_and_told_to_the_tasks() {
    let toml =
        TEMPLATE.replace("[ports.http]", "[ports.http]\ndefault = true\n[ports.api]\nprotocol = \"h2c\"");
    let template = Templates::from_embedded("board", &toml, Some("job {}"), &[], Mode::Nomad).unwrap();
    let mut parsed = parsed();
    parsed["TaskGroups"][0]["Networks"][0]["DynamicPorts"] = json!([{"Label": "http"}, {"Label": "api"}]);
    parsed["TaskGroups"][0]["Tasks"][0]["Env"]["PORT_API"] = "9000".into();
    let record = record(StoredRequest::default());
    let context = JobContext {
        session: &"abcdefghij234567abcd".parse().unwrap(),
        record: &record,
        template: &template,
        url: "http://abcdefghij234567abcd.localhost:7080",
        cluster: "cluster1",
        created_at: record.touched_at,
    };
    let job = job(&parsed, &context).unwrap();
    let group = &job["TaskGroups"][0];
    let services = group["Services"].as_array().unwrap();
    let told = |service: &Value| {
        let meta = |name: &str| service["Meta"][name].as_str().map(str::to_owned);
        (meta("bivouac_port").unwrap(), meta("bivouac_protocol").unwrap(), meta("bivouac_default_port"))
    };
    let told: Vec<_> = services.iter().map(told).collect();
    assert_eq!(
        told,
        [
            ("api".to_owned(), "h2c".to_owned(), None),
            ("http".to_owned(), "http".to_owned(), Some("true".to_owned())),
        ]
    );
    let env = &group["Tasks"][0]["Env"];
    assert_eq!(
        (&env["PORT"], &env["PORT_HTTP"]),
        (&"${NOMAD_PORT_http}".into(), &"${NOMAD_PORT_http}".into())
    );
    assert_eq!(env["PORT_API"], "9000", "what the operator says holds");
    assert_eq!(told.len(), services.len());
}

#[test]
fn callers_resources_are_numbers_of_the_main_task() {
    let mut request = request("x");
    request.resources = Some(bivouac_protocol::record::Resources { cpu: Some(200), memory_mb: Some(512) });
    let job = translate(&parsed(), &record(request));
    assert_eq!(
        job["TaskGroups"][0]["Tasks"][0]["Resources"],
        json!({"CPU": 200, "Cores": null, "MemoryMB": 512, "MemoryMaxMB": null})
    );
}

#[test]
fn a_job_of_another_shape_is_an_error() {
    let record = record(StoredRequest::default());
    let session = "abcdefghij234567abcd".parse().unwrap();
    let template = template();
    let context = JobContext {
        session: &session,
        record: &record,
        template: &template,
        url: "",
        cluster: "",
        created_at: record.touched_at,
    };
    let mut two = parsed();
    let group = two["TaskGroups"][0].clone();
    two["TaskGroups"].as_array_mut().unwrap().push(group);
    let mut service = parsed();
    service["Type"] = "service".into();
    let mut count = parsed();
    count["TaskGroups"][0]["Count"] = 2.into();
    let mut foreign = parsed();
    foreign["TaskGroups"][0]["Services"] = json!([{"PortLabel": "admin"}]);
    for bad in [json!(null), json!([]), json!({"TaskGroups": [1]}), two, service, count, foreign] {
        assert!(job(&bad, &context).is_err(), "{bad}");
    }
}

#[test]
fn the_meta_is_enough_to_write_the_record_again() {
    let record = record(request("${attr.cpu.arch} \" \u{1} %{x} $"));
    let meta = meta::of(&"abcdefghij234567abcd".parse().unwrap(), &record, "cluster1", record.touched_at);
    let (session, recovered) = meta::recover(&meta).unwrap();
    assert_eq!((session.as_str(), recovered), ("abcdefghij234567abcd", record));
    assert!(!meta[meta::REQUEST].contains('$'));
}

/// What the client knows when it interpolates. Callers must not be able to name any of it.
fn known(job: &Value) -> BTreeMap<String, String> {
    let mut known: BTreeMap<String, String> =
        ["attr.cpu.arch", "node.unique.name", "NOMAD_ALLOC_ID", "NOMAD_PORT_http", "x"]
            .map(|name| (name.to_owned(), "LEAKED".to_owned()))
            .into();
    for (name, value) in job["Meta"].as_object().unwrap() {
        known.insert(format!("NOMAD_META_{name}"), value.as_str().unwrap().to_owned());
    }
    known
}

/// The tree with every string replaced by a mark: what is left is its structure, names of fields included.
fn structure(value: &Value) -> Value {
    match value {
        Value::String(_) => "…".into(),
        Value::Array(values) => values.iter().map(structure).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), structure(value))).collect())
        }
        other => other.clone(),
    }
}

/// Every string in the tree that is not a Meta, Env or Config value that a caller's text may be in.
fn fixed_strings(mut job: Value) -> Value {
    job["Meta"] = Value::Null;
    job["TaskGroups"][0]["Tasks"][0]["Env"] = Value::Null;
    job["TaskGroups"][0]["Tasks"][0]["Config"] = Value::Null;
    job
}

fn without_exact_meta(mut job: Value) -> Value {
    let env = job["TaskGroups"][0]["Tasks"][0]["Env"].as_object_mut().unwrap();
    env.retain(|name, _| !name.starts_with("NOMAD_META_"));
    job
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let job = translate(&parsed(), &record(request(text)));
    let plain = translate(&parsed(), &record(request("plain")));
    let (job_structure, plain_structure) = (structure(&without_exact_meta(job.clone())), structure(&plain));
    prop_assert_eq!(job_structure, plain_structure);
    prop_assert_eq!(fixed_strings(job.clone()), fixed_strings(plain));

    let known = known(&job);
    let task = &job["TaskGroups"][0]["Tasks"][0];
    let env = |name: &str| engines::env(task["Env"][name].as_str().unwrap(), &known);
    prop_assert_eq!(env("DOC"), text);
    prop_assert_eq!(env("EXTRA"), text);
    if text.contains("${") {
        prop_assert_eq!(env("GREETING"), format!("doc {text}"));
    }
    let argument = task["Config"]["args"].as_array().unwrap().last().unwrap();
    for field in [argument, &task["Config"]["image"]] {
        let arrived = engines::config(field.as_str().unwrap(), &known);
        prop_assert_eq!(arrived.as_deref(), Ok(text));
    }
    for value in job["Meta"].as_object().unwrap().values() {
        let arrived = engines::env(value.as_str().unwrap(), &known);
        prop_assert!(!arrived.contains("LEAKED") || text.contains("LEAKED"), "{}", arrived);
    }
    Ok(())
}

#[test]
fn attacks_arrive_as_text() {
    for text in
        ["${attr.cpu.arch}", "$${attr.cpu.arch}", "${${x}}", "%{if x}", "$", "\"}", "a\n${x}", "é%%{x}"]
    {
        check(text).unwrap();
    }
}

proptest! {
    #[test]
    fn no_text_of_a_caller_changes_the_job_or_is_interpolated(
        text in "([$%{}\"\\\\]|\\$\\{(x|attr\\.cpu\\.arch|NOMAD_META_doc|NOMAD_META_bivouac_dollar)\\}|[^\0]){0,30}"
    ) {
        check(&text)?;
    }
}
