//! What hops before us say of a request, in `X-Forwarded-*` or in `Forwarded`. Pure.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The way of a request up to the hop that has connected to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    /// Who asked whom, the client first; `None` for what is no address.
    pub(super) addresses: Vec<Option<IpAddr>>,
    /// Whether the client uses TLS, if that is said.
    pub(super) secure: Option<bool>,
    /// The host that the client asked for, if that is said.
    pub(super) host: Option<Vec<u8>>,
    /// For `X-Forwarded-For`.
    pub(super) forwarded_for: Vec<u8>,
    /// For `Forwarded`.
    pub(super) forwarded: Vec<u8>,
}

/// One element of `Forwarded`.
#[derive(Debug, Default)]
struct Element {
    node: Option<String>,
    secure: Option<bool>,
    host: Option<Vec<u8>>,
}

impl Chain {
    /// Reads one of the two dialects. A hop that writes `X-Forwarded-For` may hand on whatever a client has put into
    /// `Forwarded`: where there are both, only the former counts. `None`: nothing is said.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        if headers.contains_key(X_FORWARDED_FOR) {
            Self::of_x_forwarded(headers)
        } else {
            Self::of_forwarded(headers)
        }
    }

    fn of_x_forwarded(headers: &HeaderMap) -> Option<Self> {
        let forwarded_for = joined(headers, X_FORWARDED_FOR)?;
        let nodes: Vec<&str> = forwarded_for.split(',').map(str::trim).collect();
        let proto = joined(headers, "x-forwarded-proto");
        let secure = proto.and_then(|proto| scheme(proto.rsplit(',').next()?.trim()));
        let host = joined(headers, "x-forwarded-host").and_then(|host| usable_host(host.trim()));
        let addresses: Vec<_> = nodes.iter().map(|node| address(node)).collect();
        let elements = addresses.iter().enumerate().map(|(place, address)| {
            // Scheme and host are the client's, and the first element is about it.
            let first = place == 0;
            element(*address, secure.filter(|_| first), host.as_deref().filter(|_| first))
        });
        let forwarded = elements.collect::<Vec<_>>().join(", ").into_bytes();
        let forwarded_for = nodes.join(", ").into_bytes();
        Some(Self { addresses, secure, host, forwarded_for, forwarded })
    }

    fn of_forwarded(headers: &HeaderMap) -> Option<Self> {
        let forwarded = joined(headers, "forwarded")?;
        let elements: Vec<Element> = split(&forwarded, ',').into_iter().map(Element::read).collect();
        let addresses: Vec<_> =
            elements.iter().map(|element| element.node.as_deref().and_then(address)).collect();
        let nodes: Vec<String> = addresses
            .iter()
            .map(|address| address.map_or_else(|| "unknown".to_owned(), |address| address.to_string()))
            .collect();
        let client = elements.iter().find(|element| element.secure.is_some());
        Some(Self {
            secure: client.and_then(|client| client.secure),
            host: elements.iter().find_map(|element| element.host.clone()),
            forwarded_for: nodes.join(", ").into_bytes(),
            forwarded: forwarded.into_bytes(),
            addresses,
        })
    }
}

impl Element {
    fn read(text: &str) -> Self {
        let mut element = Self::default();
        for pair in split(text, ';') {
            let Some((name, value)) = pair.split_once('=') else { continue };
            let value = unquoted(value.trim());
            match name.trim().to_ascii_lowercase().as_str() {
                "for" => element.node = Some(value),
                "proto" => element.secure = scheme(&value),
                "host" => element.host = usable_host(&value),
                _ => {}
            }
        }
        element
    }
}

/// The lines of one field as one, if it is text.
fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines: Result<Vec<&str>, _> = headers.get_all(name).iter().map(|line| line.to_str()).collect();
    lines.ok().filter(|lines| !lines.is_empty()).map(|lines| lines.join(", "))
}

/// An address, with or without a port.
fn address(node: &str) -> Option<IpAddr> {
    let bare = node.strip_prefix('[').and_then(|node| node.strip_suffix(']')).unwrap_or(node);
    bare.parse().ok().or_else(|| node.parse().ok().map(|with_port: SocketAddr| with_port.ip()))
}

fn scheme(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "https" | "wss" => Some(true),
        "http" | "ws" => Some(false),
        _ => None,
    }
}

/// A host with which nobody can end a quoted string, or begin another field.
fn usable_host(host: &str) -> Option<Vec<u8>> {
    let usable = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
    ((1..=255).contains(&host.len()) && host.bytes().all(usable)).then(|| host.as_bytes().to_vec())
}

fn element(address: Option<IpAddr>, secure: Option<bool>, host: Option<&[u8]>) -> String {
    let mut text = match address {
        Some(IpAddr::V6(address)) => format!("for=\"[{address}]\""),
        Some(IpAddr::V4(address)) => format!("for={address}"),
        None => "for=unknown".to_owned(),
    };
    if let Some(host) = host {
        text.push_str(&format!(";host=\"{}\"", String::from_utf8_lossy(host)));
    }
    if let Some(secure) = secure {
        text.push_str(if secure { ";proto=https" } else { ";proto=http" });
    }
    text
}

/// Splits at a separator that stands outside of quotes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if character == separator && !quoted => {
                parts.push(text.get(begin..at).unwrap_or_default());
                begin = at + character.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text.get(begin..).unwrap_or_default());
    parts
}

/// The content of a quoted string, or the token itself.
fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut escaped = false;
    let kept = inner.chars().filter(|character| {
        escaped = !escaped && *character == '\\';
        !escaped
    });
    kept.collect()
}
