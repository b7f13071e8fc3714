//! What every request passes before anything else looks at it: a request id, the host and origin that it is for, and, on
//! the way out, the rendering of problems.
//!
//! Sessions are hostile origins on the same machine or domain. A page of one must neither call the API from the browser of
//! somebody who can reach it (hence the origin), nor make its own name resolve to the API's address (hence the host).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::{Code, Problem};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Which hosts and origins the API serves.
#[derive(Debug, Clone, Default)]
pub struct Perimeter {
    hosts: Vec<String>,
    bound: Option<IpAddr>,
    origins: Vec<HeaderValue>,
}

impl Perimeter {
    /// Serves the loopback names, the address it is bound to (bound to all addresses: any address, but no name) and the
    /// given hosts, without port. Of origins, those that are given (`https://app.example`).
    #[must_use]
    pub fn new(bound: IpAddr, hosts: &[String], origins: &[HeaderValue]) -> Self {
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Self { hosts, bound: Some(bound), origins: origins.to_vec() }
    }

    /// The origins that browsers may call from.
    pub(crate) fn origins(&self) -> &[HeaderValue] {
        &self.origins
    }

    fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let named = named(uri, headers)
            .ok_or_else(|| Problem::new(Code::HostNotAllowed, "The request must name exactly one host."))?;
        let host = named.host().to_ascii_lowercase();
        if !self.allows_host(&host) {
            let detail = format!(
                "The API is not served under the name {host:?}. Use its address, or have the operator add the name with --allow-host."
            );
            return Err(Problem::new(Code::HostNotAllowed, detail));
        }
        let allowed = |origin| self.origins.contains(origin) || is_own(origin, &named, headers);
        if !headers.get_all(header::ORIGIN).iter().all(allowed) {
            return Err(Problem::new(
                Code::ForbiddenOrigin,
                "Pages of this origin may not call the API. Call it from a server, or have the operator add the origin with \
                 --allow-origin.",
            ));
        }
        Ok(())
    }

    fn allows_host(&self, host: &str) -> bool {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        match literal.parse::<IpAddr>() {
            Ok(address) if address.is_loopback() => true,
            Ok(address) => {
                self.bound.is_some_and(|bound| bound == address || bound.is_unspecified())
                    || self.hosts.iter().any(|known| known == literal)
            }
            Err(_) => host == "localhost" || self.hosts.iter().any(|known| known == host),
        }
    }
}

/// Whether a page of ours calls: the status page. Its origin is the very host and port that the request is for, and that
/// is one of the API's, or the request would not have come so far. A session's page differs in one of both: its host is
/// none of the API's, whatever its name resolves to.
fn is_own(origin: &HeaderValue, named: &Authority, headers: &HeaderMap) -> bool {
    let authority = origin.to_str().ok().and_then(|origin| {
        origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))?.parse::<Authority>().ok()
    });
    // Where a browser says itself how page and request are related, it has to agree.
    let same = headers.get_all(SEC_FETCH_SITE).iter().all(|site| site == "same-origin");
    same && authority.is_some_and(|authority| named.as_str().eq_ignore_ascii_case(authority.as_str()))
}

/// The one host and port that a request names.
fn named(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let mut named = headers.get_all(header::HOST).iter();
    let header = named.next().map(|value| value.to_str().ok()?.parse::<Authority>().ok());
    if named.next().is_some() {
        return None;
    }
    let header = match header {
        Some(None) => return None, // malformed
        Some(Some(authority)) => Some(authority),
        None => None,
    };
    let authority = match (header, uri.authority()) {
        (Some(header), Some(target)) if header.host() != target.host() => return None,
        (Some(header), _) => header,
        (None, target) => target?.clone(),
    };
    // "user@host" is no form of a host header.
    (!authority.as_str().contains('@')).then_some(authority)
}

/// Finds the request in the log, on both sides. A caller's own id is kept where it is harmless.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

impl RequestId {
    fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok());
        let harmless = |id: &&str| {
            (1..=128).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        Self(given.filter(harmless).map_or_else(|| format!("{:032x}", rand::random::<u128>()), str::to_owned))
    }
}

/// The outermost layer.
pub(crate) async fn pass(
    State(perimeter): State<Arc<Perimeter>>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let id = RequestId::of(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = match perimeter.check(request.uri(), request.headers()) {
        Ok(()) => {
            request.extensions_mut().insert(id.clone());
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    let duration_ms = begun.elapsed().as_millis();
    let status = response.status().as_u16();
    let mut response = finish(response, &id);
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id.0) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    tracing::debug!(request.id = %id.0, %method, path, status, duration_ms, "An API request was answered.");
    response
}

fn finish(mut response: Response, id: &RequestId) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    if let Some(cause) = problem.cause() {
        tracing::warn!(request.id = %id.0, code = problem.code(), cause, "An API request failed.");
    }
    problem.render(response, &id.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bound: &str, host: &[&str], origin: Option<&str>) -> Result<(), &'static str> {
        let perimeter = Perimeter::new(
            bound.parse().unwrap(),
            &["api.example".to_owned()],
            &[HeaderValue::from_static("https://app.example")],
        );
        let mut headers = HeaderMap::new();
        for host in host {
            headers.append(header::HOST, host.parse().unwrap());
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        perimeter.check(&Uri::from_static("/v1/spawn"), &headers).map_err(|problem| problem.code())
    }

    #[test]
    fn only_names_of_the_api_are_served() {
        for host in
            ["localhost", "LOCALHOST:7070", "127.0.0.1:7070", "[::1]:7070", "10.1.2.3", "api.example:443"]
        {
            assert_eq!(check("10.1.2.3", &[host], None), Ok(()), "{host}");
        }
        let refused: [&[&str]; 10] = [
            &[],
            &["localhost", "localhost"],
            &["evil.example"],
            &["abcdefghij234567abcd.localhost:7080"],
            &["localhost.evil.example"],
            &["10.1.2.4"],
            &["user@localhost"],
            &["localhost/x"],
            &[""],
            &["localhost."],
        ];
        for host in refused {
            assert_eq!(check("10.1.2.3", host, None), Err("host_not_allowed"), "{host:?}");
        }
        assert_eq!(check("0.0.0.0", &["192.168.7.7:7070"], None), Ok(()));
        assert_eq!(check("0.0.0.0", &["evil.example"], None), Err("host_not_allowed"));
    }

    #[test]
    fn only_listed_origins_may_call() {
        assert_eq!(check("127.0.0.1", &["localhost"], Some("https://app.example")), Ok(()));
        assert_eq!(check("127.0.0.1", &["localhost:7070"], Some("http://localhost:7070")), Ok(()));
        assert_eq!(check("127.0.0.1", &["[::1]:7070"], Some("http://[::1]:7070")), Ok(()));
        assert_eq!(check("127.0.0.1", &["api.example"], Some("https://api.example")), Ok(()));
        for (host, origin) in [
            ("localhost:7070", "http://localhost:7080"),
            ("localhost:7070", "http://127.0.0.1:7070"),
            ("localhost:7070", "http://x.localhost:7070"),
            ("localhost:7070", "ftp://localhost:7070"),
            ("localhost:7070", "http://localhost:7070/"),
            ("localhost:7070", "http://user@localhost:7070"),
            ("localhost:7070", "localhost:7070"),
        ] {
            assert_eq!(check("127.0.0.1", &[host], Some(origin)), Err("forbidden_origin"), "{host} {origin}");
        }
        // A session's name that is made to resolve to the API's address is its own origin, and nobody's host.
        assert_eq!(
            check("127.0.0.1", &["x.localhost:7070"], Some("http://x.localhost:7070")),
            Err("host_not_allowed")
        );
        for origin in
            ["null", "http://localhost:7070", "http://x.localhost:7080", "https://app.example.evil", ""]
        {
            assert_eq!(check("127.0.0.1", &["localhost"], Some(origin)), Err("forbidden_origin"), "{origin}");
        }
    }
}
