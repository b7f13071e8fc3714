//! Why a call has no answer, or not the one hoped for.

use reqwest::StatusCode;

/// Nomad's answers, by what a caller can do about them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such object.
    #[error("Nomad knows no such object: {0}")]
    NotFound(String),
    /// The object exists already, in another version than the caller expected.
    #[error("it exists in Nomad already")]
    Exists,
    /// The token is missing, unknown, expired or not allowed to do this.
    #[error("Nomad refuses the token: {0}")]
    Denied(String),
    /// Nomad understood the request and will refuse it again.
    #[error("Nomad refuses: {0}")]
    Invalid(String),
    /// Nobody could answer now. A write may have been carried out or not.
    #[error("Nomad is not available: {0}")]
    Unavailable(String),
    /// The answer is not one of Nomad's API: something else listens there.
    #[error("the answer is not Nomad's: {0}")]
    Foreign(String),
    /// The client cannot be made from its configuration.
    #[error("{0}")]
    Setup(String),
}

impl Error {
    /// Whether the same request may succeed later with nothing changed on our side.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Foreign(_))
    }

    /// Reads a refusal. Nomad answers with plain text, mostly under status 500: the text decides.
    pub(crate) fn refusal(status: StatusCode, body: &str) -> Self {
        let text = sentence(body);
        match status.as_u16() {
            404 => Self::NotFound(text),
            403 if contains_any(&text, REGISTRATION_OFF) => Self::Invalid(text),
            401 | 403 => Self::Denied(text),
            400 | 405 | 413 => Self::Invalid(text),
            500 => Self::internal(text),
            300..400 => Self::Foreign(format!("a redirect ({status})")),
            _ => Self::Unavailable(format!("status {status}: {text}")),
        }
    }

    fn internal(text: String) -> Self {
        if text.contains("Enforcing job modify index") {
            Self::Exists
        } else if contains_any(&text, DENIALS) {
            Self::Denied(text)
        } else if contains_any(&text, REFUSALS) && !contains_any(&text, TRANSIENT) {
            Self::Invalid(text)
        } else {
            // What is not known to be final is asked again: a caller has a time limit, a wrong verdict has none.
            Self::Unavailable(text)
        }
    }

    /// No answer, or half of one.
    pub(crate) fn wire(error: reqwest::Error) -> Self {
        // The URL would repeat the query; the address is the caller's to name.
        let error = error.without_url();
        if error.is_timeout() {
            return Self::Unavailable("no answer in time".into());
        }
        Self::Unavailable(causes(&error))
    }
}

/// An operator's switch; a human turns it back, not time.
const REGISTRATION_OFF: &[&str] = &["disabled by the scheduler configuration"];

const DENIALS: &[&str] =
    &["Permission denied", "ACL token not found", "ACL token expired", "UUID must be 36 characters"];

/// Marks of a validation that failed: the same job would be refused again.
const REFUSALS: &[&str] = &[
    "error occurred:",
    "errors occurred:",
    "nonexistent",
    "must ",
    "cannot ",
    "can't ",
    "not allow",
    "invalid",
    "Missing ",
    "missing ",
    "unsupported",
    "exceeds",
    "denied by",
];

/// Marks of a cluster that is about to recover, even where the text also names a reason.
const TRANSIENT: &[&str] = &[
    "No cluster leader",
    "no leader",
    "not the leader",
    "leadership lost",
    "No path to region",
    "failed to get conn",
    "connection re",
    "i/o timeout",
    "deadline exceeded",
    "shutting down",
    "shutdown",
    "not ready",
    "broken pipe",
    "session closed",
    "cannot be reached",
];

fn contains_any(text: &str, marks: &[&str]) -> bool {
    marks.iter().any(|mark| text.contains(mark))
}

/// One line for people: the prefixes that forwarding between servers adds, and the layout of Go's lists of errors,
/// say nothing to them.
pub(crate) fn sentence(body: &str) -> String {
    const LONGEST: usize = 2000;
    let mut text = body.trim();
    while let Some(rest) = text.strip_prefix("rpc error: ") {
        text = rest.trim_start();
    }
    let mut lines =
        text.lines().map(|line| line.trim().trim_start_matches("* ")).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let rest: Vec<&str> = lines.collect();
    let line = match (first.ends_with("occurred:"), rest.is_empty()) {
        (_, true) => first.to_owned(),
        (true, false) => format!("{first} {}", rest.join("; ")),
        (false, false) => format!("{first}; {}", rest.join("; ")),
    };
    line.chars().take(LONGEST).collect()
}

/// The whole chain: the outermost text of an HTTP client says only that "sending the request" failed.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn internal(text: &str) -> Error {
        Error::refusal(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    #[test]
    fn an_existing_job_is_recognised_directly_and_after_forwarding() {
        let text = "Enforcing job modify index 0: job already exists";
        assert_eq!(internal(text), Error::Exists);
        assert_eq!(internal(&format!("rpc error: {text}")), Error::Exists);
    }

    #[test]
    fn recorded_refusals_are_told_apart() {
        #[derive(serde::Deserialize)]
        struct Recorded {
            status: u16,
            text: String,
        }
        let recorded: Vec<Recorded> =
            serde_json::from_str(include_str!("../tests/fixtures/refusals.json")).unwrap();
        let errors: Vec<Error> = recorded
            .iter()
            .map(|r| Error::refusal(StatusCode::from_u16(r.status).unwrap(), &r.text))
            .collect();
        let [exists, no_groups, no_pool, unparsable, missing, region] = errors.as_slice() else {
            panic!("{errors:?}")
        };
        assert_eq!(*exists, Error::Exists);
        assert_eq!(*no_groups, Error::Invalid("1 error occurred: Missing job task groups".into()));
        assert!(matches!(no_pool, Error::Invalid(text) if text.contains("nonexistent node pool")));
        assert!(matches!(unparsable, Error::Invalid(text) if text.contains("input.hcl:1")));
        assert_eq!(*missing, Error::NotFound("job not found".into()));
        assert!(region.is_retryable());
    }

    #[test]
    fn a_failed_validation_is_final_and_reads_as_a_sentence() {
        let text = "rpc error: 2 errors occurred:\n\t* Missing job task groups\n\t* job is in nonexistent namespace \"x\"\n\n";
        let expected = "2 errors occurred: Missing job task groups; job is in nonexistent namespace \"x\"";
        assert_eq!(internal(text), Error::Invalid(expected.into()));
    }

    #[test]
    fn a_cluster_that_may_recover_is_asked_again() {
        for text in [
            "No cluster leader",
            "rpc error: No cluster leader",
            "No path to region",
            "rpc error: failed to get conn: rpc error: lead thread didn't get connection",
            "rpc error: EOF",
            "node is not the leader",
            "leadership lost while committing log",
            "something nobody has seen before",
        ] {
            assert!(internal(text).is_retryable(), "{text}");
        }
        assert!(Error::refusal(StatusCode::TOO_MANY_REQUESTS, "").is_retryable());
        assert!(Error::refusal(StatusCode::BAD_GATEWAY, "").is_retryable());
    }

    #[test]
    fn a_refused_token_is_neither_final_nor_a_missing_object() {
        for error in [
            Error::refusal(StatusCode::FORBIDDEN, "Permission denied"),
            Error::refusal(StatusCode::FORBIDDEN, "ACL token not found"),
            internal("rpc error: Permission denied"),
        ] {
            assert!(matches!(error, Error::Denied(_)), "{error:?}");
        }
        let switched_off =
            "job registration, dispatch, and scale are disabled by the scheduler configuration";
        assert!(matches!(Error::refusal(StatusCode::FORBIDDEN, switched_off), Error::Invalid(_)));
    }
}
