//! `[ports.<label>]`: which of its job's ports a template is about, and which of them is the session's own.

use std::collections::{BTreeMap, BTreeSet};

use bivouac_protocol::{InvalidId, PortLabel, Protocol};
use serde::Deserialize;
use toml::Spanned;

use super::{Located, fault, missing};
use crate::spec::environment::port_variable;
use crate::spec::template::Port;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPort {
    protocol: Option<RawProtocol>,
    ready_path: Option<Spanned<String>>,
    default: Option<Spanned<bool>>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum RawProtocol {
    Http,
    H2c,
}

/// The ports, and the label of the default one.
pub(super) fn ports(
    raw: BTreeMap<Spanned<String>, RawPort>,
) -> Result<(BTreeMap<PortLabel, Port>, PortLabel), Located> {
    // The order in which they stand in the file, which is that in which faults are found.
    let mut raw: Vec<_> = raw.into_iter().collect();
    raw.sort_by_key(|(label, _)| label.span().start);
    let default_port = default_port(&raw)?;
    let (mut ports, mut variables) = (BTreeMap::new(), BTreeSet::new());
    for (name, port) in raw {
        let label = label(&name)?;
        if !variables.insert(port_variable(&label)) {
            return fault(name.span(), "two ports differ in - and _ only: they would share one variable");
        }
        let protocol = match port.protocol {
            None | Some(RawProtocol::Http) => Protocol::Http,
            Some(RawProtocol::H2c) => Protocol::H2c,
        };
        ports.insert(label, Port { protocol, ready_path: port.ready_path.map(ready_path).transpose()? });
    }
    Ok((ports, default_port))
}

/// The only port, or the one that says so.
fn default_port(raw: &[(Spanned<String>, RawPort)]) -> Result<PortLabel, Located> {
    let said = |port: &RawPort| port.default.as_ref().map(|said| *said.get_ref());
    match raw {
        [] => missing("a port is missing: add [ports.<label>], with the label of a port of the job"),
        [(name, port)] => match &port.default {
            Some(said) if !said.get_ref() => fault(said.span(), "the only port is the default one"),
            _ => label(name),
        },
        [.., (last, _)] => {
            let mut chosen = raw.iter().filter(|(_, port)| said(port) == Some(true));
            match (chosen.next(), chosen.next()) {
                (Some((name, _)), None) => label(name),
                (Some(_), Some((second, _))) => fault(
                    second.span(),
                    "two ports say default = true: the session's own hostname leads to one of them",
                ),
                (None, _) => fault(
                    last.span(),
                    "one of several ports must say default = true: the session's own hostname leads there",
                ),
            }
        }
    }
}

fn label(name: &Spanned<String>) -> Result<PortLabel, Located> {
    name.get_ref().parse().or_else(|invalid: InvalidId| fault(name.span(), invalid.to_string()))
}

fn ready_path(path: Spanned<String>) -> Result<String, Located> {
    let valid = path.get_ref().starts_with('/')
        && path.get_ref().len() <= 1024
        && path.get_ref().bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if valid { Ok(path.into_inner()) } else { fault(path.span(), "must be a path that begins with /") }
}
