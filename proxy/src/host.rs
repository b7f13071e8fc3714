//! Which session a `Host` names: pure, and the only place that knows the form of a session's hostname.

use bivouac_protocol::SessionId;

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

/// Reads `<session>.<domain>[:port]`. The port is not compared: what stands in front of the proxy may listen elsewhere.
/// `domain` is lower case and has no trailing dot.
pub(crate) fn session(host: &[u8], domain: &str) -> Result<SessionId, HostError> {
    let name = hostname(host)?;
    let suffix = name.len().checked_sub(domain.len()).ok_or(HostError::Unknown)?;
    let (label, rest) = name.split_at_checked(suffix).ok_or(HostError::Unknown)?;
    if !rest.eq_ignore_ascii_case(domain) {
        return Err(HostError::Unknown);
    }
    let label = label.strip_suffix('.').ok_or(HostError::Unknown)?;
    // Parsing refuses whatever is not exactly an id: deeper labels, and the prefixes of further ports.
    if label.bytes().any(|b| b.is_ascii_uppercase()) {
        return label.to_ascii_lowercase().parse().map_err(|_| HostError::Unknown);
    }
    label.parse().map_err(|_| HostError::Unknown)
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

    fn read(host: &str) -> Result<SessionId, HostError> {
        session(host.as_bytes(), "sessions.example.com")
    }

    #[test]
    fn a_sessions_hostname_is_read_in_every_form_a_client_may_write_it() {
        let id: SessionId = ID.parse().unwrap();
        for host in [
            format!("{ID}.sessions.example.com"),
            format!("{ID}.sessions.example.com:8443"),
            format!("{ID}.sessions.example.com."),
            format!("{ID}.sessions.example.com.:80"),
            format!("{ID}.sessions.example.com:"),
            format!("{ID}.Sessions.Example.COM").to_uppercase(),
        ] {
            assert_eq!(read(&host), Ok(id.clone()), "{host}");
        }
    }

    #[test]
    fn other_names_are_unknown() {
        for host in [
            "sessions.example.com".to_owned(),
            ".sessions.example.com".to_owned(),
            format!("x.{ID}.sessions.example.com"),
            format!("http--{ID}.sessions.example.com"),
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
        assert_eq!(session(b"\xff\xfe", "localhost"), Err(HostError::Malformed));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(host in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = session(&host, "localhost");
        }

        #[test]
        fn only_the_very_label_of_an_id_is_accepted(label in "[a-zA-Z0-9._:-]{0,40}") {
            let host = format!("{label}.localhost");
            if let Ok(id) = session(host.as_bytes(), "localhost") {
                prop_assert_eq!(id.as_str(), label.to_ascii_lowercase());
            }
        }
    }
}
