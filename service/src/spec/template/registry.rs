//! All templates of an installation, loaded at the start; [`super::reload`] takes in what changes afterwards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use bivouac_protocol::TemplateName;
use parking_lot::RwLock;
use sha2::{Digest, Sha256};

use super::file::{self, Fault};
use super::{Mode, NomadTemplate, Template};

/// The templates, by name.
#[derive(Debug, Default)]
pub struct Templates {
    known: RwLock<Known>,
    /// Where they came from, if that is a folder.
    pub(super) origin: Option<Origin>,
}

/// What is known of the templates at one time.
#[derive(Debug, Default)]
struct Known {
    by_name: BTreeMap<TemplateName, Arc<Template>>,
    /// What a template was before its last change, for the starts that were under way.
    earlier: BTreeMap<TemplateName, Arc<Template>>,
    /// Changes in the folder that were not taken, by the folder's name, and why.
    rejected: BTreeMap<String, String>,
}

/// A folder of templates, and how it is to be read.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    dir: PathBuf,
    vars: Vec<TemplateVar>,
    mode: Mode,
}

/// A template that keeps the service from starting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {message}", position.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default())]
pub struct LoadError {
    /// Which file.
    pub file: String,
    /// Line and column, from 1.
    pub position: Option<(usize, usize)>,
    /// What is wrong, and what to do.
    pub message: String,
}

/// A value for a variable of a template's job, given on the command line: `NAME.VAR=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateVar {
    /// Which template.
    pub template: TemplateName,
    /// Which HCL2 variable of its job.
    pub variable: String,
    /// Its value, as text.
    pub value: String,
}

impl FromStr for TemplateVar {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "must have the form TEMPLATE.VARIABLE=VALUE";
        let (name, value) = text.split_once('=').ok_or(FORM)?;
        let (template, variable) = name.split_once('.').ok_or(FORM)?;
        if !is_variable_name(variable) {
            return Err(format!("{FORM}; {variable:?} is not the name of an HCL variable"));
        }
        let template = template.parse().map_err(|error| format!("{FORM}; {error}"))?;
        Ok(Self { template, variable: variable.to_owned(), value: value.to_owned() })
    }
}

impl Templates {
    /// Loads every template of a folder: one sub-folder each, with a `template.toml` in it. `vars` take precedence over
    /// the templates' own values. A fault in any template fails the load.
    pub fn load(dir: &Path, vars: &[TemplateVar], mode: Mode) -> Result<Self, LoadError> {
        let origin = Origin { dir: dir.to_owned(), vars: vars.to_vec(), mode };
        let mut templates = Self { origin: Some(origin.clone()), ..Self::default() };
        for folder in folders(dir)? {
            match origin.read(&folder) {
                Some(template) => templates.insert(template?),
                None => {
                    tracing::warn!(folder = %folder.display(), "A folder among the templates holds no template.toml and is left out.");
                }
            }
        }
        match vars.iter().find(|var| templates.get(&var.template).is_none()) {
            Some(var) => Err(LoadError {
                file: dir.display().to_string(),
                position: None,
                message: format!("there is no template {:?} to set a variable of", var.template.as_str()),
            }),
            None => Ok(templates),
        }
    }

    /// Makes a template of text that is part of the program. `jobspec` is the text of the file that `[nomad]` names.
    pub fn from_embedded(
        name: &str,
        toml: &str,
        jobspec: Option<&str>,
        vars: &[TemplateVar],
        mode: Mode,
    ) -> Result<Template, LoadError> {
        let source = Source { name, toml, file: format!("{name}/{FILE}") };
        source.build(vars, mode, |file| {
            jobspec.map(str::to_owned).ok_or_else(|| format!("the program holds no file {file:?}"))
        })
    }

    /// Adds a template; one of the same name is replaced.
    pub fn insert(&mut self, template: Template) {
        self.known.get_mut().by_name.insert(template.name.clone(), Arc::new(template));
    }

    /// The template of this name as it is now, usable or not.
    #[must_use]
    pub fn get(&self, name: &TemplateName) -> Option<Arc<Template>> {
        self.known.read().by_name.get(name).cloned()
    }

    /// The template of this name as it was when something was decided by it, if that is still known, else as it is now.
    #[must_use]
    pub fn as_of(&self, name: &TemplateName, hash: &str) -> Option<Arc<Template>> {
        let known = self.known.read();
        let now = known.by_name.get(name)?;
        let earlier = known.earlier.get(name).filter(|earlier| now.hash != hash && earlier.hash == hash);
        Some(Arc::clone(earlier.unwrap_or(now)))
    }

    /// All of them as they are now, by name.
    pub fn iter(&self) -> impl Iterator<Item = Arc<Template>> + use<> {
        self.known.read().by_name.values().cloned().collect::<Vec<_>>().into_iter()
    }

    /// Changes in the templates' folder that were not taken, by the name of the template's folder, and why.
    #[must_use]
    pub fn rejected(&self) -> BTreeMap<String, String> {
        self.known.read().rejected.clone()
    }

    /// From now on it is this one; what it replaces stays known to the starts under way.
    pub(super) fn replace(&self, template: Template) {
        let mut known = self.known.write();
        known.rejected.remove(template.name.as_str());
        let name = template.name.clone();
        if let Some(earlier) = known.by_name.insert(name.clone(), Arc::new(template)) {
            known.earlier.insert(name, earlier);
        }
    }

    /// `true` if there was one.
    pub(super) fn remove(&self, name: &TemplateName) -> bool {
        let mut known = self.known.write();
        let earlier = known.by_name.remove(name);
        earlier.is_some_and(|earlier| {
            known.earlier.insert(name.clone(), earlier);
            true
        })
    }

    /// Notes why what is in this folder is not in force. `true` if that is news.
    pub(super) fn reject(&self, folder: &str, why: &str) -> bool {
        self.known.write().rejected.insert(folder.to_owned(), why.to_owned()).as_deref() != Some(why)
    }

    /// What is in this folder is in force, or gone.
    pub(super) fn settle(&self, folder: &str) {
        self.known.write().rejected.remove(folder);
    }
}

impl Origin {
    /// The template in a folder, or `None` if there is none.
    fn read(&self, folder: &Path) -> Option<Result<Template, LoadError>> {
        let file = folder.join(FILE);
        file.exists().then(|| load_one(folder, &file, &self.vars, self.mode))
    }

    /// Every template of the folder, by the name of its own folder.
    pub(super) fn read_all(&self) -> Result<BTreeMap<String, Result<Template, LoadError>>, LoadError> {
        let templates = folders(&self.dir)?.into_iter().filter_map(|folder| {
            let name = folder.file_name()?.to_string_lossy().into_owned();
            Some((name, self.read(&folder)?))
        });
        Ok(templates.collect())
    }
}

const FILE: &str = "template.toml";

fn folders(dir: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let unreadable = |error: std::io::Error| LoadError {
        file: dir.display().to_string(),
        position: None,
        message: format!("the templates' folder cannot be read: {error}"),
    };
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !hidden {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

fn load_one(folder: &Path, file: &Path, vars: &[TemplateVar], mode: Mode) -> Result<Template, LoadError> {
    let display = file.display().to_string();
    let toml = std::fs::read_to_string(file).map_err(|error| LoadError {
        file: display.clone(),
        position: None,
        message: format!("cannot be read: {error}"),
    })?;
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Source { name: &name, toml: &toml, file: display }.build(vars, mode, |jobspec| {
        let path = folder.join(jobspec);
        std::fs::read_to_string(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
    })
}

/// A template's text, wherever it came from.
struct Source<'a> {
    name: &'a str,
    toml: &'a str,
    file: String,
}

impl Source<'_> {
    fn build(
        self,
        vars: &[TemplateVar],
        mode: Mode,
        read: impl FnOnce(&str) -> Result<String, String>,
    ) -> Result<Template, LoadError> {
        let fault = |fault: Fault| LoadError {
            file: self.file.clone(),
            position: fault.position,
            message: fault.message,
        };
        let name = file::name(self.name).map_err(fault)?;
        let parsed = file::parse(self.toml).map_err(fault)?;
        let nomad = match parsed.nomad {
            None => None,
            Some(section) => {
                let jobspec =
                    read(&section.jobspec).map_err(|message| fault(Fault { message, position: None }))?;
                let mut variables = section.variables;
                for var in vars.iter().filter(|var| var.template == name) {
                    variables.insert(var.variable.clone(), var.value.clone());
                }
                Some(NomadTemplate::new(section.jobspec, jobspec, variables, section.overlap_after))
            }
        };
        Ok(Template {
            hash: hash(self.toml, nomad.as_ref()),
            name,
            description: parsed.description,
            allow: parsed.allow,
            bounds: parsed.bounds,
            wake: parsed.wake,
            params: parsed.params,
            rules: parsed.rules,
            ports: parsed.ports,
            default_port: parsed.default_port,
            process: parsed.process,
            nomad,
            mode,
        })
    }
}

fn hash(toml: &str, nomad: Option<&NomadTemplate>) -> String {
    let mut digest = Sha256::new();
    let mut parts = vec![toml];
    if let Some(nomad) = nomad {
        parts.push(&nomad.jobspec);
        parts.extend(nomad.variables.iter().flat_map(|(name, value)| [name.as_str(), value]));
    }
    for part in parts {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn is_variable_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}
