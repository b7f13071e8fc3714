use bivouac_protocol::Access;
use serde_json::Value;

use super::*;

const WHITEBOARD: &str = r#"
description  = "Shared whiteboard"
access       = "public"
idle_timeout = { default = "30s", min = "5s", max = "10m" }
wake         = true
allow        = ["env"]

[ports.http]
ready_path = "/healthz"

[params.doc]
pattern  = "[a-z0-9-]{1,64}|admin"
required = true

[process]
command = ["whiteboard", "--dir", "state"]
env = { LOG = "info" }

[nomad]
jobspec = "job.nomad.hcl"
variables = { image = "a${b}\"c", count = 3 }
"#;

fn load(toml: &str) -> Result<Template, LoadError> {
    Templates::from_embedded("whiteboard", toml, Some("job {}"), &[], Mode::Processes)
}

#[test]
fn a_template_is_read_whole() {
    let template = load(WHITEBOARD).unwrap();
    assert_eq!(template.bounds.idle_timeout.default, Span::seconds(30));
    assert_eq!(template.bounds.startup_timeout.max, Span::seconds(120));
    assert_eq!(template.bounds.stop_grace, Span::seconds(10));
    assert_eq!(template.bounds.max_lease, Span::seconds(7 * 24 * 3600));
    assert_eq!(template.bounds.max_lifetime.default, None);
    assert_eq!(template.default_port.as_str(), "http");
    assert_eq!(template.own_environment(), BTreeSet::from(["LOG".to_owned()]));
    assert_eq!(template.problem(), None);
    let nomad = template.nomad.as_ref().unwrap();
    assert_eq!(nomad.variables["image"], "a${b}\"c");
    assert_eq!(nomad.variables["count"], "3");
    let policy = template.policy(&Default::default());
    assert_eq!((policy.wake, policy.ready_path.as_deref()), (true, Some("/healthz")));
}

#[test]
fn silence_ends_a_session_only_where_somebody_has_said_so() {
    let with = |line: &str| load(&format!("{line}\n{WHITEBOARD}")).unwrap().bounds.quiet_timeout;
    let (second, minute) = (Span::seconds(1), Span::seconds(60));
    assert_eq!(with(""), OptionalBounds { default: None, min: second, max: Span::MAX });
    let fixed = OptionalBounds { default: Some(minute), min: minute, max: minute };
    assert_eq!(with("quiet_timeout = \"1m\""), fixed);
    let bounded = OptionalBounds { default: None, min: second, max: minute };
    assert_eq!(with("quiet_timeout = { min = \"1s\", max = \"1m\" }"), bounded);
}

#[test]
fn an_unreachable_session_is_waited_for_unless_the_template_permits_an_overlap() {
    let with = |line: &str| load(&format!("{WHITEBOARD}{line}\n"));
    let overlap = |line: &str| with(line).unwrap().policy(&Default::default()).overlap_after;
    assert_eq!((overlap(""), overlap("on_partition = \"wait\"")), (None, None));
    assert_eq!(overlap("overlap_after = \"10m\""), Some(Span::seconds(600)));
    let both = with("on_partition = \"wait\"\noverlap_after = \"10m\"").unwrap_err();
    assert!(both.message.contains("leave out one") && both.position.is_some(), "{both:?}");
    assert!(with("overlap_after = \"0s\"").is_err() && with("on_partition = \"kill\"").is_err());
}

#[test]
fn a_template_may_have_further_ports_and_bounds_on_its_traffic() {
    let toml = "access = \"public\"\nignore_paths = [\"/healthz\", \"/poll/*\"]\nmax_body = \"10MiB\"\n\
                max_connections = 100\n[ports.http]\ndefault = true\n[ports.api]\nprotocol = \"h2c\"\n\
                ready_path = \"/ready\"\n[ports.admin]\ndefault = false\n";
    let template = load(toml).unwrap();
    assert_eq!(template.default_port.as_str(), "http");
    let policy = template.policy(&Default::default());
    assert_eq!((policy.port.as_str(), policy.protocol), ("http", Protocol::Http));
    assert_eq!(policy.further.keys().map(PortLabel::as_str).collect::<Vec<_>>(), ["admin", "api"]);
    let api = &policy.further[&"api".parse().unwrap()];
    assert_eq!((api.protocol, api.ready_path.as_deref()), (Protocol::H2c, Some("/ready")));
    assert_eq!(policy.rules.ignore_paths, ["/healthz", "/poll/*"]);
    assert_eq!((policy.rules.max_body, policy.rules.max_connections), (Some(10 << 20), Some(100)));
}

#[test]
fn a_pattern_must_match_as_a_whole() {
    let template = load(WHITEBOARD).unwrap();
    let pattern = template.params["doc"].pattern.as_ref().unwrap();
    assert!(pattern.matches("doc-1") && pattern.matches("admin"));
    assert!(!pattern.matches("admin!") && !pattern.matches("a\n") && !pattern.matches(""));
    assert!(Pattern::new("a)|(b").is_err());
    assert!(Pattern::new("(((((a{100}){100}){100}){100}){100})").is_err());
}

#[test]
fn who_says_nothing_of_access_wants_tickets() {
    let access = |toml: &str| load(toml).unwrap().rules.access;
    assert_eq!(access("[ports.http]"), Access::Ticket);
    assert_eq!(access("access = \"ticket\"\n[ports.http]"), Access::Ticket);
    assert_eq!(access("access = \"public\"\n[ports.http]"), Access::Public);
}

#[test]
fn a_fault_is_told_with_line_and_column() {
    let minimal = "access = \"public\"\n[ports.http]\n";
    assert!(load(minimal).is_ok());
    let at = |toml: &str| {
        let error = load(toml).unwrap_err();
        assert!(error.to_string().starts_with("whiteboard/template.toml"), "{error}");
        (error.position.unwrap_or_default(), error.message)
    };
    for (toml, position, words) in [
        ("access = ", (1, 10), "string"),
        ("access = \"public\"\nidle = \"5m\"\n[ports.http]", (2, 1), "unknown field `idle`"),
        ("access = \"public\"\nidle_timeout = \"soon\"\n[ports.http]", (2, 16), "duration"),
        ("access = \"public\"\nidle_timeout = \"0s\"\n[ports.http]", (2, 16), "longer"),
        (
            "access = \"public\"\nidle_timeout = { default = \"5s\", min = \"6s\" }\n[ports.http]",
            (2, 16),
            "rise",
        ),
        ("access = \"public\"\nmax_lease = \"500ms\"\n[ports.http]", (2, 13), "at least"),
        ("access = \"public\"\n[ports.http]\n[params.path]\n", (3, 9), "reserved"),
        ("access = \"public\"\n[ports.http]\n[params.A]\n[params.a]", (4, 9), "case"),
        ("access = \"public\"\n[ports.http]\n[params.a]\npattern = \"(\"", (4, 11), "regular expression"),
        (
            "access = \"public\"\n[ports.http]\n[params.a]\npattern = \"a\"\ndefault = \"b\"",
            (5, 11),
            "pattern",
        ),
        ("access = \"tickets\"\n[ports.http]", (1, 10), "tickets"),
        ("quiet_timeout = \"0s\"\naccess = \"public\"\n[ports.http]", (1, 17), "longer"),
        ("access = \"public\"\nignore_paths = [\"/a\", \"x\"]\n[ports.http]", (2, 23), "begins with /"),
        ("access = \"public\"\nmax_body = \"10MB\"\n[ports.http]", (2, 12), "MiB"),
        ("access = \"public\"\nmax_body = -1\n[ports.http]", (2, 12), "bytes"),
        ("access = \"public\"\nmax_connections = 0\n[ports.http]", (2, 19), "at least 1"),
        ("access = \"public\"\n[ports.a]\n[ports.b]", (3, 8), "default = true"),
        (
            "access = \"public\"\n[ports.b]\ndefault = true\n[ports.a]\ndefault = true",
            (4, 8),
            "two ports say default",
        ),
        ("access = \"public\"\n[ports.a]\ndefault = false", (3, 11), "only port"),
        ("access = \"public\"\n[ports.a_b]\ndefault = true\n[ports.a-b]", (4, 8), "share one variable"),
        ("access = \"public\"\n[ports.xn]", (2, 8), "port label"),
        ("access = \"public\"\n[ports.a]\nprotocol = \"h3\"", (3, 12), "h3"),
        ("access = \"public\"\n[ports.a]\nready_path = \"healthz\"", (3, 14), "begins with /"),
        ("access = \"public\"\n[ports.a]\n[nomad]\njobspec = \"../x\"", (4, 11), "inside"),
        ("access = \"public\"\n[ports.a]\n[process]\ncommand = []", (4, 11), "program"),
    ] {
        let (found, message) = at(toml);
        assert_eq!(found, position, "{toml:?}: {message}");
        assert!(message.contains(words), "{toml:?}: {message}");
    }
    assert!(at("access = \"public\"").1.contains("port is missing"));
}

#[test]
fn the_hash_tells_any_change() {
    let hash = |toml: &str, job: &str, vars: &[TemplateVar]| {
        Templates::from_embedded("whiteboard", toml, Some(job), vars, Mode::Nomad).unwrap().hash
    };
    let base = hash(WHITEBOARD, "job {}", &[]);
    let var: TemplateVar = "whiteboard.image=x=y".parse().unwrap();
    assert_eq!((var.variable.as_str(), var.value.as_str()), ("image", "x=y"));
    assert_eq!(base, hash(WHITEBOARD, "job {}", &[]));
    assert_ne!(base, hash(WHITEBOARD, "job { }", &[]));
    assert_ne!(base, hash(&WHITEBOARD.replace("30s", "31s"), "job {}", &[]));
    assert_ne!(base, hash(WHITEBOARD, "job {}", &[var]));
}

#[test]
fn a_folder_is_loaded_and_a_bad_one_names_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, toml: &str| {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
        std::fs::write(dir.path().join(name).join("template.toml"), toml).unwrap();
    };
    write("board", "access = \"public\"\n[ports.http]\n[process]\ncommand = [\"x\"]");
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    let templates = Templates::load(dir.path(), &[], Mode::Processes).unwrap();
    assert_eq!(templates.iter().map(|t| t.name.as_str().to_owned()).collect::<Vec<_>>(), ["board"]);
    let unknown = Templates::load(dir.path(), &["bord.x=1".parse().unwrap()], Mode::Processes).unwrap_err();
    assert!(unknown.message.contains("bord"), "{unknown}");
    write("bad", "access = \"public\"\nnonsense = 1");
    let error = Templates::load(dir.path(), &[], Mode::Processes).unwrap_err();
    assert!(error.to_string().contains("bad/template.toml:2:1: unknown field"), "{error}");
    let missing = Templates::load(&dir.path().join("none"), &[], Mode::Processes).unwrap_err();
    assert!(missing.message.contains("cannot be read"), "{missing}");
}

/// A job with the variables that the whiteboard gives values to.
const JOB: &str = "variable \"image\" {}\nvariable \"count\" {}\njob \"x\" {}";

struct Parser(Result<Value, jobspec::ParseError>);

#[async_trait::async_trait]
impl jobspec::JobParser for Parser {
    async fn parse(&self, _: &str, _: &BTreeMap<String, String>) -> Result<Value, jobspec::ParseError> {
        self.0.clone()
    }

    async fn validate(&self, job: &Value) -> Result<Vec<String>, jobspec::ParseError> {
        let known = job["TaskGroups"][0]["Tasks"][0]["Driver"] != "nonsense";
        Ok(if known { Vec::new() } else { vec!["unknown driver".to_owned()] })
    }
}

#[tokio::test]
async fn a_job_that_does_not_fit_disables_its_template() {
    let mut templates = Templates::default();
    let name = "whiteboard".parse().unwrap();
    templates
        .insert(Templates::from_embedded("whiteboard", WHITEBOARD, Some(JOB), &[], Mode::Nomad).unwrap());
    let problem = || templates.get(&name).unwrap().problem();
    assert!(matches!(problem(), Some(Problem::Pending(_))));
    templates.parse_jobs(&Parser(Err(jobspec::ParseError::Refused("line 3".to_owned())))).await;
    assert!(matches!(problem(), Some(Problem::Broken(detail)) if detail.contains("line 3")));
    let job = |label: &str| {
        serde_json::json!({"TaskGroups": [{"Networks": [{"DynamicPorts": [{"Label": label}]}],
                           "Tasks": [{"Name": "a", "Env": {"LOG": "x"}}]}]})
    };
    templates.parse_jobs(&Parser(Ok(job("web")))).await;
    assert!(matches!(problem(), Some(Problem::Broken(detail)) if detail.contains("no port \"http\"")));
    let mut nonsense = job("http");
    nonsense["TaskGroups"][0]["Tasks"][0]["Driver"] = "nonsense".into();
    templates.parse_jobs(&Parser(Ok(nonsense))).await;
    assert!(matches!(problem(), Some(Problem::Broken(detail)) if detail.contains("unknown driver")));
    templates.parse_jobs(&Parser(Ok(job("http")))).await;
    assert_eq!(problem(), None);
    assert!(templates.get(&name).unwrap().own_environment().contains("LOG"));
}
