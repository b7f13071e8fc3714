//! The service: reached, ready, our token accepted, every member heard, every template usable.

use reqwest::header::{ACCEPT, AUTHORIZATION};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::agents::{self, Heard};
use super::report::Finding;

/// Looks at it. Returns the findings and, if it answered, one answer for the clocks.
pub(crate) async fn examine(
    http: &reqwest::Client,
    api: &Url,
    token: Option<&SecretString>,
) -> (Vec<Finding>, Option<Heard>) {
    let readiness = agents::ask(http.get(at(api, "readyz")).header(ACCEPT, "application/json")).await;
    let readiness = match readiness {
        Ok(heard) => heard,
        Err(silence) => {
            let found = format!("the service at {api} does not answer: {}", silence.0);
            let fix = "Start it, or give the address of one that runs with --addr.";
            return (vec![Finding::error("service.reachable", found, fix)], None);
        }
    };
    let checks = readiness.json();
    let Some(checks) = checks["checks"].as_array() else {
        let found = format!("what answers at {api} is not the service ({})", readiness.said());
        let fix =
            "Give the address of its API with --addr; behind a balancer, allow its name with --allow-host.";
        return (vec![Finding::error("service.reachable", found, fix)], Some(readiness));
    };
    let mut findings = vec![Finding::ok("service.reachable", format!("the service answers at {api}"))];
    findings.extend(checks.iter().map(checked));
    match token {
        None => findings.push(Finding::skipped("service.token", "no API token was given: --token-file")),
        Some(token) => findings.extend(with_token(http, api, token).await),
    }
    (findings, Some(readiness))
}

/// One line of `/readyz`.
fn checked(check: &Value) -> Finding {
    let name = format!("service.ready.{}", check["name"].as_str().unwrap_or("unknown"));
    let detail = check["detail"].as_str().unwrap_or_default();
    match (check["ok"].as_bool(), check["required"].as_bool()) {
        (Some(true), _) => Finding::ok(name, detail),
        (_, Some(true)) => {
            Finding::error(name, detail, "The service refuses spawns until this is mended; see its log.")
        }
        _ => Finding::warning(name, detail, "The service serves nevertheless; see its log."),
    }
}

async fn with_token(http: &reqwest::Client, api: &Url, token: &SecretString) -> Vec<Finding> {
    let bearer = format!("Bearer {}", token.expose_secret());
    let get = |path| agents::ask(http.get(at(api, path)).header(AUTHORIZATION, &bearer));
    let templates = match get("v1/templates").await {
        Ok(heard) if heard.is_ok() => heard,
        Ok(heard) => {
            let found = format!("the service refuses our API token ({})", problem(&heard));
            let fix =
                "Give a token that `bivouac token create` made, or the bootstrap token, with --token-file.";
            return vec![Finding::error("service.token", found, fix)];
        }
        Err(silence) => {
            return vec![Finding::error("service.token", silence.0, "Look at the service's log.")];
        }
    };
    let mut findings = vec![Finding::ok("service.token", "the service accepts our API token")];
    findings.extend(each_template(&templates.json()["templates"]));
    findings.extend(match get("v1/members").await {
        Ok(heard) if heard.is_ok() => each_member(&heard.json()["members"]),
        Ok(heard) => {
            let why = format!("our API token may not list the members ({})", problem(&heard));
            vec![Finding::skipped("service.members", why)]
        }
        Err(silence) => {
            vec![Finding::error("service.members", silence.0, "Look at the service's log.")]
        }
    });
    findings
}

fn each_template(templates: &Value) -> Vec<Finding> {
    const CHECK: &str = "service.templates";
    let all = templates.as_array().map(Vec::as_slice).unwrap_or_default();
    if all.is_empty() {
        let fix = "Put a folder with a template.toml into the folder that --templates of the service names.";
        return vec![Finding::warning(CHECK, "there is no template to spawn from", fix)];
    }
    let broken = all.iter().filter(|template| template["enabled"] != Value::Bool(true));
    let mut findings: Vec<_> = broken
        .map(|template| {
            let name = template["name"].as_str().unwrap_or_default();
            let why = template["problem"].as_str().unwrap_or("no reason is told");
            let fix = "Correct its jobspec: `nomad job validate` says what Nomad thinks of it.";
            Finding::error(CHECK, format!("template {name} cannot be spawned from: {why}"), fix)
        })
        .collect();
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, format!("all {} templates can be spawned from", all.len())));
    }
    findings
}

fn each_member(members: &Value) -> Vec<Finding> {
    const CHECK: &str = "service.members";
    let all = members.as_array().map(Vec::as_slice).unwrap_or_default();
    if all.is_empty() {
        let found = "no proxy is a member: nobody serves sessions, and nothing is stopped for idleness";
        return vec![Finding::error(CHECK, found, "Start a proxy, or look into the log of one that runs.")];
    }
    let silent = all.iter().filter(|member| member["linked"] != Value::Bool(true));
    let mut findings: Vec<_> = silent
        .map(|member| {
            let text = |name: &str| member[name].as_str().unwrap_or_default().to_owned();
            let found = format!(
                "proxy {} on {} is silent: until it is heard again nothing is stopped for idleness",
                text("boot"),
                text("host")
            );
            let fix = format!(
                "If it runs, look why it cannot link (its log; the service's internal listener; the link secret). If its \
                 process is dead for good: bivouac members forget {}",
                text("boot")
            );
            Finding::error(CHECK, found, fix)
        })
        .collect();
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, format!("all {} proxies are heard", all.len())));
    }
    findings
}

/// A refusal in the API's own words.
fn problem(heard: &Heard) -> String {
    let json = heard.json();
    match (json["code"].as_str(), json["title"].as_str()) {
        (Some(code), Some(title)) => format!("{code}: {title}"),
        _ => heard.said(),
    }
}

fn at(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path.split('/'));
    }
    url
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::report::Level;
    use super::*;

    #[test]
    fn a_silent_proxy_is_named_with_what_to_do() {
        let members = json!([{"boot": "aaaa", "host": "h1", "linked": true}, {"boot": "bbbb", "host": "h2", "linked": false}]);
        let findings = each_member(&members);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].level, Level::Error);
        assert!(findings[0].fix.as_ref().unwrap().ends_with("members forget bbbb"));
        assert_eq!(each_member(&json!([]))[0].level, Level::Error);
    }

    #[test]
    fn what_is_not_required_is_a_warning() {
        let check =
            |required| checked(&json!({"name": "x", "ok": false, "required": required, "detail": "d"})).level;
        assert_eq!((check(true), check(false)), (Level::Error, Level::Warning));
    }

    #[test]
    fn addresses_with_a_path_keep_it() {
        assert_eq!(at(&"http://h:1/x/".parse().unwrap(), "v1/members").as_str(), "http://h:1/x/v1/members");
    }
}
