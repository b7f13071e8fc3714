//! The real Terraform, where there is one, on a copy of what it is to read.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::reading;

/// Plugins for Terraform, as `terraform init -plugin-dir` takes them: without them nothing can be applied.
pub(super) const PLUGINS: &str = "BIVOUAC_TERRAFORM_PLUGINS";

/// Says past what the test harness catches what was not done, and why.
pub(super) fn left_out(what: &str, why: &str) {
    use std::io::Write;
    writeln!(std::io::stderr(), "skipped: terraform::{what}: {why}").expect("standard error");
}

/// The binary that `scripts/tools terraform` has found, else the one on PATH.
fn binary() -> Option<PathBuf> {
    let named = std::env::var_os("BIVOUAC_TERRAFORM").filter(|value| !value.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        || std::env::split_paths(&path).map(|folder| folder.join("terraform")).find(|file| file.is_file());
    named.or_else(found)
}

/// Terraform in one folder, with nothing of what the person has set for it.
pub(super) struct Terraform {
    binary: PathBuf,
    folder: PathBuf,
    settings: Vec<(String, String)>,
    /// The copy, which ends with this.
    _copy: Option<tempfile::TempDir>,
}

impl Terraform {
    /// In the repository itself. `None`: there is no Terraform.
    pub(super) fn here() -> Option<Self> {
        let folder = reading::root().join("terraform");
        Some(Self { binary: binary()?, folder, settings: Vec::new(), _copy: None })
    }

    /// In a copy of one example, beside copies of all that it refers to; initialised with the plugins. `Err`: why that
    /// cannot be done here.
    pub(super) fn of_example(name: &str, settings: Vec<(String, String)>) -> Result<Self, String> {
        let plugins =
            std::env::var(PLUGINS).map_err(|_| format!("{PLUGINS} names no folder with plugins"))?;
        let binary = binary().ok_or("there is no terraform")?;
        let copy = tempfile::tempdir().unwrap();
        for part in ["terraform", "jobspecs", "templates"] {
            copy_folder(&reading::root().join(part), &copy.path().join(part));
        }
        let folder = copy.path().join("terraform/examples").join(name);
        let terraform = Self { binary, folder, settings, _copy: Some(copy) };
        terraform.succeeds(&["init", &format!("-plugin-dir={plugins}")]);
        Ok(terraform)
    }

    /// Where it runs.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars() {
            if ["TF_", "NOMAD_", "CONSUL_"].iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        let own = [
            ("TF_CLI_CONFIG_FILE", "/dev/null"),
            ("TF_IN_AUTOMATION", "1"),
            ("TF_INPUT", "0"),
            ("CHECKPOINT_DISABLE", "1"),
        ];
        command.args(args).current_dir(&self.folder).envs(own).envs(self.settings.iter().cloned());
        command.output().expect("terraform runs")
    }

    /// Runs it, shows what it said if it failed, and returns its output.
    pub(super) fn succeeds(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "terraform {args:?}: {}\n{}\n{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (source, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if source.is_dir() {
            copy_folder(&source, &target);
        } else {
            std::fs::copy(&source, &target).unwrap();
        }
    }
}
