//! Which Nomad and Consul the tests run: those that `scripts/tools` found or built.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A version, as far as it is compared.
type Version = (u32, u32, u32);

/// One of the two.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tool {
    name: &'static str,
    variable: &'static str,
    oldest: Version,
}

/// Nomad.
pub(super) const NOMAD: Tool = Tool { name: "nomad", variable: "BIVOUAC_NOMAD", oldest: (1, 8, 0) };
/// Consul.
pub(super) const CONSUL: Tool = Tool { name: "consul", variable: "BIVOUAC_CONSUL", oldest: (1, 16, 0) };

impl Tool {
    /// Its binary: named by the environment, else new enough on PATH, else in the folder of built tools.
    pub(super) fn find(self) -> Result<PathBuf> {
        if let Some(named) = std::env::var_os(self.variable).map(PathBuf::from) {
            version(&named).with_context(|| format!("{} names {}", self.variable, named.display()))?;
            return Ok(named);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut candidates =
            std::env::split_paths(&path).map(|folder| folder.join(self.name)).collect::<Vec<_>>();
        candidates.extend(self.built());
        let usable = |candidate: &PathBuf| version(candidate).is_ok_and(|version| version >= self.oldest);
        candidates.into_iter().find(usable).with_context(|| {
            let (major, minor, _) = self.oldest;
            format!("no {} of version {major}.{minor} or newer: run scripts/tools, or `make test`", self.name)
        })
    }

    /// What `scripts/tools` has built.
    fn built(self) -> Vec<PathBuf> {
        let Some(folder) = tools_folder() else { return Vec::new() };
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let prefix = format!("{}-", self.name);
        entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .map(|entry| entry.path().join(self.name))
            .collect()
    }
}

fn tools_folder() -> Option<PathBuf> {
    let named =
        |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")));
    named("BIVOUAC_TOOLS").or_else(|| Some(cache()?.join("bivouac").join("tools")))
}

/// What the binary says of itself.
fn version(binary: &Path) -> Result<Version> {
    if !binary.is_file() {
        bail!("there is no such file");
    }
    let output = Command::new(binary).arg("version").output().context("it does not run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).with_context(|| format!("its version is not understood: {:?}", text.lines().next()))
}

/// "Nomad v1.11.3", "Consul v1.16.0+ent", "Nomad v1.9.0-dev".
fn parse(text: &str) -> Option<Version> {
    let word = text.split_whitespace().nth(1)?.trim_start_matches('v');
    let mut numbers = word.split(['.', '-', '+']).map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some((next()?, next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(parse("Nomad v1.11.3\nBuildDate …"), Some((1, 11, 3)));
        assert_eq!(parse("Consul v1.16.0+ent\n"), Some((1, 16, 0)));
        assert_eq!(parse("Nomad v2.0.0-beta.1"), Some((2, 0, 0)));
        assert_eq!(parse("command not found"), None);
    }
}
