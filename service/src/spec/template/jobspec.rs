//! From a template's HCL to a job that sessions can be made of: Nomad parses it, and it must fit its `template.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::backend::nomad::remedy;

use super::{Allowance, Job, Mode, NomadTemplate, Template, Templates, sample, variables};

/// Who knows what a job is: Nomad's servers.
#[async_trait::async_trait]
pub trait JobParser: Send + Sync {
    /// Parses a job, with values for its HCL2 variables.
    async fn parse(&self, jobspec: &str, variables: &BTreeMap<String, String>) -> Result<Value, ParseError>;

    /// What keeps a job from being registered; drivers' own configuration is not looked at.
    async fn validate(&self, job: &Value) -> Result<Vec<String>, ParseError>;
}

/// Why there is no parsed job.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ParseError {
    /// Nomad says that the text is not a job.
    #[error("{0}")]
    Refused(String),
    /// Nomad does not answer, or not with this token.
    #[error("{0}")]
    Unavailable(String),
}

/// How long to wait before a parser that did not answer is asked again.
const RETRY: Duration = Duration::from_secs(1);
/// How long until a refused job is shown to Nomad again.
const SECOND_THOUGHTS: Duration = Duration::from_secs(10);

impl Templates {
    /// Has the job of every template parsed, and asks again until Nomad has answered for each.
    pub async fn parse_jobs(&self, parser: &dyn JobParser) {
        let mut waiting: Vec<_> =
            self.iter().filter(|template| template.mode == Mode::Nomad && template.nomad.is_some()).collect();
        let mut told = false;
        loop {
            let mut unanswered = Vec::new();
            for template in waiting {
                if let Err(detail) = parse(&template, parser).await {
                    if !told {
                        tracing::warn!(%detail, "Nomad does not parse the templates' jobs yet; it is asked again until it does.");
                        told = true;
                    }
                    unanswered.push(template);
                }
            }
            if unanswered.is_empty() {
                return;
            }
            waiting = unanswered;
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Shows refused jobs to Nomad again and again, for ever: what the cluster lacked (a namespace, a node pool, a
    /// permission) may be there by now.
    pub async fn ask_again(&self, parser: &dyn JobParser) {
        let refused = |template: &Template| {
            let job = template.nomad.as_ref().map(NomadTemplate::job);
            template.mode == Mode::Nomad && matches!(job, Some(Job::Refused(_)))
        };
        loop {
            tokio::time::sleep(SECOND_THOUGHTS).await;
            for template in self.iter().filter(|template| refused(template)) {
                if let Err(detail) = parse(&template, parser).await {
                    tracing::debug!(template = %template.name, %detail, "A refused job cannot be shown to Nomad now.");
                }
            }
        }
    }
}

async fn parse(template: &Template, parser: &dyn JobParser) -> Result<(), String> {
    let Some(nomad) = &template.nomad else { return Ok(()) };
    let job = match usable_job(template, nomad, parser).await {
        Ok(job) => Job::Ready(Arc::new(job)),
        Err(ParseError::Refused(detail)) => Job::Refused(format!("{}: {detail}", nomad.file)),
        Err(ParseError::Unavailable(detail)) => {
            if !matches!(nomad.job(), Job::Refused(_)) {
                nomad.set_job(Job::Pending(format!("Nomad does not answer: {detail}")));
            }
            return Err(detail);
        }
    };
    match &job {
        Job::Refused(detail) if matches!(nomad.job(), Job::Refused(known) if known == *detail) => {}
        Job::Refused(detail) => {
            tracing::warn!(template = %template.name, %detail, "A template cannot be used; spawns of it are refused.");
        }
        _ => tracing::info!(template = %template.name, "Nomad has parsed a template's job."),
    }
    nomad.set_job(job);
    Ok(())
}

/// Parses the job, checks that it fits, and has Nomad look at a session made of it.
pub(super) async fn usable_job(
    template: &Template,
    nomad: &NomadTemplate,
    parser: &dyn JobParser,
) -> Result<Value, ParseError> {
    variables::check(&nomad.jobspec, &nomad.variables).map_err(ParseError::Refused)?;
    let parsed = parser.parse(&nomad.jobspec, &nomad.variables).await?;
    check(&parsed, template).map_err(ParseError::Refused)?;
    let sample = sample::job(template, &parsed).map_err(|error| ParseError::Refused(error.to_string()))?;
    let faults = parser.validate(&sample).await?;
    // Nomad's texts are nested lists with a line for each level.
    let faults: Vec<_> = faults.iter().flat_map(|fault| fault.split_whitespace()).collect();
    if faults.is_empty() { Ok(parsed) } else { Err(ParseError::Refused(remedy::advised(&faults.join(" ")))) }
}

/// Whether sessions can be made of the job: one group, the named port, and one task that callers' text can go to.
pub(crate) fn check(job: &Value, template: &Template) -> Result<(), String> {
    let [group] = array(job, "TaskGroups") else {
        return Err(format!(
            "the job must have exactly one group, and has {}",
            array(job, "TaskGroups").len()
        ));
    };
    if !matches!(job["Type"].as_str(), None | Some("batch")) {
        return Err(
            "the job's type must be \"batch\": a session that ended must not be started again".to_owned()
        );
    }
    if !matches!(group["Count"].as_u64(), None | Some(1)) {
        return Err("the group's count must be 1: a session is one allocation".to_owned());
    }
    for (block, name) in
        [("Periodic", "periodic"), ("ParameterizedJob", "parameterized"), ("Multiregion", "multiregion")]
    {
        if !job[block].is_null() {
            return Err(format!("the job must have no {name} block: every session is a job of its own"));
        }
    }
    let declared = port_labels(group);
    if let Some(label) = template.ports.keys().find(|label| !declared.contains(label.as_str())) {
        return Err(format!(
            "the group's network has no port {:?}, which template.toml names",
            label.as_str()
        ));
    }
    let needs_main_task =
        template.allow.iter().any(|a| matches!(a, Allowance::Args | Allowance::Image | Allowance::Resources));
    if needs_main_task && main_task(array(group, "Tasks")).is_none() {
        return Err(
            "it is not clear which task callers' args, image and resources are for: mark one as leader"
                .to_owned(),
        );
    }
    check_services(group, template)
}

/// Services may only sit on ports that the template names: each is a session's, and carries that port's label.
fn check_services(group: &Value, template: &Template) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for service in services(group) {
        let label = service["PortLabel"].as_str().unwrap_or_default();
        if !seen.insert(label) {
            return Err(format!("two services are on port {label:?}, and would have the same name"));
        }
        if !template.ports.keys().any(|known| known.as_str() == label) {
            return Err(format!("a service is on port {label:?}, which template.toml does not name"));
        }
    }
    Ok(())
}

fn services(group: &Value) -> impl Iterator<Item = &Value> {
    array(group, "Services")
        .iter()
        .chain(array(group, "Tasks").iter().flat_map(|task| array(task, "Services")))
}

fn array<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn port_labels(group: &Value) -> BTreeSet<&str> {
    array(group, "Networks")
        .iter()
        .flat_map(|network| array(network, "DynamicPorts").iter().chain(array(network, "ReservedPorts")))
        .filter_map(|port| port["Label"].as_str())
        .collect()
}

/// Which of a group's tasks the session is about: the only one that is not a helper around it, else the leader.
pub(crate) fn main_task(tasks: &[Value]) -> Option<usize> {
    let mut own = (0..tasks.len()).filter(|&n| tasks[n]["Lifecycle"].is_null());
    let first = own.next()?;
    if own.next().is_none() {
        return Some(first);
    }
    let mut leaders = (0..tasks.len()).filter(|&n| tasks[n]["Leader"] == true);
    leaders.next().filter(|_| leaders.next().is_none())
}

/// Names of the environment variables that the job's tasks set.
pub(crate) fn environment(job: &Value) -> BTreeSet<String> {
    array(job, "TaskGroups")
        .iter()
        .flat_map(|group| array(group, "Tasks"))
        .filter_map(|task| task["Env"].as_object())
        .flat_map(|env| env.keys().cloned())
        .collect()
}

/// Nomad's servers as the parser.
#[derive(Debug, Clone)]
pub struct NomadParser {
    /// How they are reached.
    pub client: bivouac_nomad::Client,
    /// A namespace in which the token may parse; the job may be in another.
    pub namespace: String,
}

#[async_trait::async_trait]
impl JobParser for NomadParser {
    async fn parse(&self, jobspec: &str, variables: &BTreeMap<String, String>) -> Result<Value, ParseError> {
        self.client.parse(jobspec, variables, &self.namespace).await.map_err(judged)
    }

    async fn validate(&self, job: &Value) -> Result<Vec<String>, ParseError> {
        let namespace = job["Namespace"].as_str().filter(|name| !name.is_empty()).unwrap_or(&self.namespace);
        match self.client.validate(job, namespace).await {
            Ok(validation) => Ok(validation.errors),
            // A token may be good for registering jobs and not for this; the registration will tell.
            Err(bivouac_nomad::Error::Denied(_)) => Ok(Vec::new()),
            Err(error) => Err(judged(error)),
        }
    }
}

/// Only a refusal of the text itself is final: a token may be mended, a server come back.
fn judged(error: bivouac_nomad::Error) -> ParseError {
    match error {
        bivouac_nomad::Error::Invalid(detail) => ParseError::Refused(detail),
        other => ParseError::Unavailable(other.to_string()),
    }
}
