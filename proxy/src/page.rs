//! A refusal as a message: problem+json for programs, a page for people. Pure.

use http::Method;
use serde_json::json;

use crate::headers::Persistence;
use crate::refusal::{Refusal, START_PAGE_REFRESH};

const START_PAGE: &str = include_str!("page/start.html");
const ERROR_PAGE: &str = include_str!("page/error.html");

/// For whom the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// It gets JSON.
    Program,
    /// They get a page.
    Person,
}

/// The whole response as bytes.
pub(crate) fn render(
    refusal: &Refusal,
    request_id: &str,
    audience: Audience,
    method: &Method,
    persistence: Persistence,
) -> Vec<u8> {
    let (kind, body) = match audience {
        Audience::Program => ("application/problem+json", problem(refusal, request_id)),
        Audience::Person => ("text/html; charset=utf-8", page(refusal, request_id)),
    };
    let status = refusal.status();
    let mut head = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nX-Request-Id: {request_id}\r\n",
        status.as_str(),
        status.canonical_reason().unwrap_or_default(),
        body.len(),
    );
    if let Some(seconds) = refusal.retry_after() {
        head += &format!("Retry-After: {seconds}\r\n");
    }
    if *refusal == Refusal::MethodNotAllowed {
        head += "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n";
    }
    head += match persistence {
        Persistence::Implied => "",
        Persistence::Announced => "Connection: keep-alive\r\n",
        Persistence::Close => "Connection: close\r\n",
    };
    head += "\r\n";
    if *method != Method::HEAD {
        head += &body;
    }
    head.into_bytes()
}

fn problem(refusal: &Refusal, request_id: &str) -> String {
    let mut problem = json!({
        "type": "about:blank",
        "title": refusal.title(),
        "status": refusal.status().as_u16(),
        "code": refusal.code(),
        "detail": refusal.advice(),
        "request_id": request_id,
    });
    if let Some(reason) = refusal.reason() {
        problem["reason"] = json!(reason.for_users());
    }
    problem.to_string()
}

fn page(refusal: &Refusal, request_id: &str) -> String {
    let starting = matches!(refusal, Refusal::StillStarting { .. });
    let reason = refusal.reason().map(|reason| match &reason.detail {
        Some(detail) => format!("<p>Reason: {} ({})</p>", reason.code.as_str(), escape(detail)),
        None => format!("<p>Reason: {}</p>", reason.code.as_str()),
    });
    let fill = |name: &str| match name {
        "title" => refusal.title().to_owned(),
        "advice" => escape(refusal.advice()),
        "code" => refusal.code().to_owned(),
        "request" => escape(request_id),
        "refresh" => START_PAGE_REFRESH.as_secs().to_string(),
        "reason" => reason.clone().unwrap_or_default(),
        _ => String::new(),
    };
    filled(if starting { START_PAGE } else { ERROR_PAGE }, fill)
}

/// Replaces each `{{name}}` once; what is filled in is never searched for further names.
fn filled(template: &str, fill: impl Fn(&str) -> String) -> String {
    let mut page = String::with_capacity(template.len() + 256);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else { break };
        page += before;
        page += &fill(name);
        rest = after;
    }
    page + rest
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use bivouac_protocol::{Reason, ReasonCode};

    use super::*;

    fn text(refusal: &Refusal, audience: Audience) -> (String, String) {
        let bytes = render(refusal, "req-1", audience, &Method::GET, Persistence::Implied);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        assert!(head.contains("Cache-Control: no-store"));
        (head.to_owned(), body.to_owned())
    }

    fn every() -> Vec<Refusal> {
        let reason = Some(Reason::new(ReasonCode::Exited, "<script>alert(1)</script> {{code}}"));
        vec![
            Refusal::BadRequest("no Host"),
            Refusal::HeadTooLarge,
            Refusal::HeadTimeout,
            Refusal::MethodNotAllowed,
            Refusal::UnknownHost,
            Refusal::UnknownSession,
            Refusal::Ended(reason.clone()),
            Refusal::Ended(None),
            Refusal::StartFailed(reason),
            Refusal::StillStarting { retry_after: Duration::from_millis(1500) },
            Refusal::TooManyWaiting,
            Refusal::Unresolvable,
            Refusal::BackendUnreachable,
            Refusal::BackendFailed,
            Refusal::SessionUnreachable,
            Refusal::Draining,
        ]
    }

    #[test]
    fn json_and_page_carry_the_same_code_and_the_request_id() {
        for refusal in every() {
            let (head, body) = text(&refusal, Audience::Program);
            let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(problem["code"], refusal.code());
            assert_eq!(problem["status"], refusal.status().as_u16());
            assert_eq!(problem["request_id"], "req-1");
            assert!(head.contains("X-Request-Id: req-1"));
            let (_, page) = text(&refusal, Audience::Person);
            assert!(page.contains(refusal.code()) && page.contains("req-1"));
            assert!(!page.contains("{{title}}") && !page.contains("<script>"), "{page}");
        }
    }

    #[test]
    fn the_list_of_codes_is_complete() {
        let codes: BTreeSet<_> = every().iter().map(Refusal::code).collect();
        assert_eq!(codes, BTreeSet::from(Refusal::CODES));
    }

    #[test]
    fn only_the_start_page_refreshes_itself() {
        for refusal in every() {
            let (_, page) = text(&refusal, Audience::Person);
            let starting = matches!(refusal, Refusal::StillStarting { .. });
            assert_eq!(page.contains("http-equiv=\"refresh\""), starting, "{refusal:?}");
        }
    }

    #[test]
    fn a_start_says_when_to_come_back() {
        let (head, _) =
            text(&Refusal::StillStarting { retry_after: Duration::from_millis(200) }, Audience::Program);
        assert!(head.starts_with("HTTP/1.1 503 ") && head.ends_with("\r\nRetry-After: 1"), "{head}");
    }

    #[test]
    fn head_gets_no_body() {
        let bytes = render(&Refusal::UnknownHost, "r", Audience::Program, &Method::HEAD, Persistence::Close);
        assert!(bytes.ends_with(b"Connection: close\r\n\r\n"));
    }
}
