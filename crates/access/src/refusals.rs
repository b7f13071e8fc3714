//! What is refused at present. Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use tokio::time::Instant;
use url::Url;

/// A refusal that nobody has met again for so long is forgotten: some calls are made once in a session's life.
const REMEMBERED: Duration = Duration::from_secs(300);

/// What is worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// Something is refused that was not before.
    Refused {
        /// What: `PUT /v1/txn`.
        call: String,
        /// In the agent's words.
        detail: String,
    },
    /// Nothing is refused any more.
    Permitted,
}

/// One kind of call that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    /// What was asked for, or was to be changed.
    url: Url,
    /// Asking again changes nothing.
    question: bool,
    detail: String,
    /// The token itself is not accepted, so that whatever is permitted later shows that it is again.
    whole: bool,
    met: Instant,
}

/// All kinds of calls that are refused. There are some dozens of them at most.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusals {
    calls: BTreeMap<String, Refusal>,
}

impl Refusals {
    /// A call was refused. The token as a whole is worth one line, whatever is tried with it.
    pub(crate) fn refused(&mut self, method: &Method, url: &Url, detail: &str, now: Instant) -> Option<News> {
        self.forget(now);
        let (call, whole) = (kind(method.as_str(), url.path()), is_the_token(detail));
        let known =
            self.calls.contains_key(&call) || (whole && self.calls.values().any(|refusal| refusal.whole));
        let question = method == Method::GET;
        let refusal = Refusal { url: url.clone(), question, detail: detail.to_owned(), whole, met: now };
        self.calls.insert(call.clone(), refusal);
        (!known).then(|| News::Refused { call, detail: detail.to_owned() })
    }

    /// A call was permitted. That one part of a service's rights is there says nothing of another.
    pub(crate) fn permitted(&mut self, method: &str, path: &str, now: Instant) -> Option<News> {
        if self.calls.is_empty() {
            return None;
        }
        let call = kind(method, path);
        self.calls.retain(|kind, refusal| !(refusal.whole || (*kind == call && refusal.url.path() == path)));
        self.forget(now);
        self.calls.is_empty().then_some(News::Permitted)
    }

    /// Other credentials are shown from now on: whether they are refused is not known.
    pub(crate) fn renewed(&mut self) {
        self.calls.clear();
    }

    /// What was refused and can be asked again without changing anything.
    pub(crate) fn questions(&self, now: Instant) -> Vec<Url> {
        let current = self.calls.values().filter(|refusal| refusal.question && is_remembered(refusal, now));
        current.map(|refusal| refusal.url.clone()).collect()
    }

    /// What is refused now: the call that was refused last, in the agent's words, and how many kinds there are.
    pub(crate) fn now(&self, now: Instant) -> Option<(String, String, usize)> {
        let current = || self.calls.iter().filter(|(_, refusal)| is_remembered(refusal, now));
        let (call, refusal) = current().max_by_key(|(_, refusal)| (refusal.whole, refusal.met))?;
        Some((call.clone(), refusal.detail.clone(), current().count()))
    }

    fn forget(&mut self, now: Instant) {
        self.calls.retain(|_, refusal| is_remembered(refusal, now));
    }
}

fn is_remembered(refusal: &Refusal, now: Instant) -> bool {
    now.saturating_duration_since(refusal.met) < REMEMBERED
}

/// Whether the words are about the token, not about a right that it lacks.
pub(crate) fn is_the_token(detail: &str) -> bool {
    const WORDS: [&str; 6] = [
        "ACL not found",
        "token not found",
        "token expired",
        "UUID must be",
        "anonymous",
        "token is invalid",
    ];
    let told = detail.to_ascii_lowercase();
    WORDS.iter().any(|words| told.contains(&words.to_ascii_lowercase()))
}

/// The call without what names one session, key or allocation: `GET /v1/job`, `PUT /v1/session/renew`.
fn kind(method: &str, path: &str) -> String {
    /// Their next segment says what is done, not to whom.
    const FAMILIES: [&str; 9] =
        ["agent", "catalog", "client", "event", "health", "jobs", "session", "status", "validate"];
    let path = path.find("/v1/").map_or(path, |at| &path[at..]);
    let mut segments = path.split('/').skip(2);
    let first = segments.next().unwrap_or_default();
    match segments.next().filter(|_| FAMILIES.contains(&first)) {
        Some(second) => format!("{method} /v1/{first}/{second}"),
        None => format!("{method} /v1/{first}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(path: &str) -> Url {
        Url::parse("http://127.0.0.1:8500").unwrap().join(path).unwrap()
    }

    fn is_refused(news: &Option<News>) -> bool {
        matches!(news, Some(News::Refused { .. }))
    }

    #[test]
    fn calls_are_told_without_names() {
        for (path, expected) in [
            ("/v1/kv/bivouac/sessions/abc", "GET /v1/kv"),
            ("/prefix/v1/job/session-abc-1/allocations", "GET /v1/job"),
            ("/v1/session/renew/0b57", "GET /v1/session/renew"),
            ("/v1/txn", "GET /v1/txn"),
        ] {
            assert_eq!(kind("GET", path), expected);
        }
    }

    #[test]
    fn a_token_that_is_not_accepted_is_one_piece_of_news() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        assert!(is_refused(&refusals.refused(&Method::GET, &at("/v1/kv/a"), "ACL not found", now)));
        assert_eq!(refusals.refused(&Method::PUT, &at("/v1/txn"), "ACL not found", now), None);
        assert_eq!(refusals.now(now).unwrap().2, 2);
        assert_eq!(refusals.permitted("GET", "/v1/catalog/service/x", now), Some(News::Permitted));
        assert_eq!(refusals.now(now), None);
    }

    #[test]
    fn a_missing_right_is_refused_until_that_same_call_is_permitted() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        assert!(is_refused(&refusals.refused(
            &Method::GET,
            &at("/v1/kv/a/tokens"),
            "Permission denied",
            now
        )));
        assert_eq!(refusals.permitted("GET", "/v1/kv/a/members", now), None);
        assert_eq!(refusals.refused(&Method::GET, &at("/v1/kv/a/tokens"), "Permission denied", now), None);
        assert_eq!(refusals.permitted("GET", "/v1/kv/a/tokens", now), Some(News::Permitted));
    }

    #[test]
    fn only_what_changes_nothing_is_asked_again() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        refusals.refused(&Method::PUT, &at("/v1/txn"), "Permission denied", now);
        assert_eq!(refusals.questions(now), []);
        let job = at("/v1/job/a?namespace=b");
        refusals.refused(&Method::GET, &job, "Permission denied", now);
        assert_eq!(refusals.questions(now), [job]);
        assert_eq!(refusals.questions(now + REMEMBERED), []);
    }

    #[test]
    fn what_nobody_tries_again_is_forgotten() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        refusals.refused(&Method::PUT, &at("/v1/client/allocation/x/signal"), "Permission denied", now);
        assert!(refusals.now(now + REMEMBERED / 2).is_some());
        assert_eq!(refusals.now(now + REMEMBERED), None);
        assert_eq!(refusals.permitted("GET", "/v1/jobs", now + REMEMBERED), Some(News::Permitted));
    }

    proptest! {
        /// However calls go, "permitted" is told only after "refused", and leaves nothing refused.
        #[test]
        fn news_alternate(steps in prop::collection::vec((0usize..4, any::<bool>(), 0u64..200), 0..60)) {
            let paths = ["/v1/kv/a", "/v1/kv/b", "/v1/txn", "/v1/session/renew/x"];
            let (mut refusals, mut now, mut told) = (Refusals::default(), Instant::now(), false);
            for (path, permitted, later) in steps {
                now += Duration::from_secs(later);
                let news = if permitted {
                    refusals.permitted("GET", paths[path], now)
                } else {
                    refusals.refused(&Method::GET, &at(paths[path]), "Permission denied", now)
                };
                match news {
                    Some(News::Refused { .. }) => told = true,
                    Some(News::Permitted) => {
                        prop_assert!(told);
                        prop_assert_eq!(refusals.now(now), None);
                        told = false;
                    }
                    None => {}
                }
            }
        }
    }
}
