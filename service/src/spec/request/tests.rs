use proptest::prelude::*;

use super::*;
use crate::spec::template::Mode;

const TEMPLATE: &str = r#"
access       = "public"
idle_timeout = { default = "30s", min = "5s", max = "10m" }
allow        = ["env", "resources"]
[ports.http]
[params.doc]
pattern  = "[a-z0-9-]{1,64}"
required = true
[params.title]
[process]
command = ["whiteboard"]
env = { LOG = "info" }
"#;

fn templates() -> Templates {
    let mut templates = Templates::default();
    templates.insert(Templates::from_embedded("board", TEMPLATE, None, &[], Mode::Processes).unwrap());
    templates.insert(
        Templates::from_embedded(
            "strict",
            "access = \"public\"\n[ports.http]\n[process]\ncommand=[\"x\"]",
            None,
            &[],
            Mode::Processes,
        )
        .unwrap(),
    );
    let none = "access = \"public\"\n[ports.http]";
    templates.insert(Templates::from_embedded("none", none, None, &[], Mode::Processes).unwrap());
    templates
}

fn read(body: &str) -> Result<Spec, RequestError> {
    parse(body.as_bytes(), &templates(), &"secret".to_owned().into(), |_, _| Ok(()))
}

#[test]
fn a_key_decides_the_id_and_without_one_it_is_random() {
    let keyed = r#"{"template": "board", "key": "doc-1", "params": {"doc": "d"}, "idle_timeout": "1m", "env": {"A": "b"},
                    "resources": {"cpu": 100}, "labels": {"team": "x y"}, "user": "ada", "max_lifetime": "1h"}"#;
    let spec = read(keyed).unwrap();
    assert_eq!(spec.id, read(keyed).unwrap().id);
    assert_eq!(spec.policy.idle_timeout, Span::seconds(60));
    assert_eq!(spec.policy.max_lifetime, Some(Span::seconds(3600)));
    assert_eq!(spec.namespace.as_str(), "default");
    let free = r#"{"template": "board", "params": {"doc": "d"}}"#;
    assert_ne!(read(free).unwrap().id, read(free).unwrap().id);
}

#[test]
fn every_complaint_names_its_field() {
    let fields = |inner: &str| format!(r#"{{"template": "board", "params": {{"doc": "d"}}, {inner}}}"#);
    for (body, words) in [
        (fields(r#""key": """#), "key: must be 1 to 256"),
        (fields(r#""key": "../..""#), "key: must"),
        (fields(r#""key": "a\u0000b""#), "key: must"),
        (fields(r#""key": "${attr.cpu.arch}""#), "key: must"),
        (fields(&format!(r#""key": "{}""#, "k".repeat(5000))), "key: must"),
        (fields(r#""key": 5"#), "key: invalid type: integer `5`, expected a string"),
        (fields(r#""namespace": "A""#), "namespace: must be a DNS label"),
        (fields(r#""env": {"A": 1}"#), "env.A: invalid type"),
        (fields(r#""env": {"A-B": "x"}"#), "env.A-B: must be"),
        (fields(r#""env": {"NOMAD_TOKEN": "x"}"#), "env.NOMAD_TOKEN: is reserved"),
        (fields(r#""env": {"LOG": "x"}"#), "env.LOG: is set by the template"),
        (fields(r#""env": {"DOC": "x"}"#), "env.DOC: is set by the template"),
        (fields(r#""env": {"A": "x\u0000"}"#), "env.A: must not contain NUL"),
        (fields(&format!(r#""env": {{"A": "{}"}}"#, "x".repeat(4097))), "env.A: must be at most"),
        (fields(r#""args": ["x"]"#), "args: template board does not let"),
        (fields(r#""image": "x""#), "image: template board does not let"),
        (fields(r#""resources": {"cpu": -1}"#), "resources.cpu: invalid value"),
        (fields(r#""resources": {"cpu": 0}"#), "resources.cpu: must be between"),
        (fields(r#""idle_timeout": "1s""#), "idle_timeout: must be between 5s and 10m"),
        (fields(r#""idle_timeout": "soon""#), "idle_timeout: must be a duration"),
        (fields(r#""idle_timeout": 30"#), "idle_timeout: invalid type"),
        (fields(r#""startup_timeout": "1s""#), "startup_timeout: the template fixes it at 2m"),
        (fields(r#""quiet_timeout": "0s""#), "quiet_timeout: must be between"),
        (fields(r#""quiet_timeout": "soon""#), "quiet_timeout: must be a duration"),
        (fields(r#""max_lifetime": "0s""#), "max_lifetime: must be between"),
        (fields(r#""labels": {"a b": "x"}"#), "labels.a b: a label's name"),
        (fields(r#""labels": {"a": "x\n"}"#), "labels.a: must be at most"),
        (fields(r#""user": """#), "user: must not be empty"),
        (r#"{"template": "board", "params": {"doc": "D"}}"#.to_owned(), "params.doc: must match"),
        (
            r#"{"template": "board", "params": {"doc": "d", "x": ""}}"#.to_owned(),
            "params.x: template board has no",
        ),
        (r#"{"template": "board"}"#.to_owned(), "params.doc: template board requires it"),
        (r#"{"template": "../x"}"#.to_owned(), "template: must be a DNS label"),
        (r#"[1]"#.to_owned(), "the body: must be a JSON object"),
        (r#"1"#.to_owned(), "the body: invalid"),
        (r#"{}"#.to_owned(), "missing field `template`"),
    ] {
        match read(&body) {
            Err(RequestError::InvalidField(invalid)) => {
                assert!(invalid.to_string().contains(words), "{body}: {invalid}");
            }
            other => panic!("{body}: {other:?}"),
        }
    }
}

#[test]
fn what_is_unknown_unsupported_or_no_json_is_told_apart() {
    let unknown = read(r#"{"template": "board", "privileged": true}"#).unwrap_err();
    assert!(matches!(unknown, RequestError::UnknownField(text) if text.contains("privileged")));
    let nested = read(r#"{"template": "board", "resources": {"gpu": 1}}"#).unwrap_err();
    assert!(matches!(nested, RequestError::UnknownField(text) if text.contains("gpu")));
    for body in ["", "{", "nonsense", r#"{"template": "board"} x"#, "{\"template\": \"\u{1}\"}"] {
        assert!(matches!(read(body), Err(RequestError::InvalidJson(_))), "{body:?}");
    }
    let deep = format!(r#"{{"claims": {{"a": {}}}}}"#, "[".repeat(10_000));
    assert!(matches!(read(&deep), Err(RequestError::InvalidJson(_))));
    assert!(matches!(read(r#"{"template": "nope"}"#), Err(RequestError::UnknownTemplate(_))));
    assert!(matches!(read(r#"{"template": "none"}"#), Err(RequestError::TemplateDisabled { .. })));
}

proptest! {
    #[test]
    fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&body, &templates(), &"secret".to_owned().into(), |_, _| Ok::<_, RequestError>(()));
    }

    #[test]
    fn whatever_the_text_a_spawn_has_only_checked_values(title in any::<String>(), env in any::<String>()) {
        let body = serde_json::json!({"template": "board", "params": {"doc": "d", "title": title}, "env": {env: title}});
        if let Ok(spec) = read(&body.to_string()) {
            prop_assert!(!spec.request.params["title"].contains('\0'));
            prop_assert!(spec.request.env.keys().all(|name| environment_name(name)));
        }
    }
}

fn environment_name(name: &str) -> bool {
    crate::spec::environment::check(name).is_ok()
}
