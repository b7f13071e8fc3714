//! Leases: explicit promises to keep a session alive until a time.

use std::sync::Arc;

use axum::Json as Reply;
use axum::extract::State;
use bivouac_protocol::Span;
use bivouac_protocol::token::Verb;
use jiff::Timestamp;
use serde::Deserialize;

use super::Control;
use super::auth::Caller;
use super::input::{Json, Leased, invalid};
use super::problem::Problem;
use super::seen::Seen;
use super::sessions::{find, to_the_end};
use crate::session::LeaseLength;
use crate::spec::request::decode;

/// How long: exactly one of the two.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(rename = "for")]
    span: Option<String>,
    until: Option<String>,
}

/// `PUT /v1/sessions/{id}/leases/{name}`
pub(crate) async fn put(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Leased(id, name): Leased,
    Json(body): Json,
) -> Result<Reply<Seen>, Problem> {
    find(&control, &caller, Verb::Lease, &id).await?;
    let length = length(&body)?;
    let (sessions, permit) = (control.sessions.clone(), caller.permit(Verb::Lease));
    let view = to_the_end(async move { sessions.lease(&id, &name, length, permit).await }).await?;
    caller.answer(Verb::Lease, &view).map(Reply)
}

/// `DELETE /v1/sessions/{id}/leases/{name}`
pub(crate) async fn delete(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Leased(id, name): Leased,
) -> Result<Reply<Seen>, Problem> {
    find(&control, &caller, Verb::Lease, &id).await?;
    let (sessions, permit) = (control.sessions.clone(), caller.permit(Verb::Lease));
    let view = to_the_end(async move { sessions.release(&id, &name, permit).await }).await?;
    caller.answer(Verb::Lease, &view).map(Reply)
}

fn length(body: &[u8]) -> Result<LeaseLength, Problem> {
    let body: Body = decode(body)?;
    match (body.span, body.until) {
        (Some(span), None) => {
            let span: Span = span.parse().map_err(|why| invalid("for", &format!("{why}")))?;
            Ok(LeaseLength::For(span))
        }
        (None, Some(until)) => {
            let rule = "must be a time in RFC 3339, such as \"2030-01-31T18:00:00Z\"";
            let until: Timestamp = until.parse().map_err(|_| invalid("until", rule))?;
            Ok(LeaseLength::Until(until))
        }
        _ => Err(invalid("the body", "must have either `for` (\"10m\") or `until` (a time in RFC 3339)")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn exactly_one_of_both_is_read() {
        let parsed = |body: &str| length(body.as_bytes()).ok();
        assert_eq!(parsed(r#"{"for": "10m"}"#), Some(LeaseLength::For(Span::seconds(600))));
        let until = Timestamp::from_second(1_000_000).unwrap();
        assert_eq!(parsed(r#"{"until": "1970-01-12T13:46:40Z"}"#), Some(LeaseLength::Until(until)));
        assert_eq!(parsed(r#"{"until": "1970-01-12T15:46:40+02:00"}"#), Some(LeaseLength::Until(until)));
        for refused in [
            "",
            "[]",
            "{}",
            "null",
            r#""10m""#,
            r#"{"for": 600}"#,
            r#"{"for": "10"}"#,
            r#"{"for": "-10m"}"#,
            r#"{"for": "10m", "until": "1970-01-12T13:46:40Z"}"#,
            r#"{"until": "tomorrow"}"#,
            r#"{"until": "1970-01-12T13:46:40"}"#,
            r#"{"until": 1000000}"#,
            r#"{"For": "10m"}"#,
            r#"{"for": "10m", "for": "20m"}"#,
        ] {
            assert_eq!(parsed(refused), None, "{refused}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,60}") {
            let _ = length(text.as_bytes());
            let _ = length(serde_json::json!({ "for": text }).to_string().as_bytes());
            let _ = length(serde_json::json!({ "until": text }).to_string().as_bytes());
        }
    }
}
