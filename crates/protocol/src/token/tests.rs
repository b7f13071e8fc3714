use proptest::prelude::*;

use super::*;
use crate::{Namespace, TemplateName};

fn name(text: &str) -> TokenName {
    text.parse().unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn globs(texts: &[&str]) -> std::collections::BTreeSet<Glob> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn scope(namespaces: &[&str], templates: &[&str], verbs: &[Verb]) -> Scope {
    Scope {
        namespaces: globs(namespaces),
        templates: globs(templates),
        verbs: verbs.iter().copied().collect(),
    }
}

fn document(token: &Token) -> TokenDocument {
    TokenDocument {
        revision: 1,
        digest: token.digest(),
        previous: None,
        scope: Scope::all(),
        created_at: at(0),
        created_by: name("bootstrap"),
        expires_at: None,
        rotated_at: None,
        last_used_at: None,
    }
}

#[test]
fn a_token_is_not_shown() {
    let token = Token::random(name("ci"));
    let text = token.text();
    let secret = text.expose_secret().strip_prefix("bvk_ci_").unwrap();
    assert_eq!(secret.len(), SECRET_LENGTH);
    assert!(!format!("{token:?}").contains(secret));
    assert!(!serde_json::to_string(&document(&token)).unwrap().contains(secret));
}

#[test]
fn what_is_no_token_is_refused() {
    let secret = "a".repeat(43);
    for text in [
        String::new(),
        "bvk_".into(),
        secret.clone(),
        format!("bvk_{secret}"),
        format!("bvk__{secret}"),
        format!("bvk_Ci_{secret}"),
        format!("bvk_../x_{secret}"),
        format!("BVK_ci_{secret}"),
        format!("bvk_ci_{}", "a".repeat(42)),
        format!("bvk_ci_{}", "a".repeat(44)),
        format!("bvk_ci_{}=", "a".repeat(42)),
        format!("bvk_ci_{}é", "a".repeat(41)),
        format!("bvk_{}_{secret}", "n".repeat(64)),
    ] {
        assert!(Token::parse(&text).is_err(), "{text:?} must be refused");
    }
    assert!(Token::parse(&format!("bvk_ci_{}_-", "a".repeat(41))).is_ok());
}

#[test]
fn only_the_secret_opens_and_only_in_its_time() {
    let (token, other) = (Token::random(name("ci")), Token::random(name("ci")));
    let plain = document(&token);
    assert!(plain.admits(&token.digest(), at(1)) && !plain.admits(&other.digest(), at(1)));

    let expiring = TokenDocument { expires_at: Some(at(10)), ..plain.clone() };
    assert!(expiring.admits(&token.digest(), at(9)) && !expiring.admits(&token.digest(), at(10)));

    let previous = Some(Previous { digest: other.digest(), until: at(10) });
    let rotated = TokenDocument { previous, ..plain };
    assert!(rotated.admits(&other.digest(), at(9)) && rotated.admits(&token.digest(), at(9)));
    assert!(!rotated.admits(&other.digest(), at(10)) && rotated.admits(&token.digest(), at(10)));
    let over = TokenDocument { expires_at: Some(at(5)), ..rotated };
    assert!(!over.admits(&other.digest(), at(9)), "an overlap does not outlive the token");
}

#[test]
fn a_document_is_json_that_an_operator_reads() {
    let token = Token::parse(&format!("bvk_ci_{}", "a".repeat(43))).unwrap();
    let document =
        TokenDocument { scope: scope(&["team-*"], &["*"], &[Verb::Read, Verb::Spawn]), ..document(&token) };
    let json = serde_json::to_value(&document).unwrap();
    assert_eq!(json["namespaces"], serde_json::json!(["team-*"]));
    assert_eq!(json["verbs"], serde_json::json!(["spawn", "read"]));
    assert_eq!(json["digest"], token.digest().to_string());
    assert_eq!(serde_json::from_value::<TokenDocument>(json).unwrap(), document);
}

#[test]
fn a_scope_is_verbs_and_namespaces_and_templates() {
    let scope = scope(&["team-*", "shared"], &["board", "note*"], &[Verb::Spawn, Verb::Read]);
    let permits = |verb, namespace: &str, template: &str| {
        scope.permits(
            verb,
            &namespace.parse::<Namespace>().unwrap(),
            &template.parse::<TemplateName>().unwrap(),
        )
    };
    assert!(permits(Verb::Spawn, "team-a", "board") && permits(Verb::Read, "shared", "notebook"));
    assert!(!permits(Verb::Stop, "team-a", "board"));
    assert!(!permits(Verb::Spawn, "other", "board"));
    assert!(!permits(Verb::Spawn, "team-a", "shell"));
}

#[test]
fn nobody_gives_what_they_have_not() {
    let own = scope(&["team-*"], &["*"], &[Verb::Spawn, Verb::Read, Verb::Tokens]);
    assert!(own.covers(&own) && Scope::all().covers(&own) && !own.covers(&Scope::all()));
    assert!(own.covers(&scope(&["team-a", "team-b-*"], &["board"], &[Verb::Read])));
    assert!(!own.covers(&scope(&["team*"], &["*"], &[Verb::Read])));
    assert!(!own.covers(&scope(&["team-a", "x"], &["*"], &[Verb::Read])));
    assert!(!own.covers(&scope(&["team-a"], &["*"], &[Verb::Stop])));
}

#[test]
fn a_scope_says_something() {
    assert_eq!(Scope::all().check(), Ok(()));
    assert_eq!(scope(&[], &["*"], &[Verb::Read]).check(), Err(InvalidScope("namespaces")));
    assert_eq!(scope(&["*"], &["*"], &[]).check(), Err(InvalidScope("verbs")));
}

/// The definition of a pattern, tried out in every way.
fn slowly(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, _) => text.is_empty(),
        (Some((b'*', rest)), _) => (0..=text.len()).any(|n| slowly(rest, &text[n..])),
        (Some((a, rest)), Some((b, others))) => a == b && slowly(rest, others),
        (Some(_), None) => false,
    }
}

proptest! {
    #[test]
    fn a_tokens_text_is_read_again(label in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?") {
        let token = Token::random(name(&label));
        let read = Token::parse(token.text().expose_secret()).unwrap();
        prop_assert_eq!(&read.name, &token.name);
        prop_assert!(read.digest() == token.digest());
    }

    #[test]
    fn another_character_is_another_token(at in 0usize..43, to in "[A-Za-z0-9_-]") {
        let token = Token::random(name("ci"));
        let mut text = token.text().expose_secret().to_owned();
        let at = text.len() - 43 + at;
        let same = text[at..=at] == to;
        text.replace_range(at..=at, &to);
        prop_assert_eq!(Token::parse(&text).unwrap().digest() == token.digest(), same);
    }

    #[test]
    fn arbitrary_text_never_panics_and_only_tokens_pass(text in ".{0,120}") {
        if let Ok(token) = Token::parse(&text) {
            let again = token.text();
            prop_assert_eq!(again.expose_secret(), &text);
        }
        let _ = text.parse::<Glob>();
    }

    #[test]
    fn a_pattern_matches_as_defined(pattern in "[ab*]{1,8}", text in "[ab]{0,10}") {
        let glob: Glob = pattern.parse().unwrap();
        prop_assert_eq!(glob.matches(&text), slowly(pattern.as_bytes(), text.as_bytes()));
    }

    #[test]
    fn what_is_covered_permits_no_more(ours in "[ab*]{1,6}", theirs in "[ab*]{1,6}", text in "[ab]{0,8}") {
        let (ours, theirs): (Glob, Glob) = (ours.parse().unwrap(), theirs.parse().unwrap());
        if ours.covers(&theirs) && theirs.matches(&text) {
            prop_assert!(ours.matches(&text), "{} {} {}", ours, theirs, text);
        }
    }
}
