//! Which session, and which of its ports, a `Host` names: pure, and the only place that knows the form of a session's
//! hostname.

use std::borrow::Cow;

use bivouac_protocol::{PortLabel, SessionId};

/// Where a request wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Whose hostname it is.
    pub(crate) session: SessionId,
    /// The port that it names; `None`: the default one.
    pub(crate) port: Option<PortLabel>,
}

/// A `Host` that leads to no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostError {
    /// Not a hostname with an optional port.
    Malformed,
    /// A hostname, but not that of a session under our domain.
    Unknown,
}

/// The longest hostname that DNS can carry.
const MAX_NAME: usize = 253;
/// Between a port's label and the session's id. No label contains it, and none ends with half of it.
const SEPARATOR: &str = "--";

/// Reads `<session>.<domain>[:port]` and `<port-label>--<session>.<domain>[:port]`. The number behind the colon is not
/// compared: what stands in front of the proxy may listen elsewhere. `domain` is lower case and has no trailing dot.
pub(crate) fn target(host: &[u8], domain: &str) -> Result<Target, HostError> {
    let name = hostname(host)?;
    let suffix = name.len().checked_sub(domain.len()).ok_or(HostError::Unknown)?;
    let (label, rest) = name.split_at_checked(suffix).ok_or(HostError::Unknown)?;
    if !rest.eq_ignore_ascii_case(domain) {
        return Err(HostError::Unknown);
    }
    let label = label.strip_suffix('.').ok_or(HostError::Unknown)?;
    let label = match label.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned(label.to_ascii_lowercase()),
        false => Cow::Borrowed(label),
    };
    named(&label).ok_or(HostError::Unknown)
}

/// What one label names. Parsing refuses whatever is not exactly an id, or a port's label and an id: deeper labels, and
/// `xn--…` among them.
fn named(label: &str) -> Option<Target> {
    let (prefix, id) = label.split_at_checked(label.len().checked_sub(SessionId::LENGTH)?)?;
    let port = match prefix {
        "" => None,
        _ => Some(prefix.strip_suffix(SEPARATOR)?.parse().ok()?),
    };
    Some(Target { session: id.parse().ok()?, port })
}

/// The name without its port and without the root's dot, checked byte by byte.
fn hostname(host: &[u8]) -> Result<&str, HostError> {
    let host = str::from_utf8(host).map_err(|_| HostError::Malformed)?;
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    if port.is_some_and(|port| !is_port(port)) {
        // An IPv6 literal is well formed, but no session's name.
        return Err(if host.starts_with('[') { HostError::Unknown } else { HostError::Malformed });
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(allowed) {
        return Err(HostError::Malformed);
    }
    Ok(name)
}

fn is_port(port: &str) -> bool {
    port.is_empty()
        || (port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "abcdefghijklmnop2345";

    fn read(host: &str) -> Result<Target, HostError> {
        target(host.as_bytes(), "sessions.example.com")
    }

    fn to(port: Option<&str>) -> Target {
        Target { session: ID.parse().unwrap(), port: port.map(|port| port.parse().unwrap()) }
    }

    #[test]
    fn a_sessions_hostname_is_read_in_every_form_a_client_may_write_it() {
        for host in [
            format!("{ID}.sessions.example.com"),
            format!("{ID}.sessions.example.com:8443"),
            format!("{ID}.sessions.example.com."),
            format!("{ID}.sessions.example.com.:80"),
            format!("{ID}.sessions.example.com:"),
            format!("{ID}.Sessions.Example.COM").to_uppercase(),
        ] {
            assert_eq!(read(&host), Ok(to(None)), "{host}");
        }
    }

    #[test]
    fn a_further_port_stands_in_front_of_the_id() {
        for label in ["http", "a", "x1", "my-admin", "my_admin", &"p".repeat(40)] {
            let host = format!("{label}--{ID}.sessions.example.com:7080");
            assert_eq!(read(&host), Ok(to(Some(label))), "{host}");
            assert_eq!(read(&host.to_uppercase()), Ok(to(Some(label))), "{host}");
        }
    }

    #[test]
    fn other_names_are_unknown() {
        for host in [
            "sessions.example.com".to_owned(),
            ".sessions.example.com".to_owned(),
            format!("x.{ID}.sessions.example.com"),
            format!("http-{ID}.sessions.example.com"),
            format!("http{ID}.sessions.example.com"),
            format!("--{ID}.sessions.example.com"),
            format!("-a--{ID}.sessions.example.com"),
            format!("a---{ID}.sessions.example.com"),
            format!("a--b--{ID}.sessions.example.com"),
            format!("xn--{ID}.sessions.example.com"),
            format!("XN--{ID}.sessions.example.com"),
            format!("x.http--{ID}.sessions.example.com"),
            format!("http--x.{ID}.sessions.example.com"),
            format!("{}--{ID}.sessions.example.com", "p".repeat(41)),
            format!("http--{}.sessions.example.com", &ID[1..]),
            format!("{ID}--http.sessions.example.com"),
            format!("{ID}.evil.com"),
            format!("{ID}.sessions.example.com.evil.com"),
            format!("{ID}xsessions.example.com"),
            format!("{ID}..sessions.example.com"),
            "127.0.0.1:80".to_owned(),
            "[::1]:80".to_owned(),
        ] {
            assert_eq!(read(&host), Err(HostError::Unknown), "{host}");
        }
    }

    #[test]
    fn what_is_no_hostname_is_malformed() {
        for host in
            ["", ":80", "a b", "a/b", "user@a", "a:b", "a:80:80", "a:65536", "a:-1", "a,b", "a\0", "é"]
        {
            assert_eq!(read(host), Err(HostError::Malformed), "{host:?}");
        }
        assert_eq!(target(b"\xff\xfe", "localhost"), Err(HostError::Malformed));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(host in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = target(&host, "localhost");
        }

        #[test]
        fn a_label_is_read_as_exactly_what_it_is_made_of(label in "([a-zA-Z0-9_-]{0,12}--)?[a-zA-Z0-9._:-]{0,24}") {
            let host = format!("{label}.localhost");
            if let Ok(Target { session, port }) = target(host.as_bytes(), "localhost") {
                let port = port.map(|port| format!("{port}--")).unwrap_or_default();
                prop_assert_eq!(format!("{port}{session}"), label.to_ascii_lowercase());
            }
        }

        #[test]
        fn whatever_is_a_name_of_a_port_leads_to_it(label in "[a-z0-9]([a-z0-9_-]{0,10}[a-z0-9])?") {
            if let Ok(port) = label.parse::<PortLabel>() {
                let read = target(format!("{port}--{ID}.localhost").as_bytes(), "localhost");
                prop_assert_eq!(read, Ok(Target { session: ID.parse().unwrap(), port: Some(port) }));
            }
        }
    }
}
