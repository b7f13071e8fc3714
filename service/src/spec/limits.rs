//! What a caller may ask of a template: its parameters, its bounds, and how much of everything.

use bivouac_protocol::ticket::MAX_CLAIMS;
use bivouac_protocol::{Span, StoredRequest};

use serde_json::{Map, Value};

use super::environment;
use super::template::{Allowance, Bounds, OptionalBounds, Template};

/// A field whose value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct Invalid {
    /// Which field, as a path ("params.doc").
    pub field: String,
    /// The rule that it breaks.
    pub rule: String,
}

impl Invalid {
    pub(super) fn new(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { field: field.into(), rule: rule.into() }
    }
}

/// One value of an environment variable, parameter or argument: what fits a command line several times over.
const VALUE_BYTES: usize = 4 * 1024;
const COUNT: usize = 64;
/// What Consul takes for the name and the value of one piece of metadata.
const LABEL_NAME_BYTES: usize = 128;
const LABEL_VALUE_BYTES: usize = 512;
const LABELS: usize = 32;
const USER_BYTES: usize = 256;
const IMAGE_BYTES: usize = 512;
const CPU_MHZ: std::ops::RangeInclusive<u32> = 1..=1_000_000;
const MEMORY_MIB: std::ops::RangeInclusive<u32> = 10..=16_777_216;

/// Checks a request against a template. Also for a stored request that is to be started again with the template of
/// today, which may permit less than the one of its spawn.
pub fn check(request: &StoredRequest, template: &Template) -> Result<(), Invalid> {
    check_allowed(request, template)?;
    check_params(request, template)?;
    check_env(request, template)?;
    check_driver(request)?;
    check_marks(request)?;
    let bounds = &template.bounds;
    check_bounds("idle_timeout", request.idle_timeout, bounds.idle_timeout)?;
    check_bounds("startup_timeout", request.startup_timeout, bounds.startup_timeout)?;
    check_bounds("quiet_timeout", request.quiet_timeout, given(bounds.quiet_timeout))?;
    check_bounds("max_lifetime", request.max_lifetime, given(bounds.max_lifetime))
}

/// What may be asked for, where saying nothing may mean "none".
fn given(OptionalBounds { min, max, .. }: OptionalBounds) -> Bounds {
    Bounds { default: min, min, max }
}

fn check_allowed(request: &StoredRequest, template: &Template) -> Result<(), Invalid> {
    let given = [
        (Allowance::Env, !request.env.is_empty()),
        (Allowance::Args, !request.args.is_empty()),
        (Allowance::Image, request.image.is_some()),
        (Allowance::Resources, request.resources.is_some()),
    ];
    match given.iter().find(|(allowance, given)| *given && !template.allow.contains(allowance)) {
        None => Ok(()),
        Some((allowance, _)) => Err(Invalid::new(
            allowance.as_str(),
            format!(
                "template {} does not let callers set it (its `allow` would have to name it)",
                template.name
            ),
        )),
    }
}

fn check_params(request: &StoredRequest, template: &Template) -> Result<(), Invalid> {
    for (name, value) in &request.params {
        let field = format!("params.{}", shown(name));
        let Some(param) = template.params.get(name) else {
            return Err(Invalid::new(field, format!("template {} has no such parameter", template.name)));
        };
        check_value(&field, value)?;
        if let Some(pattern) = param.pattern.as_ref().filter(|pattern| !pattern.matches(value)) {
            return Err(Invalid::new(field, format!("must match {} as a whole", pattern.as_str())));
        }
    }
    match template.params.iter().find(|(name, param)| param.required && !request.params.contains_key(*name)) {
        None => Ok(()),
        Some((name, _)) => {
            Err(Invalid::new(format!("params.{name}"), format!("template {} requires it", template.name)))
        }
    }
}

fn check_env(request: &StoredRequest, template: &Template) -> Result<(), Invalid> {
    if request.env.len() > COUNT {
        return Err(Invalid::new("env", format!("must have at most {COUNT} variables")));
    }
    let own = template.own_environment();
    for (name, value) in &request.env {
        let field = format!("env.{}", shown(name));
        environment::check(name).map_err(|invalid| Invalid::new(&field, invalid.to_string()))?;
        if own.contains(name) || template.params.keys().any(|param| param.to_ascii_uppercase() == *name) {
            return Err(Invalid::new(field, "is set by the template"));
        }
        check_value(&field, value)?;
    }
    Ok(())
}

fn check_driver(request: &StoredRequest) -> Result<(), Invalid> {
    if request.args.len() > COUNT {
        return Err(Invalid::new("args", format!("must have at most {COUNT} elements")));
    }
    for (n, arg) in request.args.iter().enumerate() {
        check_value(&format!("args[{n}]"), arg)?;
    }
    if let Some(image) = &request.image {
        let valid = (1..=IMAGE_BYTES).contains(&image.len()) && image.bytes().all(|b| b.is_ascii_graphic());
        if !valid {
            return Err(Invalid::new(
                "image",
                format!("must be 1 to {IMAGE_BYTES} visible ASCII characters"),
            ));
        }
    }
    let Some(resources) = request.resources else { return Ok(()) };
    for (field, value, range) in
        [("resources.cpu", resources.cpu, CPU_MHZ), ("resources.memory_mb", resources.memory_mb, MEMORY_MIB)]
    {
        if value.is_some_and(|value| !range.contains(&value)) {
            return Err(Invalid::new(
                field,
                format!("must be between {} and {}", range.start(), range.end()),
            ));
        }
    }
    Ok(())
}

fn check_marks(request: &StoredRequest) -> Result<(), Invalid> {
    if request.labels.len() > LABELS {
        return Err(Invalid::new("labels", format!("must have at most {LABELS} elements")));
    }
    for (name, value) in &request.labels {
        let field = format!("labels.{}", shown(name));
        let valid = (1..=LABEL_NAME_BYTES).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        if !valid {
            let rule = format!("a label's name must be 1 to {LABEL_NAME_BYTES} letters, digits, _ or -");
            return Err(Invalid::new(field, rule));
        }
        check_line(&field, value, LABEL_VALUE_BYTES)?;
    }
    request.user.as_deref().map_or(Ok(()), check_user)
}

/// Whether an application may call a user so.
pub(crate) fn check_user(user: &str) -> Result<(), Invalid> {
    if user.is_empty() {
        Err(Invalid::new("user", "must not be empty"))
    } else {
        check_line("user", user, USER_BYTES)
    }
}

/// Whether an application may say so much of a user: it has to fit a header field.
pub(crate) fn check_claims(claims: &Map<String, Value>) -> Result<(), Invalid> {
    let bytes = serde_json::to_string(claims).map_or(usize::MAX, |json| json.len());
    if bytes <= MAX_CLAIMS {
        return Ok(());
    }
    Err(Invalid::new("claims", format!("must be at most {MAX_CLAIMS} bytes of JSON")))
}

fn check_value(field: &str, value: &str) -> Result<(), Invalid> {
    if value.contains('\0') {
        return Err(Invalid::new(field, "must not contain NUL"));
    }
    if value.len() > VALUE_BYTES {
        return Err(Invalid::new(field, format!("must be at most {VALUE_BYTES} bytes")));
    }
    Ok(())
}

fn check_line(field: &str, value: &str, bytes: usize) -> Result<(), Invalid> {
    if value.len() > bytes || value.chars().any(char::is_control) {
        return Err(Invalid::new(field, format!("must be at most {bytes} bytes without control characters")));
    }
    Ok(())
}

fn check_bounds(field: &str, asked: Option<Span>, bounds: Bounds) -> Result<(), Invalid> {
    match asked {
        Some(asked) if asked < bounds.min || asked > bounds.max => {
            let rule = if bounds.min == bounds.max {
                format!("the template fixes it at {}", bounds.min)
            } else {
                format!("must be between {} and {}", bounds.min, bounds.max)
            };
            Err(Invalid::new(field, rule))
        }
        _ => Ok(()),
    }
}

/// A caller's own name in a message: short, and without anything that could break a line.
fn shown(name: &str) -> String {
    let mut shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
    if name.chars().nth(64).is_some() {
        shown.push('…');
    }
    shown
}
