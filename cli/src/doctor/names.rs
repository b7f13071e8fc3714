//! The sessions' domain: do its names lead to a proxy, and are its cookies nobody else's.

use std::net::IpAddr;

use bivouac_protocol::SessionId;
use reqwest::header::ACCEPT;
use tokio::net::lookup_host;
use url::{Host, Url};

use super::agents::{self, Heard};
use super::report::Finding;

/// Looks at where sessions live. `api` is the service's own address, if it is known, and `others` are further names that
/// people are logged in at.
pub(crate) async fn examine(
    http: &reqwest::Client,
    session_url: &Url,
    api: Option<&Url>,
    others: &[String],
) -> (Vec<Finding>, Option<Heard>) {
    let Some(Host::Domain(domain)) = session_url.host() else {
        let found = format!("{session_url} has no domain: sessions need a name each");
        return (vec![Finding::error("domain.name", found, "Give a domain with --session-url.")], None);
    };
    // Nobody's: it is random.
    let label = SessionId::random().to_string();
    let mut findings = vec![resolves(&label, domain).await];
    let mut heard = None;
    if findings.iter().all(|finding| finding.fix.is_none()) {
        let (finding, answer) = leads_to_a_proxy(http, session_url, &label, domain).await;
        findings.push(finding);
        heard = answer;
    }
    let named = api.and_then(Url::host_str).map(str::to_owned);
    findings.extend(cookies(domain, named.iter().chain(others).map(String::as_str)));
    (findings, heard)
}

async fn resolves(label: &str, domain: &str) -> Finding {
    const CHECK: &str = "domain.dns";
    let name = format!("{label}.{domain}");
    let fix = format!("Add a wildcard record *.{domain} that leads to the proxies.");
    match lookup_host((name.as_str(), 443)).await {
        Ok(found) => {
            let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
            addresses.sort();
            addresses.dedup();
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            if addresses.is_empty() {
                return Finding::error(CHECK, format!("{name} has no address"), fix);
            }
            Finding::ok(CHECK, format!("any name below {domain} resolves, to {}", addresses.join(", ")))
        }
        // Browsers take these names for this machine without asking anybody.
        Err(_) if is_localhost(domain) => {
            Finding::skipped(CHECK, "this machine does not resolve names below localhost; browsers do")
        }
        Err(error) => Finding::error(CHECK, format!("{name} does not resolve: {error}"), fix),
    }
}

/// A proxy says of a session that nobody knows that it does not know it.
async fn leads_to_a_proxy(
    http: &reqwest::Client,
    session_url: &Url,
    label: &str,
    domain: &str,
) -> (Finding, Option<Heard>) {
    const CHECK: &str = "domain.proxy";
    let mut url = session_url.clone();
    // A label in front of a host that was parsed is a host.
    let _ = url.set_host(Some(&format!("{label}.{domain}")));
    let fix = format!("Let *.{domain} lead to the proxies, and give them --domain {domain}.");
    match agents::ask(http.get(url).header(ACCEPT, "application/json")).await {
        Ok(heard) if heard.json()["code"] == "session_unknown" => (
            Finding::ok(CHECK, format!("names below {domain} lead to a proxy that serves them")),
            Some(heard),
        ),
        Ok(heard) => {
            let found =
                format!("names below {domain} do not lead to a proxy that serves them ({})", heard.said());
            (Finding::error(CHECK, found, fix), None)
        }
        // The machine that asks may have no way to where users come from.
        Err(_) if is_localhost(domain) => (
            Finding::skipped(CHECK, "names below localhost do not resolve here; browsers resolve them"),
            None,
        ),
        Err(silence) => {
            let found = format!("names below {domain} lead to nobody who answers: {}", silence.0);
            (Finding::error(CHECK, found, fix), None)
        }
    }
}

fn is_localhost(domain: &str) -> bool {
    domain == "localhost" || domain.ends_with(".localhost")
}

/// Pages of sessions are other people's code: whatever shares a site with them shares its cookies.
fn cookies<'a>(domain: &str, hosts: impl Iterator<Item = &'a str>) -> Vec<Finding> {
    const CHECK: &str = "domain.cookies";
    let shared: Vec<_> = hosts.filter(|host| share_cookies(domain, host)).collect();
    if shared.is_empty() {
        return vec![Finding::ok(CHECK, format!("no name that was given shares cookies with {domain}"))];
    }
    let told = |host: &&str| {
        let found = format!(
            "{host} and the sessions below {domain} belong to one site: a page of a session can set and overwrite cookies there"
        );
        let fix = "Give sessions a registrable domain of their own (sessions.example.net beside app.example.com), ideally on \
                   the Public Suffix List.";
        Finding::error(CHECK, found, fix)
    };
    shared.iter().map(told).collect()
}

fn share_cookies(domain: &str, host: &str) -> bool {
    let (domain, host) = (domain.to_ascii_lowercase(), host.to_ascii_lowercase());
    // Addresses have no parents, and nobody is logged in at this machine.
    if host.parse::<IpAddr>().is_ok() || is_localhost(&host) {
        return false;
    }
    // On the list itself, no cookie can be set for the domain or above it.
    if psl::suffix_str(&domain).is_some_and(|suffix| suffix == domain)
        && psl::suffix(domain.as_bytes()).is_some_and(|suffix| suffix.is_known())
    {
        return false;
    }
    let site = |name: &str| psl::domain_str(name).unwrap_or(name).to_owned();
    site(&domain) == site(&host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_site_is_one_set_of_cookies() {
        for (domain, host) in [
            ("sessions.example.com", "app.example.com"),
            ("sessions.example.com", "example.com"),
            ("example.com", "api.example.com"),
            ("s.example.co.uk", "example.co.uk"),
            ("internal.lan", "api.internal.lan"),
        ] {
            assert!(share_cookies(domain, host), "{domain} and {host}");
        }
        for (domain, host) in [
            ("example.net", "app.example.com"),
            ("a.co.uk", "b.co.uk"),
            ("one.github.io", "two.github.io"),
            ("sessions.example.com", "10.0.0.1"),
            ("localhost", "localhost"),
        ] {
            assert!(!share_cookies(domain, host), "{domain} and {host}");
        }
    }
}
