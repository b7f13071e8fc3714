//! The list of sessions: filters and pages.

use std::sync::Arc;

use bivouac_protocol::{Key, Namespace, SessionId, TemplateName};
use jiff::Timestamp;
use serde::Serialize;

use super::auth::Caller;
use super::input::{Query, invalid};
use super::problem::Problem;
use super::seen::Seen;
use crate::session::view::{State, View};

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// What a caller wants to see.
#[derive(Debug)]
pub(crate) struct Listing {
    states: Vec<State>,
    template: Option<TemplateName>,
    namespace: Option<Namespace>,
    key: Option<Key>,
    labels: Vec<(String, String)>,
    limit: usize,
    after: Option<Position>,
}

/// Newest claim first; the id decides between two of the same time. So a page goes on where the last one ended, however
/// many sessions came or went since.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    claimed: Option<Timestamp>,
    id: SessionId,
}

/// One page.
#[derive(Debug, Serialize)]
pub(crate) struct Page {
    sessions: Vec<Seen>,
    next: Option<String>,
}

impl Listing {
    pub(crate) fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let known = ["state", "template", "namespace", "key", "label", "limit", "after"];
        let query = Query::parse(query, &known)?;
        let label = |text: &str| {
            let pair = text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            pair.ok_or_else(|| invalid("label", "must have the form name=value"))
        };
        let limit = query.parsed("limit", "must be a number from 1 to 1000")?.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(invalid("limit", "must be a number from 1 to 1000"));
        }
        Ok(Self {
            states: query.all("state").map(state).collect::<Result<_, _>>()?,
            template: query.parsed("template", "must be the name of a template")?,
            namespace: query.parsed("namespace", "must be a DNS label")?,
            key: query.parsed("key", "must be a session's key")?,
            labels: query.all("label").map(label).collect::<Result<_, _>>()?,
            limit,
            after: query.one("after")?.map(position).transpose()?,
        })
    }

    /// The page of `views`, which are ordered as [`Position`] says, as the caller may see them.
    pub(crate) fn page(&self, views: Vec<Arc<View>>, caller: &Caller) -> Page {
        let mut wanted = views.into_iter().filter(|view| self.is_after(view) && self.matches(view));
        let sessions: Vec<_> = wanted.by_ref().take(self.limit).map(|view| caller.seen(&view)).collect();
        let more = wanted.next().is_some();
        let next = sessions.last().filter(|_| more).map(|view| cursor(view));
        Page { sessions, next }
    }

    fn is_after(&self, view: &View) -> bool {
        self.after.as_ref().is_none_or(|after| {
            after.claimed.cmp(&view.timeline.claimed).then_with(|| view.id.cmp(&after.id)).is_gt()
        })
    }

    fn matches(&self, view: &View) -> bool {
        (self.states.is_empty() || self.states.contains(&view.state))
            && self.template.as_ref().is_none_or(|template| *template == view.template)
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == view.namespace)
            && self.key.as_ref().is_none_or(|key| Some(key) == view.key.as_ref())
            && self.labels.iter().all(|(name, value)| view.labels.get(name) == Some(value))
    }
}

fn state(text: &str) -> Result<State, Problem> {
    let named = State::ALL.into_iter().find(|state| state.name() == text);
    named.ok_or_else(|| {
        invalid("state", &format!("must be one of {}", State::ALL.map(State::name).join(", ")))
    })
}

fn cursor(view: &View) -> String {
    let claimed = view.timeline.claimed.map(|claimed| claimed.to_string()).unwrap_or_default();
    format!("{claimed}~{}", view.id)
}

fn position(text: &str) -> Result<Position, Problem> {
    let parse = || {
        let (claimed, id) = text.split_once('~')?;
        let claimed = if claimed.is_empty() { None } else { Some(claimed.parse().ok()?) };
        Some(Position { claimed, id: id.parse().ok()? })
    };
    parse().ok_or_else(|| invalid("after", "must be the `next` of an earlier page"))
}
