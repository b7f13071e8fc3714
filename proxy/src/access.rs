//! Who may enter a session. Every template is `access = "public"` for now: the service refuses to load any other.

use bivouac_protocol::SessionId;
use pingora_http::RequestHeader;

use crate::refusal::Refusal;

/// Judges a request before it counts as use, knocks or wakes.
pub(crate) fn check(_session: &SessionId, _request: &RequestHeader) -> Result<(), Refusal> {
    Ok(())
}
