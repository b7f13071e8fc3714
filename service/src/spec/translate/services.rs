//! The session's services in Consul: what operators find it by, and where proxies resolve it.

use bivouac_protocol::PortLabel;
use serde_json::{Map, Value, json};

use super::{JobContext, TranslateError, child, elements, is_unset, object, presentation};
use crate::spec::meta;

/// Gives every service of the group the session's name and marks, and adds one for each port that has none.
pub(super) fn edit(group: &mut Map<String, Value>, context: &JobContext<'_>) -> Result<(), TranslateError> {
    let mut served = Vec::new();
    for service in elements(group, "Services") {
        served.push(mark(object(service, "a service")?, context)?);
    }
    for task in elements(group, "Tasks") {
        for service in elements(object(task, "a task")?, "Services") {
            served.push(mark(object(service, "a service")?, context)?);
        }
    }
    for label in context.template.ports.keys().filter(|label| !served.contains(&label.to_string())) {
        let mut service = object(&mut cheap(label, context), "a service")?.clone();
        mark(&mut service, context)?;
        if is_unset(group, "Services") {
            group.insert("Services".to_owned(), json!([]));
        }
        if let Some(services) = group.get_mut("Services").and_then(Value::as_array_mut) {
            services.push(Value::Object(service));
        }
    }
    Ok(())
}

/// A service of the group, which Nomad registers before the task starts. Its check is for operators' eyes: proxies
/// probe by themselves.
fn cheap(label: &PortLabel, context: &JobContext<'_>) -> Value {
    const MINUTE_NS: u64 = 60_000_000_000;
    const TIMEOUT_NS: u64 = 5_000_000_000;
    json!({
        "PortLabel": label.as_str(),
        "Checks": [{"Name": presentation::check_name(context.session), "Type": "tcp", "PortLabel": label.as_str(), "Interval": MINUTE_NS,
                    "Timeout": TIMEOUT_NS, "InitialStatus": "passing"}],
    })
}

/// Marks a service as the session's and returns its port's label.
fn mark(service: &mut Map<String, Value>, context: &JobContext<'_>) -> Result<String, TranslateError> {
    let label = service.get("PortLabel").and_then(Value::as_str).unwrap_or_default().to_owned();
    service.insert("Name".to_owned(), context.session.service_name().into());
    service.insert("Provider".to_owned(), "consul".into());
    // A failing check must not start the task again.
    service.remove("CheckRestart");
    for check in elements(service, "Checks") {
        let check = object(check, "a check")?;
        check.remove("CheckRestart");
        if check.get("Notes").and_then(Value::as_str).is_none_or(str::is_empty) {
            check.insert("Notes".to_owned(), presentation::check_notes(context.session).into());
        }
    }
    let mut tags = vec![Value::from("bivouac-session")];
    tags.extend(tag_names(context).map(|(tag, name)| format!("{tag}=${{NOMAD_META_{name}}}").into()));
    tags.extend(service.get("Tags").and_then(Value::as_array).into_iter().flatten().cloned());
    service.insert("Tags".to_owned(), tags.into());
    let service_meta = child(service, "Meta")?;
    for name in meta_names(context) {
        service_meta.insert(name.to_owned(), format!("${{NOMAD_META_{name}}}").into());
    }
    service_meta.insert("bivouac_allocation".to_owned(), "${NOMAD_ALLOC_ID}".into());
    service_meta.insert("bivouac_port".to_owned(), label.clone().into());
    service_meta.insert("bivouac_protocol".to_owned(), protocol(context, &label).into());
    if label == context.template.default_port.as_str() {
        service_meta.insert("bivouac_default_port".to_owned(), "true".into());
    }
    Ok(label)
}

fn protocol(context: &JobContext<'_>, label: &str) -> &'static str {
    let port = context.template.ports.iter().find(|(known, _)| known.as_str() == label);
    port.map(|(_, port)| port.protocol).unwrap_or_default().as_str()
}

fn tag_names(context: &JobContext<'_>) -> impl Iterator<Item = (&'static str, &'static str)> {
    let key = context.record.key.is_some().then_some(("key", meta::KEY));
    [("template", meta::TEMPLATE), ("namespace", meta::NAMESPACE)].into_iter().chain(key)
}

fn meta_names(context: &JobContext<'_>) -> impl Iterator<Item = &'static str> {
    let key = context.record.key.is_some().then_some(meta::KEY);
    let spawned_by = context.record.request.spawned_by.is_some().then_some(meta::SPAWNED_BY);
    [meta::SESSION, meta::NAMESPACE, meta::GENERATION, meta::TEMPLATE, meta::CREATED_AT]
        .into_iter()
        .chain(key)
        .chain(spawned_by)
}
