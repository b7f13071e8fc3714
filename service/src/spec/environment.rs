//! Names of environment variables: which a caller may choose, and which belong to the platform.

use std::collections::BTreeMap;

use bivouac_protocol::{PortLabel, Record, SessionId};

use super::template::Template;

/// What a backend finds in its environment, `PORT` and the operator's own variables aside: the text as it is, escaped
/// for nobody. Where the operator sets one of these names too, the operator's value holds, except for `BIVOUAC_*`.
#[must_use]
pub fn of(template: &Template, session: &SessionId, record: &Record, url: &str) -> BTreeMap<String, String> {
    let mut env = record.request.env.clone();
    env.extend(
        template.values(&record.request).into_iter().map(|(name, value)| (name.to_ascii_uppercase(), value)),
    );
    let ours = [
        ("BIVOUAC_SESSION_ID", session.to_string()),
        ("BIVOUAC_NAMESPACE", record.namespace.to_string()),
        ("BIVOUAC_GENERATION", record.generation.to_string()),
        ("BIVOUAC_URL", url.to_owned()),
    ];
    env.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    if let Some(key) = &record.key {
        env.insert("BIVOUAC_KEY".to_owned(), key.to_string());
    }
    env
}

/// The variable in which a backend finds the port with this label. The default one is in `PORT`, too.
#[must_use]
pub fn port_variable(label: &PortLabel) -> String {
    format!("PORT_{}", label.as_str().to_ascii_uppercase().replace('-', "_"))
}

/// Why a name cannot be used for an environment variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Not the form of a variable's name.
    #[error("must be 1 to 64 of A-Z, a-z, 0-9 and _, and not begin with a digit")]
    Form,
    /// The platform, the shell or the loader gives it a meaning.
    #[error(
        "is reserved: PORT, PATH, HOME and names that begin with PORT_, BIVOUAC_, NOMAD_, CONSUL_, VAULT_ or LD_ are not free"
    )]
    Reserved,
}

const NAMES: [&str; 3] = ["PORT", "PATH", "HOME"];
const PREFIXES: [&str; 6] = ["PORT_", "BIVOUAC_", "NOMAD_", "CONSUL_", "VAULT_", "LD_"];

/// Checks a name that somebody other than us chose. Case does not matter: a parameter `path` becomes `PATH`.
pub fn check(name: &str) -> Result<(), InvalidName> {
    if !has_form(name) {
        return Err(InvalidName::Form);
    }
    if is_reserved(name) { Err(InvalidName::Reserved) } else { Ok(()) }
}

/// Whether the text can be a variable's name at all. An operator's own environment may use reserved ones (`PATH`).
pub fn has_form(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn is_reserved(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    NAMES.contains(&upper.as_str()) || PREFIXES.iter().any(|prefix| upper.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_platform_uses_is_reserved_in_any_case() {
        for name in [
            "PORT",
            "port",
            "port_x",
            "Path",
            "NOMAD_TOKEN",
            "nomad_meta_x",
            "bivouac_key",
            "LD_PRELOAD",
            "HOME",
        ] {
            assert_eq!(check(name), Err(InvalidName::Reserved), "{name}");
        }
    }

    #[test]
    fn only_plain_names_pass() {
        for name in ["", "1A", "A-B", "A B", "A=B", "Ä", "A\0", "${X}"] {
            assert_eq!(check(name), Err(InvalidName::Form), "{name}");
        }
        for name in ["DOC", "doc", "_x", "PORTS", "MY_PORT", "X1"] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }
}
