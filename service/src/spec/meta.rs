//! The Meta of a session's job: whose it is, and enough to write its record again should that ever be lost.

use std::collections::BTreeMap;

use bivouac_protocol::{Phase, Policy, Record, SessionId, StoredRequest, Timeline};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Fingerprint of the installation that the job belongs to.
pub const CLUSTER: &str = "bivouac_cluster";
/// The session's id.
pub const SESSION: &str = "bivouac_session";
/// Its key; absent where it has none.
pub const KEY: &str = "bivouac_key";
/// Its namespace.
pub const NAMESPACE: &str = "bivouac_namespace";
/// Its generation.
pub const GENERATION: &str = "bivouac_generation";
/// Its template.
pub const TEMPLATE: &str = "bivouac_template";
/// The name of the API token that spawned it; absent where it is not known.
pub const SPAWNED_BY: &str = "bivouac_spawned_by";
/// The template's digest.
pub const HASH: &str = "bivouac_hash";
/// The claim's nonce.
pub const NONCE: &str = "bivouac_nonce";
/// When it was claimed, RFC 3339.
pub const CREATED_AT: &str = "bivouac_created_at";
/// What was asked for and the rules that follow, as JSON.
pub const REQUEST: &str = "bivouac_request";
/// A dollar sign, for texts that must not be interpolated.
pub const DOLLAR: &str = "bivouac_dollar";
/// A percent sign, likewise.
pub const PERCENT: &str = "bivouac_percent";

#[derive(Serialize, Deserialize)]
struct Stored {
    request: StoredRequest,
    policy: Policy,
}

/// All of it. No value holds a `$` in front of a `{`.
pub(crate) fn of(
    session: &SessionId,
    record: &Record,
    cluster: &str,
    created_at: Timestamp,
) -> BTreeMap<String, String> {
    let stored = Stored { request: record.request.clone(), policy: record.policy.clone() };
    // In JSON a dollar sign can only stand in a string, where it may as well be written as an escape: nothing is left
    // to interpolate, and whoever reads the job's raw Meta gets the exact text.
    let stored = serde_json::to_string(&stored).unwrap_or_default().replace('$', "\\u0024");
    let mut meta = BTreeMap::from(
        [
            (CLUSTER, cluster.to_owned()),
            (SESSION, session.to_string()),
            (NAMESPACE, record.namespace.to_string()),
            (GENERATION, record.generation.to_string()),
            (TEMPLATE, record.template.to_string()),
            (HASH, record.hash.clone()),
            (NONCE, record.nonce.to_string()),
            (CREATED_AT, created_at.to_string()),
            (REQUEST, stored),
            (DOLLAR, "$".to_owned()),
            (PERCENT, "%".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    if let Some(key) = &record.key {
        meta.insert(KEY.to_owned(), key.to_string());
    }
    if let Some(spawned_by) = &record.request.spawned_by {
        meta.insert(SPAWNED_BY.to_owned(), spawned_by.to_string());
    }
    meta
}

/// The record that a job was started from, as its Meta tells it: claimed, and at revision 1. `None` for a job that is not
/// a session's.
#[must_use]
pub fn recover(meta: &BTreeMap<String, String>) -> Option<(SessionId, Record)> {
    let get = |name: &str| meta.get(name).map(String::as_str);
    let stored: Stored = serde_json::from_str(get(REQUEST)?).ok()?;
    let claimed: Timestamp = get(CREATED_AT)?.parse().ok()?;
    let record = Record {
        revision: 1,
        namespace: get(NAMESPACE)?.parse().ok()?,
        key: get(KEY).map(str::parse).transpose().ok()?,
        template: get(TEMPLATE)?.parse().ok()?,
        hash: get(HASH)?.to_owned(),
        request: stored.request,
        policy: stored.policy,
        generation: get(GENERATION)?.parse().ok()?,
        nonce: get(NONCE)?.parse().ok()?,
        phase: Phase::Claimed,
        allocation: None,
        leases: BTreeMap::new(),
        touched_at: claimed,
        reason: None,
        failures: 0,
        timeline: Timeline { claimed: Some(claimed), ..Timeline::default() },
    };
    Some((get(SESSION)?.parse().ok()?, record))
}
