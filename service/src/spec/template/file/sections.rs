//! The sections of `template.toml`, one check each.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bivouac_protocol::{Policy, Span};
use toml::Spanned;

use super::{Located, NomadSection, RawBounds, RawNomad, RawParam, RawProcess, fault};
use crate::spec::environment;
use crate::spec::template::registry::is_variable_name;
use crate::spec::template::{Bounds, OptionalBounds, Param, Pattern, ProcessTemplate};

pub(super) fn bounds(raw: Option<Spanned<RawBounds>>, fallback: Span) -> Result<Bounds, Located> {
    let Some(raw) = raw else { return Ok(Bounds { default: fallback, min: fallback, max: fallback }) };
    let span = raw.span();
    let (default, min, max) = match raw.into_inner() {
        RawBounds::Fixed(fixed) => (fixed, fixed, fixed),
        RawBounds::Range(range) => {
            let default = range.default.unwrap_or(fallback);
            (default, range.min.unwrap_or(default), range.max.unwrap_or(default))
        }
    };
    ordered(span, Some(default), min, max)?;
    Ok(Bounds { default, min, max })
}

pub(super) fn optional(raw: Option<Spanned<RawBounds>>) -> Result<OptionalBounds, Located> {
    // A template without a word on lifetimes, or on silence, does not mind a caller who wants one.
    const ANY: OptionalBounds = OptionalBounds { default: None, min: Span::seconds(1), max: Span::MAX };
    let Some(raw) = raw else { return Ok(ANY) };
    let span = raw.span();
    let (default, min, max) = match raw.into_inner() {
        RawBounds::Fixed(fixed) => (Some(fixed), fixed, fixed),
        RawBounds::Range(range) => {
            (range.default, range.min.unwrap_or(ANY.min), range.max.unwrap_or(ANY.max))
        }
    };
    ordered(span, default, min, max)?;
    Ok(OptionalBounds { default, min, max })
}

pub(super) fn lease(raw: Option<Spanned<Span>>) -> Result<Span, Located> {
    let Some(raw) = raw else { return Ok(Policy::default_max_lease()) };
    if *raw.get_ref() < Policy::MIN_LEASE {
        return fault(raw.span(), format!("must be at least {}, the shortest lease", Policy::MIN_LEASE));
    }
    Ok(raw.into_inner())
}

fn ordered(span: Range<usize>, default: Option<Span>, min: Span, max: Span) -> Result<(), Located> {
    if min == Span::seconds(0) {
        return fault(span, "must be longer than nothing");
    }
    let default = default.unwrap_or(min);
    if min > default || default > max {
        return fault(
            span,
            format!("min ({min}), default ({default}) and max ({max}) must rise in this order"),
        );
    }
    Ok(())
}

pub(super) fn params(raw: BTreeMap<Spanned<String>, RawParam>) -> Result<BTreeMap<String, Param>, Located> {
    let mut seen = BTreeSet::new();
    let mut params = BTreeMap::new();
    for (name, raw) in raw {
        if let Err(invalid) = environment::check(name.get_ref()) {
            return fault(name.span(), format!("parameter name {:?} {invalid}", name.get_ref()));
        }
        if !seen.insert(name.get_ref().to_ascii_uppercase()) {
            return fault(name.span(), "two parameters differ in case only: they would share one variable");
        }
        params.insert(name.into_inner(), param(raw)?);
    }
    Ok(params)
}

fn param(raw: RawParam) -> Result<Param, Located> {
    let pattern = match raw.pattern {
        None => None,
        Some(source) => match Pattern::new(source.get_ref()) {
            Ok(pattern) => Some(pattern),
            Err(error) => return fault(source.span(), format!("not a regular expression: {error}")),
        },
    };
    if let Some(default) = &raw.default {
        if raw.required {
            return fault(default.span(), "a required parameter has no use for a default");
        }
        if pattern.as_ref().is_some_and(|pattern| !pattern.matches(default.get_ref())) {
            return fault(default.span(), "the default does not match the pattern");
        }
        if default.get_ref().contains('\0') {
            return fault(default.span(), "must not contain NUL");
        }
    }
    Ok(Param { pattern, required: raw.required, default: raw.default.map(Spanned::into_inner) })
}

pub(super) fn process(raw: RawProcess) -> Result<ProcessTemplate, Located> {
    if raw.command.get_ref().first().is_none_or(String::is_empty) {
        return fault(raw.command.span(), "must name a program");
    }
    let mut env = BTreeMap::new();
    for (name, value) in raw.env {
        if !environment::has_form(name.get_ref()) || value.contains('\0') {
            return fault(name.span(), "not an environment variable");
        }
        env.insert(name.into_inner(), value);
    }
    Ok(ProcessTemplate { command: raw.command.into_inner(), env })
}

pub(super) fn nomad(raw: RawNomad) -> Result<NomadSection, Located> {
    let path = std::path::Path::new(raw.jobspec.get_ref());
    let inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !inside || raw.jobspec.get_ref().is_empty() {
        return fault(raw.jobspec.span(), "must be the path of a file inside the template's folder");
    }
    let overlap_after = overlap_after(raw.on_partition.is_some(), raw.overlap_after)?;
    let mut variables = BTreeMap::new();
    for (name, value) in raw.variables {
        if !is_variable_name(name.get_ref()) {
            return fault(name.span(), "not the name of an HCL variable");
        }
        variables.insert(name.into_inner(), variable(value)?);
    }
    Ok(NomadSection { jobspec: raw.jobspec.into_inner(), variables, overlap_after })
}

fn overlap_after(waits: bool, after: Option<Spanned<Span>>) -> Result<Option<Span>, Located> {
    let Some(after) = after else { return Ok(None) };
    if waits {
        return fault(
            after.span(),
            "on_partition = \"wait\" says that a session on an unreachable node is never started elsewhere: leave out \
             one of the two",
        );
    }
    if *after.get_ref() == Span::seconds(0) {
        return fault(after.span(), "must be longer than nothing");
    }
    Ok(Some(after.into_inner()))
}

fn variable(value: Spanned<toml::Value>) -> Result<String, Located> {
    match value.get_ref() {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(flag) => Ok(flag.to_string()),
        _ => fault(value.span(), "must be text, a number or true or false"),
    }
}
