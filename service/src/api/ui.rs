//! The status page: one document without anything from elsewhere. It holds nothing that is worth protecting; what it
//! shows it asks the API for, with the token of whoever looks.
//!
//! Everything that it may do is in its content security policy: run this one script, use this one style, and speak to
//! the origin that it came from. It cannot be framed, and tells nobody where it was.

use std::sync::LazyLock;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

const PAGE: &str = include_str!("ui/page.html");
const STYLE: &str = include_str!("ui/style.css");
/// One script in several rooms: asking and words, the list, one session, and what holds them together.
const SCRIPT: &str = concat!(
    include_str!("ui/api.js"),
    include_str!("ui/sessions.js"),
    include_str!("ui/detail.js"),
    include_str!("ui/page.js"),
);

/// The document and its policy: the same for everybody.
static DOCUMENT: LazyLock<(String, HeaderValue)> = LazyLock::new(|| {
    let page = PAGE.replacen("{{style}}", STYLE, 1).replacen("{{script}}", SCRIPT, 1);
    let policy = HeaderValue::try_from(policy()).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    (page, policy)
});

fn policy() -> String {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
}

/// `GET /ui`
pub(crate) async fn page() -> Response {
    let (page, policy) = &*DOCUMENT;
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy.clone()),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
        (
            HeaderName::from_static("permissions-policy"),
            HeaderValue::from_static("camera=(), geolocation=(), microphone=()"),
        ),
    ];
    (headers, Html(page.as_str())).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_asks_nobody_else() {
        let (page, policy) = &*DOCUMENT;
        assert!(page.contains(STYLE) && page.contains(SCRIPT) && !page.contains("{{"));
        assert!(!SCRIPT.contains("</script") && !STYLE.contains("</style"));
        let inline = [" onclick=", " onload=", " style=", "javascript:", "innerHTML", "src=\""];
        for forbidden in inline {
            assert!(!page.contains(forbidden), "the policy forbids {forbidden}");
        }
        assert!(!page.contains("https://") && !page.contains("http://"), "nothing comes from elsewhere");
        assert!(policy.to_str().unwrap().starts_with("default-src 'none'; script-src 'sha256-"));
    }
}
