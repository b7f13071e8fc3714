//! `template.toml`: its form, and its errors with line and column.

mod ports;
mod sections;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bivouac_protocol::{Access, PortLabel, Rules, Span, TemplateName};
use serde::Deserialize;
use toml::Spanned;

use super::{Allowance, Param, PolicyBounds, Port, ProcessTemplate};
use ports::{RawPort, ports};
use sections::{bounds, lease, nomad, optional, params, process};
use traffic::{RawBytes, rules};

/// A fault in the file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) message: String,
    /// Line and column, from 1; `None` where something is missing that no line could show.
    pub(super) position: Option<(usize, usize)>,
}

/// What `template.toml` says, checked.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) description: String,
    pub(super) allow: BTreeSet<Allowance>,
    pub(super) bounds: PolicyBounds,
    pub(super) wake: bool,
    pub(super) params: BTreeMap<String, Param>,
    pub(super) rules: Rules,
    pub(super) ports: BTreeMap<PortLabel, Port>,
    pub(super) default_port: PortLabel,
    pub(super) process: Option<ProcessTemplate>,
    pub(super) nomad: Option<NomadSection>,
}

/// The `[nomad]` section: the job's file name and its variables as text.
#[derive(Debug)]
pub(super) struct NomadSection {
    pub(super) jobspec: String,
    pub(super) variables: BTreeMap<String, String>,
    pub(super) overlap_after: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    description: String,
    access: Option<Spanned<Access>>,
    idle_timeout: Option<Spanned<RawBounds>>,
    quiet_timeout: Option<Spanned<RawBounds>>,
    max_lifetime: Option<Spanned<RawBounds>>,
    startup_timeout: Option<Spanned<RawBounds>>,
    max_lease: Option<Spanned<Span>>,
    stop_grace: Option<Span>,
    #[serde(default)]
    wake: bool,
    #[serde(default)]
    allow: BTreeSet<Allowance>,
    #[serde(default)]
    ignore_paths: Vec<Spanned<String>>,
    max_body: Option<Spanned<RawBytes>>,
    max_connections: Option<Spanned<u32>>,
    #[serde(default)]
    ports: BTreeMap<Spanned<String>, RawPort>,
    #[serde(default)]
    params: BTreeMap<Spanned<String>, RawParam>,
    process: Option<RawProcess>,
    nomad: Option<RawNomad>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a duration such as \"30s\", or { default, min, max } of durations")]
enum RawBounds {
    Fixed(Span),
    Range(RawRange),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRange {
    default: Option<Span>,
    min: Option<Span>,
    max: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawParam {
    pattern: Option<Spanned<String>>,
    #[serde(default)]
    required: bool,
    default: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProcess {
    command: Spanned<Vec<String>>,
    #[serde(default)]
    env: BTreeMap<Spanned<String>, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNomad {
    jobspec: Spanned<String>,
    on_partition: Option<Spanned<RawOnPartition>>,
    overlap_after: Option<Spanned<Span>>,
    #[serde(default)]
    variables: BTreeMap<Spanned<String>, Spanned<toml::Value>>,
}

/// What becomes of a session whose node is unreachable, where no `overlap_after` says otherwise.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawOnPartition {
    Wait,
}

/// Reads and checks the file's text.
pub(super) fn parse(text: &str) -> Result<Parsed, Fault> {
    let at =
        |fault: Located| Fault { message: fault.message, position: fault.span.map(|s| position(text, s)) };
    let raw: Raw = toml::from_str(text)
        .map_err(|error| at(Located { message: error.message().trim().to_owned(), span: error.span() }))?;
    check(raw).map_err(at)
}

struct Located {
    message: String,
    span: Option<Range<usize>>,
}

fn fault<T>(span: Range<usize>, message: impl Into<String>) -> Result<T, Located> {
    Err(Located { message: message.into(), span: Some(span) })
}

fn missing<T>(message: impl Into<String>) -> Result<T, Located> {
    Err(Located { message: message.into(), span: None })
}

fn position(text: &str, span: Range<usize>) -> (usize, usize) {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

fn check(raw: Raw) -> Result<Parsed, Located> {
    // Whoever says nothing wants tickets: what is open to all has to be said.
    let access = raw.access.map_or(Access::Ticket, Spanned::into_inner);
    let rules = rules(access, raw.ignore_paths, raw.max_body, raw.max_connections)?;
    let (ports, default_port) = ports(raw.ports)?;
    Ok(Parsed {
        description: raw.description,
        allow: raw.allow,
        bounds: PolicyBounds {
            idle_timeout: bounds(raw.idle_timeout, DEFAULT_IDLE)?,
            quiet_timeout: optional(raw.quiet_timeout)?,
            max_lifetime: optional(raw.max_lifetime)?,
            startup_timeout: bounds(raw.startup_timeout, DEFAULT_STARTUP)?,
            max_lease: lease(raw.max_lease)?,
            stop_grace: raw.stop_grace.unwrap_or(DEFAULT_GRACE),
        },
        wake: raw.wake,
        params: params(raw.params)?,
        rules,
        ports,
        default_port,
        process: raw.process.map(process).transpose()?,
        nomad: raw.nomad.map(nomad).transpose()?,
    })
}

const DEFAULT_IDLE: Span = Span::seconds(5 * 60);
const DEFAULT_STARTUP: Span = Span::seconds(2 * 60);
const DEFAULT_GRACE: Span = Span::seconds(10);

/// The template's name: that of its folder.
pub(super) fn name(folder: &str) -> Result<TemplateName, Fault> {
    folder.parse().map_err(|invalid: bivouac_protocol::InvalidId| Fault {
        message: invalid.to_string(),
        position: None,
    })
}
