//! A refusal as a message: problem+json for programs, a page for people. Pure.

pub(crate) mod timeline;

use http::{Method, StatusCode};
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

/// An answer of the proxy's own, whatever it is sent over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// All fields but `Content-Length` and those of the connection.
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// The refusal as a message.
    pub(crate) fn of(refusal: &Refusal, request_id: &str, audience: Audience) -> Self {
        let (kind, body) = match audience {
            Audience::Program => ("application/problem+json", problem(refusal, request_id)),
            Audience::Person => ("text/html; charset=utf-8", page(refusal, request_id)),
        };
        let mut fields = vec![
            ("Content-Type", kind.to_owned()),
            ("Cache-Control", "no-store".to_owned()),
            ("X-Request-Id", request_id.to_owned()),
        ];
        if let Some(seconds) = refusal.retry_after() {
            fields.push(("Retry-After", seconds.to_string()));
        }
        if refusal.asks_for_a_ticket() {
            fields.push(("WWW-Authenticate", challenge(refusal).to_owned()));
        }
        if *refusal == Refusal::MethodNotAllowed {
            fields.push(("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".to_owned()));
        }
        Self { status: refusal.status(), fields, body }
    }

    /// The whole message, as it goes over an HTTP/1 connection.
    pub(crate) fn to_http1(&self, method: &Method, persistence: Persistence) -> Vec<u8> {
        let status = self.status;
        let reason = status.canonical_reason().unwrap_or_default();
        let mut head =
            format!("HTTP/1.1 {} {reason}\r\nContent-Length: {}\r\n", status.as_str(), self.body.len());
        for (name, value) in &self.fields {
            head += &format!("{name}: {value}\r\n");
        }
        head += match persistence {
            Persistence::Implied => "",
            Persistence::Announced => "Connection: keep-alive\r\n",
            Persistence::Close => "Connection: close\r\n",
        };
        head += "\r\n";
        if *method != Method::HEAD {
            head += &self.body;
        }
        head.into_bytes()
    }
}

/// What a client is asked for (RFC 6750: an error is only named where something was shown).
fn challenge(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::TicketMissing => "Bearer realm=\"bivouac\"",
        _ => "Bearer realm=\"bivouac\", error=\"invalid_token\"",
    }
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
    let progress = match refusal {
        Refusal::StillStarting { progress, .. } => Some(progress),
        _ => None,
    };
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
        "timeline" => progress.map(timeline::shown).unwrap_or_default(),
        "reason" => reason.clone().unwrap_or_default(),
        _ => String::new(),
    };
    filled(if progress.is_some() { START_PAGE } else { ERROR_PAGE }, fill)
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
pub(crate) mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use bivouac_protocol::{Reason, ReasonCode};

    use super::timeline::Progress;
    use super::*;

    fn text(refusal: &Refusal, audience: Audience) -> (String, String) {
        let answer = Answer::of(refusal, "req-1", audience);
        let text = String::from_utf8(answer.to_http1(&Method::GET, Persistence::Implied)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        assert!(head.contains("Cache-Control: no-store"));
        (head.to_owned(), body.to_owned())
    }

    fn starting(retry_after: Duration) -> Refusal {
        Refusal::StillStarting { retry_after, progress: Progress::default() }
    }

    /// One of each.
    pub(crate) fn every() -> Vec<Refusal> {
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
            starting(Duration::from_millis(1500)),
            Refusal::TooManyWaiting,
            Refusal::TooManyConnections,
            Refusal::Unresolvable,
            Refusal::BackendUnreachable,
            Refusal::BackendFailed,
            Refusal::SessionUnreachable,
            Refusal::Draining,
            Refusal::BodyTooLarge,
            Refusal::BodyTimeout,
            Refusal::UnknownPort,
            Refusal::TicketMissing,
            Refusal::TicketInvalid,
            Refusal::TicketExpired,
            Refusal::TicketWrongSession,
            Refusal::TicketRevoked,
            Refusal::TicketUsed,
            Refusal::TicketMisplaced,
            Refusal::OriginRefused,
            Refusal::TicketsUnavailable,
            Refusal::UpgradeUnsupported,
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
        let (head, _) = text(&starting(Duration::from_millis(200)), Audience::Program);
        assert!(head.starts_with("HTTP/1.1 503 ") && head.ends_with("\r\nRetry-After: 1"), "{head}");
    }

    #[test]
    fn whoever_needs_a_ticket_is_told_how_it_is_shown() {
        for refusal in every() {
            let (head, _) = text(&refusal, Audience::Program);
            let asks = head.contains("WWW-Authenticate: Bearer realm=\"bivouac\"");
            assert_eq!(asks, refusal.status() == StatusCode::UNAUTHORIZED, "{head}");
            let wrong = asks && refusal != Refusal::TicketMissing;
            assert_eq!(head.contains("error=\"invalid_token\""), wrong, "{head}");
        }
    }

    #[test]
    fn head_gets_no_body() {
        let answer = Answer::of(&Refusal::UnknownHost, "r", Audience::Program);
        assert!(answer.to_http1(&Method::HEAD, Persistence::Close).ends_with(b"Connection: close\r\n\r\n"));
    }
}
