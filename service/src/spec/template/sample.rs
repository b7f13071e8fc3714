//! A session that nobody asked for: what a template's job would look like, for Nomad to look at before the first spawn.

use std::collections::BTreeMap;

use bivouac_protocol::{Generation, Namespace, Nonce, Phase, Record, SessionId, StoredRequest, Timeline};
use jiff::Timestamp;
use serde_json::Value;

use super::Template;
use crate::spec::translate::{self, JobContext, TranslateError};

pub(super) fn job(template: &Template, parsed: &Value) -> Result<Value, TranslateError> {
    let params = template.params.keys().map(|name| (name.clone(), "sample".to_owned())).collect();
    let request = StoredRequest { params, ..StoredRequest::default() };
    let record = Record {
        revision: 1,
        namespace: Namespace::default(),
        key: None,
        template: template.name.clone(),
        hash: template.hash.clone(),
        policy: template.policy(&request),
        request,
        generation: Generation(1),
        nonce: Nonce::random(),
        phase: Phase::Claimed,
        allocation: None,
        leases: BTreeMap::new(),
        touched_at: Timestamp::UNIX_EPOCH,
        reason: None,
        failures: 0,
        timeline: Timeline::default(),
    };
    let context = JobContext {
        session: &SessionId::random(),
        record: &record,
        template,
        url: "http://sample.localhost",
        cluster: "sample",
        created_at: Timestamp::UNIX_EPOCH,
    };
    translate::job(parsed, &context)
}
