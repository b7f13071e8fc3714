//! What can be spawned.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bivouac_protocol::token::Verb;
use bivouac_protocol::{Access, PortLabel, TemplateName};
use serde::Serialize;

use super::Control;
use super::auth::Caller;
use crate::spec::Template;
use crate::spec::template::{Allowance, Param, PolicyBounds, Port, Problem};

#[derive(Serialize)]
pub(crate) struct Listing {
    templates: Vec<Shown>,
}

/// A template as callers see it: what they may send, not how it runs.
#[derive(Serialize)]
struct Shown {
    name: TemplateName,
    description: String,
    hash: String,
    enabled: bool,
    problem: Option<String>,
    access: Access,
    wake: bool,
    allow: Vec<Allowance>,
    params: BTreeMap<String, ShownParam>,
    ports: BTreeMap<PortLabel, Port>,
    #[serde(flatten)]
    bounds: PolicyBounds,
}

#[derive(Serialize)]
struct ShownParam {
    pattern: Option<String>,
    required: bool,
    default: Option<String>,
}

/// `GET /v1/templates`: those that the caller has to do with.
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    caller: Caller,
) -> Result<Json<Listing>, super::problem::Problem> {
    caller.require_any([Verb::Read, Verb::Spawn])?;
    let templates = control.templates.iter().filter(|template| caller.scope().has_template(&template.name));
    Ok(Json(Listing { templates: templates.map(|template| shown(&template)).collect() }))
}

fn shown(template: &Template) -> Shown {
    let problem = template.problem();
    let param = |param: &Param| ShownParam {
        pattern: param.pattern.as_ref().map(|pattern| pattern.as_str().to_owned()),
        required: param.required,
        default: param.default.clone(),
    };
    Shown {
        name: template.name.clone(),
        description: template.description.clone(),
        hash: template.hash.clone(),
        enabled: problem.is_none(),
        problem: problem.as_ref().map(Problem::detail).map(str::to_owned),
        access: template.rules.access,
        wake: template.wake,
        allow: template.allow.iter().copied().collect(),
        params: template.params.iter().map(|(name, known)| (name.clone(), param(known))).collect(),
        ports: template.ports.clone(),
        bounds: template.bounds.clone(),
    }
}
