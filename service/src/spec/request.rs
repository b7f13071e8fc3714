//! The body of a spawn, from bytes to a [`Spec`]: parsed once, and every complaint names the field.

use std::collections::BTreeMap;

use bivouac_protocol::record::Resources;
use bivouac_protocol::{IdempotencyKey, Key, Namespace, SessionId, Span, StoredRequest, TemplateName};
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Spec;
use super::limits::{self, Invalid};
use super::template::{Problem, Templates};

/// The largest body of a spawn, in bytes.
pub const BODY_LIMIT: usize = 64 * 1024;

/// Why a body is not a spawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not JSON at all, or nested too deep.
    #[error("the body is not JSON: {0}")]
    InvalidJson(String),
    /// A field that no spawn has.
    #[error("{0}")]
    UnknownField(String),
    /// A field whose value cannot be used.
    #[error(transparent)]
    InvalidField(#[from] Invalid),
    /// No template of this name.
    #[error("there is no template {0}; GET /v1/templates lists them")]
    UnknownTemplate(TemplateName),
    /// The template cannot be used until an operator mends it.
    #[error("template {template} is disabled: {detail}")]
    TemplateDisabled {
        /// Which template.
        template: TemplateName,
        /// Why.
        detail: String,
    },
    /// Whether the template can be used is not known yet.
    #[error("template {template} cannot be used yet: {detail}")]
    TemplatePending {
        /// Which template.
        template: TemplateName,
        /// Why.
        detail: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    template: String,
    key: Option<String>,
    namespace: Option<String>,
    #[serde(default)]
    params: BTreeMap<String, String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    args: Vec<String>,
    image: Option<String>,
    resources: Option<Resources>,
    idle_timeout: Option<String>,
    quiet_timeout: Option<String>,
    max_lifetime: Option<String>,
    startup_timeout: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    user: Option<String>,
    claims: Option<Map<String, Value>>,
}

/// Reads a spawn. The id of a keyed session follows from `secret`; any other gets a random one.
///
/// `permit` is asked before anything is looked up: what follows tells of the template whether it exists, whether it works
/// and what its bounds are, which is not for those who may not spawn from it.
///
/// # Errors
/// What `permit` said, or what is wrong with the body.
pub fn parse<E: From<RequestError>>(
    body: &[u8],
    templates: &Templates,
    secret: &SecretString,
    permit: impl FnOnce(&Namespace, &TemplateName) -> Result<(), E>,
) -> Result<Spec, E> {
    let body: Body = decode(body)?;
    let key: Option<Key> = body.key.as_deref().map(|text| name("key", text)).transpose()?;
    let namespace =
        body.namespace.as_deref().map_or(Ok(Namespace::default()), |text| name("namespace", text))?;
    let template: TemplateName = name("template", &body.template)?;
    permit(&namespace, &template)?;
    Ok(of_template(body, key, namespace, template, templates, secret)?)
}

fn of_template(
    body: Body,
    key: Option<Key>,
    namespace: Namespace,
    template: TemplateName,
    templates: &Templates,
    secret: &SecretString,
) -> Result<Spec, RequestError> {
    let template = templates.get(&template).ok_or(RequestError::UnknownTemplate(template))?;
    match template.problem() {
        None => {}
        Some(Problem::Broken(detail)) => {
            return Err(RequestError::TemplateDisabled { template: template.name.clone(), detail });
        }
        Some(Problem::Pending(detail)) => {
            return Err(RequestError::TemplatePending { template: template.name.clone(), detail });
        }
    }
    let request = StoredRequest {
        idle_timeout: span("idle_timeout", body.idle_timeout.as_deref())?,
        quiet_timeout: span("quiet_timeout", body.quiet_timeout.as_deref())?,
        max_lifetime: span("max_lifetime", body.max_lifetime.as_deref())?,
        startup_timeout: span("startup_timeout", body.startup_timeout.as_deref())?,
        params: body.params,
        env: body.env,
        args: body.args,
        image: body.image,
        resources: body.resources,
        labels: body.labels,
        user: body.user,
        spawned_by: None,
    };
    limits::check(&request, &template)?;
    body.claims.as_ref().map_or(Ok(()), limits::check_claims)?;
    Ok(Spec {
        id: key.as_ref().map_or_else(SessionId::random, |key| SessionId::keyed(secret, &namespace, key)),
        policy: template.policy(&request),
        template: template.clone(),
        namespace,
        key,
        request,
        claims: body.claims,
        once: false,
    })
}

impl Spec {
    /// The same spawn, made safe to repeat by an idempotency key of the `caller` (the name of its token).
    ///
    /// # Errors
    /// If it has a key of its own, which makes it safe to repeat already, and differently.
    pub fn once(
        self,
        secret: &SecretString,
        caller: &str,
        key: &IdempotencyKey,
    ) -> Result<Self, RequestError> {
        if self.key.is_some() {
            let rule = "must not be sent with `key`: a session's key makes its spawn safe to repeat already";
            return Err(Invalid::new("Idempotency-Key", rule).into());
        }
        Ok(Self { id: SessionId::idempotent(secret, caller, &self.namespace, key), once: true, ..self })
    }
}

/// Reads a JSON object; every complaint names the field.
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, RequestError> {
    // A struct would be read from an array too, its fields by position.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Invalid::new("the body", "must be a JSON object").into());
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let decoded: T = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        describe(&path, &error.into_inner())
    })?;
    json.end().map_err(|error| RequestError::InvalidJson(error.to_string()))?;
    Ok(decoded)
}

fn describe(path: &str, error: &serde_json::Error) -> RequestError {
    let message = error.to_string();
    if !error.is_data() {
        return RequestError::InvalidJson(message);
    }
    // Data errors carry no kind of their own; the deserializer's wording of this one is stable.
    if message.starts_with("unknown field") {
        return RequestError::UnknownField(message);
    }
    let field = if path == "." { "the body" } else { path };
    Invalid::new(field, message).into()
}

fn name<T: std::str::FromStr<Err = bivouac_protocol::InvalidId>>(
    field: &str,
    text: &str,
) -> Result<T, RequestError> {
    text.parse().map_err(|invalid: bivouac_protocol::InvalidId| Invalid::new(field, invalid.rule).into())
}

fn span(field: &str, text: Option<&str>) -> Result<Option<Span>, Invalid> {
    text.map(str::parse)
        .transpose()
        .map_err(|invalid: bivouac_protocol::span::InvalidSpan| Invalid::new(field, invalid.to_string()))
}

#[cfg(test)]
mod tests;
