//! Callers' text in a Nomad job: two engines interpolate strings on the client, and neither may find anything in it.
//!
//! - *Env and Meta* (also services, and most other fields): one pass of a regular expression replaces `${name}` where the
//!   name is known; there is no escape. A `$` that comes out of a replacement is not looked at again, so a `$` in front
//!   of a `{` is written as a reference to Meta that holds one.
//! - *Driver config* (arguments, image): every string is an HCL template, with functions. Its own escapes are ambiguous
//!   after another `$` or `%`, so both characters are written as references, wherever they stand.

use super::meta;

/// Text as a value of Env or Meta that arrives as this text.
///
/// In Meta, other Meta is filled in in no particular order: there such a value arrives either as the text or still
/// escaped, and never interpolated. Env is filled in after all of Meta and always exact.
pub(crate) fn env_text(text: &str) -> String {
    text.replace("${", &format!("${{NOMAD_META_{}}}{{", meta::DOLLAR))
}

/// Text as a string of a driver's config that arrives as this text.
pub(crate) fn config_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '$' => escaped.push_str(&format!("${{NOMAD_META_{}}}", meta::DOLLAR)),
            '%' => escaped.push_str(&format!("${{NOMAD_META_{}}}", meta::PERCENT)),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
pub(crate) mod engines {
    //! Small models of Nomad's two engines.

    use std::collections::BTreeMap;

    /// The regular expression of Env and Meta.
    pub(crate) fn env(text: &str, known: &BTreeMap<String, String>) -> String {
        let name = regex::Regex::new(r"\$\{[a-zA-Z0-9_\-.]+\}").unwrap();
        name.replace_all(text, |found: &regex::Captures<'_>| {
            let reference = &found[0];
            known.get(&reference[2..reference.len() - 1]).cloned().unwrap_or_else(|| reference.to_owned())
        })
        .into_owned()
    }

    /// HCL's templates, as far as a scanner has to know them: `Err` where a marker holds anything but a known name.
    pub(crate) fn config(text: &str, known: &BTreeMap<String, String>) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if rest.starts_with("$${") || rest.starts_with("%%{") {
                return Err("an escape of HCL's own: ambiguous after another marker".to_owned());
            } else if rest.starts_with("%{") {
                return Err("a directive".to_owned());
            } else if let Some(inner) = rest.strip_prefix("${") {
                let (name, after) = inner.split_once('}').ok_or("an open marker")?;
                out.push_str(known.get(name).ok_or_else(|| format!("unknown variable {name:?}"))?);
                rest = after;
            } else {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn known() -> BTreeMap<String, String> {
        [
            ("NOMAD_META_bivouac_dollar", "$"),
            ("NOMAD_META_bivouac_percent", "%"),
            ("attr.cpu.arch", "LEAKED"),
            ("x", "LEAKED"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    fn check(text: &str) -> Result<(), TestCaseError> {
        prop_assert_eq!(engines::env(&env_text(text), &known()), text);
        prop_assert_eq!(engines::config(&config_text(text), &known()), Ok(text.to_owned()));
        Ok(())
    }

    #[test]
    fn text_made_to_be_interpolated_arrives_as_it_is() {
        for text in [
            "$",
            "$$",
            "%",
            "${",
            "${x}",
            "$${x}",
            "$$${x}",
            "${${x}}",
            "%{if true}a%{endif}",
            "%%{x}",
            "$%{x}",
            "%${x}",
            "${attr.cpu.arch}",
            "${NOMAD_META_bivouac_dollar}",
            "${NOMAD_META_bivouac_dollar}{x}",
            "${file(\"/etc/passwd\")}",
            "a\n${x}\r\n",
            "é${x}",
            "{x}",
            "$ {x}",
            "${\"${x}\"}",
            "",
        ] {
            check(text).unwrap();
        }
    }

    proptest! {
        #[test]
        fn any_text_arrives_as_it_is(text in "([$%{}x. ]|\\$\\{x\\}|.){0,40}") {
            check(&text)?;
        }
    }
}
