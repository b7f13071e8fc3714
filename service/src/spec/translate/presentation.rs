//! What people read of a session in Nomad's and Consul's own pages.

use bivouac_protocol::SessionId;
use serde_json::{Value, json};

use super::JobContext;

/// The description and the link at the top of the job's page in Nomad's UI. It renders Markdown: what a caller chose (of
/// a key's characters none is a backtick) stands in code spans, where nothing is interpreted.
pub(super) fn ui(context: &JobContext<'_>) -> Value {
    let record = context.record;
    let key = record.key.as_ref().map(|key| format!(" of key `{key}`")).unwrap_or_default();
    let by =
        record.request.spawned_by.as_ref().map(|name| format!(", spawned by `{name}`")).unwrap_or_default();
    let (id, namespace, template) = (context.session, &record.namespace, &record.template);
    let description = format!(
        "A Bivouac session: run {}{key} in namespace `{namespace}`, from template `{template}`{by}. It ends by itself \
         when nobody uses it.\n\n`bivouac status {id}` says why it is alive or why it ended, `bivouac stop {id}` ends it; \
         a stop by Nomad's own means ends it too, and a request does not wake it then.",
        record.generation
    );
    json!({"Description": description, "Links": [{"Label": "Open the session", "Url": context.url}]})
}

/// How our own check is called. Its notes would be the place for advice, but Nomad (up to 1.11 at least) keeps those to
/// itself and registers the check without them.
pub(super) fn check_name(session: &SessionId) -> String {
    format!("accepts connections; if not: bivouac status {session}")
}

/// What a check says about itself: what it means if it fails, and what to do. Consul permits 255 characters.
pub(super) fn check_notes(session: &SessionId) -> String {
    format!(
        "If this is critical, the backend does not answer. `bivouac status {session}` tells how it fares, `bivouac logs \
         {session}` what it said. Nothing is stopped for this; proxies do not look at it."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_short_enough_for_consul() {
        assert!(check_notes(&SessionId::random()).len() <= 255);
    }
}
