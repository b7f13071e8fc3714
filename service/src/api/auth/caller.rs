//! Who calls, and what they may do.
//!
//! Two ways to say no. What a caller's token does not permit at all, or not in the namespace or template that the caller
//! itself named, is 403 with what is missing: nothing is told that the caller did not say. A session outside of the scope
//! is 404 as if it did not exist: an id, or the template of a key, must not be found out by trying.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use bivouac_protocol::token::{Digest, Scope, Verb};
use bivouac_protocol::{Namespace, Record, TemplateName, TokenName};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Tokens;
use crate::api::Control;
use crate::api::problem::{Code, Problem, unknown_session};
use crate::session::CommandError;
use crate::session::view::View;

/// How often a caller who stays is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// An authenticated caller.
#[derive(Clone)]
pub(crate) struct Caller {
    name: TokenName,
    scope: Arc<Scope>,
    expires_at: Option<Timestamp>,
    digest: Digest,
    tokens: Arc<Tokens>,
}

impl Caller {
    pub(super) fn new(
        name: TokenName,
        scope: Arc<Scope>,
        expires_at: Option<Timestamp>,
        digest: Digest,
        tokens: &Arc<Tokens>,
    ) -> Self {
        Self { name, scope, expires_at, digest, tokens: Arc::clone(tokens) }
    }

    /// The name of its token.
    pub(crate) fn name(&self) -> &TokenName {
        &self.name
    }

    /// When its token ends.
    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// All that it may do.
    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Whether it may do this in that namespace with sessions of that template.
    pub(crate) fn may(&self, verb: Verb, namespace: &Namespace, template: &TemplateName) -> bool {
        self.scope.permits(verb, namespace, template)
    }

    /// Whether it may see this session.
    pub(crate) fn sees(&self, view: &View) -> bool {
        self.may(Verb::Read, &view.namespace, &view.template)
    }

    /// Refuses a caller that may not do this anywhere.
    pub(crate) fn require_verb(&self, verb: Verb) -> Result<(), Problem> {
        self.require_parts(Some(verb), None, None)
    }

    /// Refuses a caller that may do none of these anywhere.
    pub(crate) fn require_any<const N: usize>(&self, verbs: [Verb; N]) -> Result<(), Problem> {
        let any = verbs.iter().any(|verb| self.scope.verbs.contains(verb));
        if any { Ok(()) } else { self.require_parts(verbs.first().copied(), None, None) }
    }

    /// Refuses a caller that may not do this in a namespace that it named.
    pub(crate) fn require_in(&self, verb: Verb, namespace: &Namespace) -> Result<(), Problem> {
        self.require_parts(Some(verb), Some(namespace), None)
    }

    /// Refuses a caller that may not do this in a namespace and with a template that it named.
    pub(crate) fn require(
        &self,
        verb: Verb,
        namespace: &Namespace,
        template: &TemplateName,
    ) -> Result<(), Problem> {
        self.require_parts(Some(verb), Some(namespace), Some(template))
    }

    /// Refuses a caller that may not do this with a session that was found by its id or key.
    pub(crate) fn require_on(&self, verb: Verb, view: &View) -> Result<(), Problem> {
        self.require_verb(verb)?;
        if self.may(verb, &view.namespace, &view.template) { Ok(()) } else { Err(unknown_session()) }
    }

    /// Whether it may do this with the session of a record. To be asked of the very record that is changed: since the
    /// caller's session was found, its key may have been spawned from another template.
    pub(crate) fn permit(&self, verb: Verb) -> impl Fn(&Record) -> bool + Send + Sync + use<> {
        let caller = self.clone();
        move |record| caller.may(verb, &record.namespace, &record.template)
    }

    fn require_parts(
        &self,
        verb: Option<Verb>,
        namespace: Option<&Namespace>,
        template: Option<&TemplateName>,
    ) -> Result<(), Problem> {
        let mut missing = Map::new();
        if let Some(verb) = verb.filter(|verb| !self.scope.verbs.contains(verb)) {
            missing.insert("verb".to_owned(), json!(verb));
        }
        if let Some(namespace) = namespace.filter(|namespace| !self.scope.has_namespace(namespace)) {
            missing.insert("namespace".to_owned(), json!(namespace));
        }
        if let Some(template) = template.filter(|template| !self.scope.has_template(template)) {
            missing.insert("template".to_owned(), json!(template));
        }
        if missing.is_empty() { Ok(()) } else { Err(self.forbidden(missing)) }
    }

    /// What went wrong with a spawn, without the name of a template that the caller may not see.
    pub(crate) fn discreetly(&self, namespace: &Namespace, why: CommandError) -> Problem {
        match why {
            CommandError::OtherTemplate(other)
                if !other.parse().is_ok_and(|other| self.may(Verb::Read, namespace, &other)) =>
            {
                let detail = "The key's session was made from a template that is out of this token's scope: use another key.";
                Problem::new(Code::TemplateMismatch, detail)
            }
            // Where it ran, and until when it is waited for, is told as little.
            CommandError::Unreachable(view) if !self.may(Verb::Spawn, namespace, &view.template) => {
                CommandError::StillEnding.into()
            }
            why => why.into(),
        }
    }

    fn forbidden(&self, missing: Map<String, Value>) -> Problem {
        let parts: Vec<_> = missing
            .iter()
            .map(|(part, name)| format!("{part} {}", name.as_str().unwrap_or_default()))
            .collect();
        let detail = format!(
            "Token {} does not have {}. Use another token, or have one made that has it.",
            self.name,
            parts.join(", ")
        );
        Problem::new(Code::Forbidden, detail).with("missing", Value::Object(missing))
    }

    /// Refuses a caller that would give away what it has not.
    pub(crate) fn require_scope(&self, given: &Scope) -> Result<(), Problem> {
        if self.scope.covers(given) {
            return Ok(());
        }
        let detail = format!(
            "Token {} may only make tokens whose namespaces, templates and verbs are among its own.",
            self.name
        );
        Err(Problem::new(Code::Forbidden, detail).with("missing", json!({"scope": self.scope.lacks(given)})))
    }

    /// Whether a token that ends then ends no later than the caller's own.
    pub(crate) fn outlives(&self, end: Option<Timestamp>) -> bool {
        self.expires_at.is_none_or(|own| end.is_some_and(|end| end <= own))
    }

    /// Refuses a caller that would give away more time than it has.
    pub(crate) fn require_end(&self, end: Option<Timestamp>) -> Result<(), Problem> {
        if self.outlives(end) {
            return Ok(());
        }
        let detail = format!("Token {} may only make tokens that end no later than itself.", self.name);
        Err(Problem::new(Code::Forbidden, detail).with("missing", json!({"expires_at": end})))
    }

    /// Resolves when the token does not open the API any more: answers that go on and on must end then.
    pub(crate) async fn over(self) {
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            if self.expires_at.is_some_and(|end| end <= Timestamp::now()) {
                return;
            }
            if !self.tokens.still_admits(&self.name, &self.digest).await {
                return;
            }
        }
    }
}

impl FromRequestParts<Arc<Control>> for Caller {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &Arc<Control>) -> Result<Self, Problem> {
        // Without one the route was put outside of the layer that asks for tokens: then nobody may.
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Problem::new(Code::Unauthenticated, "Send `Authorization: Bearer TOKEN`."))
    }
}
