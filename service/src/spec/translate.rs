//! From a claimed record to its Nomad job: the template's parsed tree, edited. Pure.
//!
//! The operator's HCL alone declares driver, ports, identities and constraints. What a caller wrote gets in as values of
//! Env and Meta and, where the template allows it, as arguments and image of the main task: escaped for the engine that
//! will interpolate them (see `escape`), and never as the name or the shape of anything.

mod presentation;
mod services;

use std::collections::BTreeMap;

use bivouac_protocol::{PortLabel, Record, SessionId};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::escape::{config_text, env_text};
use super::template::{Template, jobspec};
use super::{environment, meta};

/// What a job is made from, beside the parsed template.
#[derive(Debug, Clone, Copy)]
pub struct JobContext<'a> {
    /// Which session.
    pub session: &'a SessionId,
    /// Its claimed record.
    pub record: &'a Record,
    /// The template.
    pub template: &'a Template,
    /// The session's URL.
    pub url: &'a str,
    /// Fingerprint of this installation.
    pub cluster: &'a str,
    /// When the generation was claimed: constant over repeated registrations.
    pub created_at: Timestamp,
}

/// The parsed template does not have the shape that its check at the load found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the template's job cannot be turned into a session: {0}")]
pub struct TranslateError(String);

/// The job of one generation.
pub fn job(parsed: &Value, context: &JobContext<'_>) -> Result<Value, TranslateError> {
    jobspec::check(parsed, context.template).map_err(TranslateError)?;
    let mut tree = parsed.clone();
    let job = object(&mut tree, "the job")?;
    let id = context.session.job_id(context.record.generation);
    job.insert("ID".to_owned(), id.clone().into());
    job.insert("Name".to_owned(), id.into());
    job.insert("Type".to_owned(), "batch".into());
    // Of another life of the same document, or without a meaning for a job that is never updated.
    for field in ["Stop", "Version", "VersionTag", "Update", "Migrate", "Reschedule"] {
        job.remove(field);
    }
    set_job_meta(job, context)?;
    if is_unset(job, "UI") {
        job.insert("UI".to_owned(), presentation::ui(context));
    }
    let group = job.get_mut("TaskGroups").and_then(|groups| groups.get_mut(0));
    edit_group(object(group.ok_or_else(|| missing("a group"))?, "the group")?, context)?;
    Ok(tree)
}

fn object<'a>(value: &'a mut Value, what: &str) -> Result<&'a mut Map<String, Value>, TranslateError> {
    value.as_object_mut().ok_or_else(|| TranslateError(format!("{what} is not an object")))
}

fn missing(what: &str) -> TranslateError {
    TranslateError(format!("{what} is missing"))
}

/// The object in a field, made if there is none.
fn child<'a>(
    parent: &'a mut Map<String, Value>,
    field: &str,
) -> Result<&'a mut Map<String, Value>, TranslateError> {
    let value = parent.entry(field).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    object(value, field)
}

/// The elements of a list in a field; none if there is none.
fn elements<'a>(parent: &'a mut Map<String, Value>, field: &str) -> impl Iterator<Item = &'a mut Value> {
    parent.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Whether a field says nothing.
fn is_unset(parent: &Map<String, Value>, field: &str) -> bool {
    parent.get(field).is_none_or(Value::is_null)
}

fn set_job_meta(job: &mut Map<String, Value>, context: &JobContext<'_>) -> Result<(), TranslateError> {
    drop_our_names(job)?;
    let meta = child(job, "Meta")?;
    for (name, value) in context.template.values(&context.record.request) {
        meta.insert(name, env_text(&value).into());
    }
    for (name, value) in meta::of(context.session, context.record, context.cluster, context.created_at) {
        meta.insert(name, value.into());
    }
    Ok(())
}

/// Removes Meta with names of ours: on a group or task it would take precedence over the job's, which escapes rely on.
fn drop_our_names(parent: &mut Map<String, Value>) -> Result<(), TranslateError> {
    if !is_unset(parent, "Meta") {
        child(parent, "Meta")?.retain(|name, _| !name.to_ascii_lowercase().starts_with("bivouac_"));
    }
    Ok(())
}

fn edit_group(group: &mut Map<String, Value>, context: &JobContext<'_>) -> Result<(), TranslateError> {
    drop_our_names(group)?;
    group.insert("Count".to_owned(), 1.into());
    group.insert("RestartPolicy".to_owned(), no_restart());
    group.insert("ReschedulePolicy".to_owned(), json!({"Attempts": 0, "Interval": 0, "Unlimited": false}));
    // Without it, or once it expires, a host that comes back gets its allocation killed and another one started,
    // whatever the reschedule policy says.
    group.insert(
        "Disconnect".to_owned(),
        json!({"LostAfter": A_YEAR_NS, "Replace": false, "Reconcile": "keep_original"}),
    );
    // Older words for the same, exclusive with it; and what only has a meaning for a group that is changed later.
    for field in [
        "MaxClientDisconnect",
        "StopAfterClientDisconnect",
        "PreventRescheduleOnLost",
        "Update",
        "Migrate",
        "Scaling",
    ] {
        group.remove(field);
    }
    set_disk(group);
    services::edit(group, context)?;
    let main = group.get("Tasks").and_then(Value::as_array).and_then(|tasks| jobspec::main_task(tasks));
    for (n, task) in elements(group, "Tasks").enumerate() {
        let task = object(task, "a task")?;
        edit_task(task, context)?;
        if main == Some(n) {
            edit_main_task(task, context)?;
        }
    }
    Ok(())
}

const A_YEAR_NS: u64 = 365 * 24 * 3600 * 1_000_000_000;

fn no_restart() -> Value {
    json!({"Attempts": 0, "Interval": 86_400_000_000_000_u64, "Delay": 15_000_000_000_u64, "Mode": "fail"})
}

/// A session writes little by itself; Nomad's default of 300 MB each would fill a host's books long before its disk.
fn set_disk(group: &mut Map<String, Value>) {
    const BESIDE_LOGS_MB: u64 = 40;
    if !is_unset(group, "EphemeralDisk") {
        return;
    }
    let logs: u64 = elements(group, "Tasks").map(|task| log_megabytes(&task["LogConfig"])).sum();
    group.insert("EphemeralDisk".to_owned(), json!({"SizeMB": logs + BESIDE_LOGS_MB}));
}

const LOG_FILES: u64 = 2;
const LOG_FILE_MB: u64 = 5;

/// What Nomad will set aside for a task's logs, its own defaults included.
fn log_megabytes(config: &Value) -> u64 {
    if config.is_null() {
        return LOG_FILES * LOG_FILE_MB;
    }
    config["MaxFiles"].as_u64().unwrap_or(10).saturating_mul(config["MaxFileSizeMB"].as_u64().unwrap_or(10))
}

fn edit_task(task: &mut Map<String, Value>, context: &JobContext<'_>) -> Result<(), TranslateError> {
    drop_our_names(task)?;
    task.insert("RestartPolicy".to_owned(), no_restart());
    let grace = u64::try_from(context.record.policy.stop_grace.get().as_nanos()).unwrap_or(A_YEAR_NS);
    task.insert("KillTimeout".to_owned(), grace.into());
    if is_unset(task, "LogConfig") {
        task.insert("LogConfig".to_owned(), json!({"MaxFiles": LOG_FILES, "MaxFileSizeMB": LOG_FILE_MB}));
    }
    forbid_restarts(task);
    set_environment(child(task, "Env")?, context);
    Ok(())
}

/// A changed secret or certificate must not start the task again: what runs then is not what was routed.
fn forbid_restarts(task: &mut Map<String, Value>) {
    let restarts = |block: &Value| matches!(block["ChangeMode"].as_str(), None | Some("" | "restart"));
    let vault = task.get_mut("Vault").filter(|vault| vault.is_object() && restarts(vault));
    if let Some(vault) = vault {
        vault["ChangeMode"] = "noop".into();
    }
    for field in ["Templates", "Identities"] {
        for block in elements(task, field).filter(|block| block.is_object() && restarts(block)) {
            block["ChangeMode"] = "noop".into();
        }
    }
}

fn set_environment(env: &mut Map<String, Value>, context: &JobContext<'_>) {
    let template = context.template;
    for (name, value) in environment::of(template, context.session, context.record, context.url) {
        if name.starts_with("BIVOUAC_") || !env.contains_key(&name) {
            env.insert(name, env_text(&value).into());
        }
    }
    let port = |label: &PortLabel| format!("${{NOMAD_PORT_{label}}}");
    for label in template.ports.keys() {
        env.entry(environment::port_variable(label)).or_insert_with(|| port(label).into());
    }
    env.entry("PORT").or_insert_with(|| port(&template.default_port).into());
    for (name, value) in exact_meta(template.values(&context.record.request)) {
        inline(env, &name, &value);
        env.insert(name, value.into());
    }
}

/// Writes an escaped value in place of each reference to it, so that it is interpolated once, not twice.
fn inline(env: &mut Map<String, Value>, name: &str, escaped: &str) {
    let reference = format!("${{{name}}}");
    for value in env.values_mut() {
        if let Some(text) = value.as_str().filter(|text| text.contains(&reference)) {
            *value = text.replace(&reference, escaped).into();
        }
    }
}

/// Meta is filled in in no particular order, so a value that needs the dollar sign's own Meta may arrive there still
/// escaped. Env comes after it and takes precedence: the same names, set there too, make `${NOMAD_META_…}` exact in the
/// driver's config.
fn exact_meta(values: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut exact = BTreeMap::new();
    for (name, value) in values {
        let escaped = env_text(&value);
        if escaped != value {
            exact.insert(format!("NOMAD_META_{}", name.to_ascii_uppercase()), escaped.clone());
            exact.insert(format!("NOMAD_META_{name}"), escaped);
        }
    }
    exact
}

fn edit_main_task(task: &mut Map<String, Value>, context: &JobContext<'_>) -> Result<(), TranslateError> {
    let request = &context.record.request;
    if !request.args.is_empty() {
        let args = child(task, "Config")?.entry("args").or_insert(Value::Null);
        if args.is_null() {
            *args = json!([]);
        }
        let args = args.as_array_mut().ok_or_else(|| TranslateError("args is not a list".to_owned()))?;
        args.extend(request.args.iter().map(|arg| Value::from(config_text(arg))));
    }
    if let Some(image) = &request.image {
        child(task, "Config")?.insert("image".to_owned(), config_text(image).into());
    }
    let Some(asked) = request.resources else { return Ok(()) };
    let resources = child(task, "Resources")?;
    if let Some(cpu) = asked.cpu {
        resources.insert("CPU".to_owned(), cpu.into());
        resources.insert("Cores".to_owned(), Value::Null);
    }
    if let Some(memory) = asked.memory_mb {
        resources.insert("MemoryMB".to_owned(), memory.into());
        resources.insert("MemoryMaxMB".to_owned(), Value::Null);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
